"""Files mails in a folder while another program does the same.

It takes the settings as JSON from stdin. Of the mails that it appends every third is
flagged and every fifth is deleted.
"""

import imaplib
import json
import sys

settings = json.load(sys.stdin)
bob, folder = settings["bob"], settings["folder"]


def ok(answer):
    kind, data = answer
    assert kind == "OK", answer
    return data


def connect():
    host, port = bob["imap"].split(":")
    m = imaplib.IMAP4(host, int(port), timeout=60)
    m.login(bob["user"], bob["password"])
    ok(m.select(folder))
    return m


# Two connections, as mail programs have them: what the one does the other sees.
writer, marker = connect(), connect()
for n in range(settings["count"]):
    text = f"Subject: {settings['prefix']} {n}\r\n\r\nMail {n}.\r\n"
    ok(writer.append(folder, None, None, text.encode()))
    ok(marker.noop())
    found = ok(marker.uid("SEARCH", "SUBJECT", f'"{settings["prefix"]} {n}"'))[0].split()
    uid = max(found, key=int).decode()  # 1 is found in 12 as well
    if n % 3 == 0:
        ok(marker.uid("STORE", uid, "+FLAGS", r"(\Flagged)"))
    if n % 5 == 0:
        ok(marker.uid("STORE", uid, "+FLAGS.SILENT", r"(\Deleted)"))
        ok(marker.uid("EXPUNGE", uid))
writer.logout()
marker.logout()
