"""What a program that uses smtplib and imaplib does with a mailbox.

It takes the settings as JSON from stdin and prints what it saw as JSON. Each step must be
answered as the RFCs say, or it ends with a traceback; what the steps did is looked at by
the test, from outside.
"""

import email
import email.policy
import hashlib
import imaplib
import json
import smtplib
import ssl
import sys
import time
from email.message import EmailMessage

imaplib._MAXLINE = 100_000_000
settings = json.load(sys.stdin)
alice, bob = settings["alice"], settings["bob"]
seen = {}


def connect(person, tls=False):
    host, port = person["imap"].split(":")
    m = imaplib.IMAP4(host, int(port), timeout=60)
    if tls:
        m.starttls(ssl.create_default_context(cafile=person["certificate"]))
    m.login(person["user"], person["password"])
    return m


def ok(answer):
    kind, data = answer
    assert kind == "OK", answer
    return data


def send(message):
    host, port = alice["smtp"].split(":")
    with smtplib.SMTP(host, int(port), timeout=60) as s:
        s.starttls(context=ssl.create_default_context(cafile=alice["certificate"]))
        s.login(alice["user"], alice["password"])
        refused = s.send_message(message, alice["address"], [bob["address"]])
        assert refused == {}, refused


def letter(subject, text):
    m = EmailMessage()
    m["From"], m["To"], m["Subject"] = alice["address"], bob["address"], subject
    m.set_content(text)
    return m


def find(m, *key):
    return ok(m.uid("SEARCH", *key))[0].split()


def wait(m, *key):
    end = time.monotonic() + 60
    while time.monotonic() < end:
        ok(m.noop())
        if found := find(m, *key):
            return found[0].decode()
    raise TimeoutError(key)


def search_text(m, words):
    m.literal = words.encode()
    return ok(m.uid("SEARCH", "CHARSET", "UTF-8", "TEXT"))[0].split()


def receive(m):
    """Send mails, and find them by what stands in them."""
    send(letter("python text", "The ferry leaves at noon.\n"))
    send(letter("python grüße", "Viele Grüße aus Zürich, 東京 auch.\n"))
    one = wait(m, "SUBJECT", '"python text"')
    m.literal = "python grüße".encode()
    while not (two := ok(m.uid("SEARCH", "CHARSET", "UTF-8", "SUBJECT"))[0].split()):
        ok(m.noop())
        m.literal = "python grüße".encode()
    two = two[0].decode()
    seen["full text"] = [u.decode() for u in search_text(m, "leaves at noon")]
    seen["utf-8"] = [u.decode() for u in search_text(m, "Grüße aus Zürich")]
    seen["cjk"] = [u.decode() for u in search_text(m, "東京")]
    seen["nothing"] = [u.decode() for u in search_text(m, "leaves at midnight")]
    seen["one"], seen["two"] = one, two
    text = email.message_from_bytes(ok(m.uid("FETCH", two, "(BODY.PEEK[])"))[0][1], policy=email.policy.default)
    assert text["Subject"] == "python grüße", text["Subject"]
    seen["text"] = text.get_content().replace("\r\n", "\n")


def flags(m):
    """Flags and keywords, stored and searched."""
    one = seen["one"]
    ok(m.uid("STORE", one, "+FLAGS", r"(\Seen \Flagged)"))
    ok(m.uid("STORE", one, "+FLAGS.SILENT", "($Forwarded holiday gone)"))
    ok(m.uid("STORE", one, "-FLAGS", "(gone)"))
    seen["flagged"] = [u.decode() for u in find(m, "FLAGGED", "KEYWORD", "holiday", "UNKEYWORD", "gone")]


def file(m):
    """Copy, move, append, delete, expunge."""
    ok(m.create("python"))
    ok(m.create("python/moved"))
    ok(m.uid("COPY", seen["one"], "python"))
    ok(m.uid("COPY", seen["two"], "python"))
    ok(m.uid("MOVE", seen["two"], "python/moved"))
    letters = letter("python appended", "I wrote this myself.\n").as_bytes(policy=email.policy.SMTP)
    ok(m.append("python", r"(\Seen \Draft)", imaplib.Time2Internaldate(1700000000), letters))
    seen["appended"] = hashlib.sha256(letters.split(b"\r\n\r\n", 1)[1]).hexdigest()
    ok(m.select("python"))
    for n in range(3):
        ok(m.append("python", None, None, letter(f"python doomed {n}", "x\n").as_bytes(policy=email.policy.SMTP)))
    ok(m.noop())
    doomed = find(m, "SUBJECT", '"python doomed"')
    assert len(doomed) == 3, doomed
    ok(m.uid("STORE", b",".join(doomed[:2]).decode(), "+FLAGS", r"(\Deleted)"))
    ok(m.uid("EXPUNGE", doomed[0].decode()))
    assert find(m, "SUBJECT", '"python doomed"') == doomed[1:]
    ok(m.expunge())
    assert find(m, "SUBJECT", '"python doomed"') == doomed[2:]
    ok(m.close())


def idle(m):
    """New mail shows while the program waits."""
    ok(m.select("INBOX"))
    tag = m._new_tag()
    m.send(tag + b" IDLE\r\n")
    line = m.readline()
    assert line.startswith(b"+"), line
    began = time.monotonic()
    send(letter("python idle", "Wake up.\n"))
    while b"EXISTS" not in (line := m.readline()):
        assert line, "the connection ended"
    seen["idle"] = time.monotonic() - began
    m.send(b"DONE\r\n")
    while not (line := m.readline()).startswith(tag):
        assert line, "the connection ended"
    assert b"OK" in line, line


def large(m):
    """An attachment of 20 MiB."""
    message = letter("python large", "See the attachment.\n")
    with open(settings["attachment"], "rb") as f:
        message.add_attachment(f.read(), maintype="application", subtype="octet-stream", filename="large.bin")
    send(message)
    uid = wait(m, "SUBJECT", '"python large"')
    raw = ok(m.uid("FETCH", uid, "(BODY.PEEK[])"))[0][1]
    part = next(email.message_from_bytes(raw, policy=email.policy.default).iter_attachments())
    assert part.get_filename() == "large.bin", part.get_filename()
    seen["attachment"] = hashlib.sha256(part.get_content()).hexdigest()
    by_part = ok(m.uid("FETCH", uid, "(BODYSTRUCTURE BODY.PEEK[2])"))[0][1]
    import base64
    seen["part"] = hashlib.sha256(base64.b64decode(by_part)).hexdigest()


m = connect(bob, tls=True)
ok(m.select("INBOX"))
for step in (receive, flags, file, idle, large):
    step(m)
m.logout()
json.dump(seen, sys.stdout)
