package bridge

import (
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/asmtp/asmtp/internal/port"
)

// TLSMode is how mail programs encrypt the way to the bridge.
type TLSMode string

// The modes. With StartTLS a program may also go without on this machine.
const (
	TLSOff   TLSMode = "off"
	StartTLS TLSMode = "starttls"
	TLS      TLSMode = "implicit"
)

// Setup is what a mail program has to know.
type Setup struct {
	Name        string // the user's own
	User        string // for the login
	Address     string
	IMAP, SMTP  string // HOST:PORT
	TLS         TLSMode
	Certificate string // its file; empty with TLSOff
	Fingerprint string
}

// Programs are the mail programs for which [Setup.Write] has settings, by the names that
// it takes.
func Programs() []string {
	var names []string
	for _, p := range setups {
		names = append(names, p.name)
	}
	return names
}

// Text returns the settings for a program, ready to paste.
func (s Setup) Text(program string) (string, error) {
	v := setupValues{Setup: s}
	v.imapHost, v.imapPort = split(s.IMAP)
	v.smtpHost, v.smtpPort = split(s.SMTP)
	for _, p := range setups {
		if p.name == program {
			return p.title + "\n" + strings.Repeat("-", len(p.title)) + "\n" + v.fill(p.text), nil
		}
	}
	return "", fmt.Errorf("no settings for %q", program)
}

// split takes an address apart. Where the bridge listens on all addresses, a program on
// this machine uses the one of loopback.
func split(address string) (host, port string) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return address, ""
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return host, port
}

type setupValues struct {
	Setup
	imapHost, imapPort, smtpHost, smtpPort string
}

// plain reports whether the settings do without TLS: on this machine it protects nothing,
// and a program has to be taught to trust the certificate.
func (v *setupValues) plain() bool {
	return v.TLS == TLSOff || v.TLS == StartTLS && port.IsLoopback(v.imapHost) && port.IsLoopback(v.smtpHost)
}

// fill puts the values into a text. A line that begins with "plain|", "tls|", "implicit|"
// or "starttls|" is for that way only. (text/template would keep the linker from leaving
// out what the program does not use.)
func (v *setupValues) fill(text string) string {
	mode := map[string]bool{"plain": v.plain(), "tls": !v.plain(), "implicit": v.TLS == TLS, "starttls": !v.plain() && v.TLS == StartTLS}
	security, s := "STARTTLS", ""
	switch {
	case v.plain():
		security = "None"
	case v.TLS == TLS:
		security, s = "SSL/TLS", "s"
	}
	values := strings.NewReplacer("{name}", v.Name, "{user}", v.User, "{user-url}", url.User(v.User).String(), "{address}", v.Address,
		"{imap-host}", v.imapHost, "{imap-port}", v.imapPort, "{smtp-host}", v.smtpHost, "{smtp-port}", v.smtpPort,
		"{security}", security, "{s}", s, "{certificate}", v.Certificate, "{fingerprint}", v.Fingerprint)
	var b strings.Builder
	for line := range strings.Lines(strings.TrimLeft(text, "\n")) {
		if way, rest, ok := strings.Cut(line, "|"); ok {
			if on, known := mode[way]; known && !on {
				continue
			} else if known {
				line = rest
			}
		}
		b.WriteString(values.Replace(line))
	}
	return b.String()
}

var setups = []struct{ name, title, text string }{
	{"thunderbird", "Thunderbird", setupThunderbird},
	{"apple-mail", "Apple Mail", setupAppleMail},
	{"k9", "K-9 Mail or Thunderbird for Android, over a tunnel", setupK9},
	{"neomutt", "neomutt (~/.config/neomutt/neomuttrc)", setupNeomutt},
	{"mbsync", "mbsync and msmtp (~/.mbsyncrc, ~/.msmtprc; chmod 600 both)", setupMbsync},
}

