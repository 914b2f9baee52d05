"""Sends mails over one connection until all are sent or it breaks.

It takes the settings as JSON from stdin: the mails are those of settings["numbers"]. It
prints a line of JSON for each that was answered with 250.
"""

import json
import random
import smtplib
import sys

settings = json.load(sys.stdin)
alice, bob = settings["alice"], settings["bob"]
host, port = alice["smtp"].split(":")
try:
    s = smtplib.SMTP(host, int(port), timeout=60)
    s.login(alice["user"], alice["password"])
    for n in settings["numbers"]:
        # The same text whenever a mail is sent again.
        text = random.Random(n).randbytes(50_000).hex()
        lines = "\r\n".join(text[i:i + 76] for i in range(0, len(text), 76))
        head = f"From: {alice['address']}\r\nTo: {bob['address']}\r\nSubject: {settings['prefix']} {n}\r\n\r\n"
        assert s.mail(alice["address"])[0] == 250
        assert s.rcpt(bob["address"])[0] == 250
        code, answer = s.data((head + lines + "\r\n").encode())
        assert code == 250, answer
        print(json.dumps({"number": n, "answer": answer.decode()}), flush=True)
    s.quit()
except (smtplib.SMTPServerDisconnected, ConnectionError) as e:
    print(f"the connection broke: {e}", file=sys.stderr)