const setupThunderbird = `
Account Settings > Account Actions > Add Mail Account, then "Configure manually":

  Your name            {name}
  Email address        {address}
  Password             (from: asmtp-cli bridge password thunderbird)

  Incoming protocol    IMAP
  Hostname             {imap-host}
  Port                 {imap-port}
  Connection security  {security}
  Authentication       Normal password
  Username             {user}

  Outgoing hostname    {smtp-host}
  Port                 {smtp-port}
  Connection security  {security}
  Authentication       Normal password
  Username             {user}

Click "Advanced config" instead of "Done" if Thunderbird insists on probing.
tls|At the first connection it shows a certificate: compare its SHA-256 with
tls|{fingerprint}, and confirm it.
`

const setupAppleMail = `
Mail > Add Account… > Other Mail Account…:

  Name                  {name}
  Email Address         {address}
  Password              (from: asmtp-cli bridge password apple-mail)
  User Name             {user}
  Account Type          IMAP
  Incoming Mail Server  {imap-host}
  Outgoing Mail Server  {smtp-host}

Then Mail > Settings > Accounts > Server Settings, "Automatically manage connection
settings" off:

  Incoming port {imap-port}, Outgoing port {smtp-port}, Authentication Password, for both
plain|  Use TLS/SSL off, Allow insecure authentication on
tls|  Use TLS/SSL on
tls|
tls|Trust the certificate first: open {certificate} in Keychain Access and set it to
tls|"Always Trust" for SSL. Its SHA-256 is
tls|{fingerprint}.
`

const setupK9 = `
The bridge stays on this machine. The phone reaches it through an SSH tunnel, for
example with Termux or ConnectBot, or by a VPN such as WireGuard:

  ssh -N -L 1143:{imap-host}:{imap-port} -L 1025:{smtp-host}:{smtp-port} USER@THIS-MACHINE

Add account > {address}, then "Manual setup", IMAP:

  IMAP server    127.0.0.1        Port  1143
  Security       {security}
  Authentication Normal password
  Username       {user}
  Password       (from: asmtp-cli bridge password phone)

  SMTP server    127.0.0.1        Port  1025
  Security       {security}
  Require sign-in, with the same user and password

Folders > Push folders: INBOX. New mail then shows at once while the tunnel is up.
tls|At the first connection it shows a certificate: compare its SHA-256 with
tls|{fingerprint}, and confirm it.
`

const setupNeomutt = `
set realname = "{name}"
set from = "{address}"
set use_from = yes
set imap_user = "{user}"
# PASSWORD is what "asmtp-cli bridge password neomutt" prints.
set imap_pass = "PASSWORD"
set folder = "imap{s}://{imap-host}:{imap-port}/"
set spoolfile = "+INBOX"
# The bridge keeps a copy of what is sent in Sent.
set record = ""
set postponed = "+Drafts"
set trash = "+Trash"
set imap_idle = yes
set smtp_url = "smtp{s}://{user-url}@{smtp-host}:{smtp-port}/"
set smtp_pass = "PASSWORD"
set smtp_authenticators = "plain"
plain|set ssl_starttls = no
plain|set ssl_force_tls = no
starttls|set ssl_starttls = yes
tls|set ssl_force_tls = yes
tls|set certificate_file = "{certificate}"
`

const setupMbsync = `
# ~/.mbsyncrc; PASSWORD is what "asmtp-cli bridge password mbsync" prints. First:
# mkdir -p ~/Mail/asmtp
IMAPAccount asmtp
Host {imap-host}
Port {imap-port}
User {user}
Pass PASSWORD
AuthMechs LOGIN
# From version 1.5 on SSLType may be called TLSType.
plain|SSLType None
starttls|SSLType STARTTLS
implicit|SSLType IMAPS
tls|CertificateFile {certificate}

IMAPStore asmtp-remote
Account asmtp

MaildirStore asmtp-local
SubFolders Verbatim
Path ~/Mail/asmtp/
Inbox ~/Mail/asmtp/INBOX

Channel asmtp
Far :asmtp-remote:
Near :asmtp-local:
Patterns *
Create Both
Expunge Both
SyncState *

# ~/.msmtprc
account asmtp
host {smtp-host}
port {smtp-port}
from {address}
user {user}
password PASSWORD
auth plain
plain|tls off
tls|tls on
starttls|tls_starttls on
implicit|tls_starttls off
tls|tls_trust_file {certificate}

account default : asmtp
`
