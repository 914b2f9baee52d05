package bridge

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"
)

// uglyMessages are what no program should send and some do.
func uglyMessages() map[string]string {
	nested := "Subject: nested\r\n"
	for i := range 1000 {
		nested += fmt.Sprintf("Content-Type: multipart/mixed; boundary=\"b%d\"\r\n\r\n--b%d\r\n", i, i)
	}
	forwarded := ""
	for range 1000 {
		forwarded += "Content-Type: message/rfc822\r\n\r\n"
	}
	parts := "Subject: parts\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
	for i := range 12000 {
		parts += fmt.Sprintf("--b\r\n\r\n%d\r\n", i)
	}
	var to strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&to, "\"R, %d\" <r%d@asmtp>,\r\n ", i, i)
	}
	return map[string]string{
		"no header":      "just text\r\n\r\nand more",
		"one byte":       "x",
		"blank line":     "\r\n",
		"header only":    "Subject: no blank line",
		"lf":             "Subject: lf\nTo: x@asmtp\n\nbody\nlines\n",
		"bare cr":        "Subject: cr\rTo: x\r\rbody\r",
		"mixed ends":     "Subject: a\r\nTo: b\n\r\nx\ny\r\nz\r\r\n",
		"nul":            "Subject: a\x00b\r\nFrom: \x00@\x00\r\n\r\n\x00\x00body\x00",
		"8 bit":          "Subject: gr\xfc\xdfe \xff\xfe\r\nFrom: \xe4 <a@b>\r\nContent-Type: text/plain; charset=\"\xe4\"\r\n\r\n\x80\x81\xff",
		"utf-8":          "Subject: grüße 🙂\r\nFrom: Ä <ä@example>\r\n\r\nß",
		"long line":      "Subject: " + strings.Repeat("x", 100<<10) + "\r\n\r\n" + strings.Repeat("y", 100<<10) + "\r\n",
		"fold":           "Subject: a\r\n b\r\n\tc\r\n \r\nTo:\r\n x@y\r\n\r\n.\r\n..\r\n",
		"nested":         nested,
		"forwarded":      forwarded,
		"many parts":     parts,
		"recipients":     "To: " + to.String() + "x@y\r\nSubject: many\r\n\r\nhi",
		"no boundary":    "Content-Type: multipart/mixed\r\n\r\n--\r\n\r\nx\r\n----\r\n",
		"empty parts":    "Content-Type: multipart/alternative; boundary=x\r\n\r\n--x\r\n--x\r\n--x--",
		"bad base64":     "Content-Transfer-Encoding: base64\r\n\r\nA===*&^%$QUJD\r\n=",
		"bad type":       "Content-Type: ///;;;=\"\r\nContent-Disposition: ;;filename=\r\n\r\nx",
		"literal":        "Subject: {5}\r\n\r\n) OK FETCH {3}\r\nt1 OK done\r\n",
		"large":          "Subject: large\r\n\r\n" + strings.Repeat("0123456789abcdef\r\n", 40000),
		"same boundary":  "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n--b--\r\n",
		"group":          "To: undisclosed-recipients:;\r\nCc: g: a@b, \"c\" <d@e>;\r\n\r\n",
		"message inside": "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\nU3ViamVjdDogeA==\r\n",
	}
}

// Whatever was appended comes back byte for byte: whole, in pieces, and as header and text.
func TestUglyMessages(t *testing.T) {
	e := newIMAPEnv(t, nil)
	c := e.login()
	for name, msg := range uglyMessages() {
		t.Run(name, func(t *testing.T) {
			c.t = t
			defer func() { c.t = e.t }()
			folder := `"ugly ` + name + `"`
			c.ok("CREATE " + folder)
			c.append(folder, "", msg)
			c.ok("SELECT " + folder)
			same := func(what, got string) {
				t.Helper()
				if sha256.Sum256([]byte(got)) != sha256.Sum256([]byte(msg)) {
					t.Errorf("%s: %d bytes %.200q, want %d bytes %.200q", what, len(got), got, len(msg), msg)
				}
			}
			fetch := func(items string) string { t.Helper(); return c.ok("FETCH 1 " + items)[0] }
			same("BODY[]", literalOf(t, fetch("BODY.PEEK[]")))
			same("again", literalOf(t, fetch("BODY.PEEK[]")))
			header, text := literalOf(t, fetch("BODY.PEEK[HEADER]")), literalOf(t, fetch("BODY.PEEK[TEXT]"))
			same("HEADER and TEXT", header+text)
			var pieces strings.Builder
			step := max(7, len(msg)/9)
			for at := 0; at < len(msg); at += step {
				pieces.WriteString(literalOf(t, fetch(fmt.Sprintf("BODY.PEEK[]<%d.%d>", at, step))))
			}
			same("pieces", pieces.String())
			for _, items := range []string{"ENVELOPE", "BODYSTRUCTURE", "BODY", "(BODY.PEEK[1] BODY.PEEK[1.MIME] BODY.PEEK[1.1.1] BODY.PEEK[2.HEADER])", "BODY.PEEK[HEADER.FIELDS (Subject)]", "BINARY.SIZE[1]"} {
				checkResponse(t, []byte(strings.TrimPrefix(fetch(items), "* ")))
			}
			if got := fetch("RFC822.SIZE"); got != fmt.Sprintf("* 1 FETCH (RFC822.SIZE %d)", len(msg)) {
				t.Error(got)
			}
		})
	}
}

// A program that does not read what it asked for holds up nobody else.
func TestSlowReaderHoldsUpNobody(t *testing.T) {
	e := newIMAPEnv(t, nil)
	c := e.login()
	msg := "Subject: x\r\n\r\n" + strings.Repeat("text\r\n", 30000)
	for range 60 {
		c.append("INBOX", "", msg)
	}
	for range 8 { // more than the database has connections
		slow := e.login()
		slow.ok("SELECT INBOX")
		slow.send("x FETCH 1:* (BODY[] FLAGS)\r\n")
	}
	c.ok("SELECT INBOX")
	c.append("INBOX", "", msg)
	if got := len(c.ok("FETCH 1:* FLAGS")); got < 61 {
		t.Errorf("%d messages", got)
	}
	if got := literalOf(t, c.ok("FETCH 61 BODY.PEEK[]")[0]); got != msg {
		t.Errorf("%d bytes", len(got))
	}
}

// What is too much is refused by an answer, and the next command is understood.
func TestTooMuchIsRefused(t *testing.T) {
	e := newIMAPEnv(t, nil)
	c := e.login()
	c.append("INBOX", "", "Subject: x\r\n\r\n")
	c.ok("SELECT INBOX")
	set := strings.TrimSuffix(strings.Repeat("1,3,", 10000), ",")
	deep := strings.Repeat("NOT ", 10000) + "ALL"
	for _, tt := range []struct{ command, want string }{
		{"FETCH " + set + " FLAGS", "OK"},
		{"SEARCH " + set, "OK"},
		{"STORE " + set + " FLAGS (\\Seen)", "OK"},
		{"STORE " + set + "," + set + " FLAGS (\\Seen)", "BAD [LIMIT]"},
		{"NOOP " + strings.Repeat("x", 1<<20), "BAD [LIMIT]"},
		{"SEARCH " + deep, "NO [LIMIT]"},
		{"SEARCH SUBJECT {300000+}\r\n" + strings.Repeat("x", 300000), "NO [TOOBIG]"},
		{"CREATE {5000+}\r\n" + strings.Repeat("x", 5000), "NO [TOOBIG]"},
		{"CREATE {5000}", "NO [TOOBIG]"},
		{"APPEND {5000+}\r\n" + strings.Repeat("x", 5000) + " {3+}\r\nabc", "NO [TOOBIG]"},
		{"APPEND INBOX {60000000+}\r\n" + strings.Repeat("a APPEND\r\n", 6000000), "NO [TOOBIG]"},
		{"APPEND INBOX {99999999999}", "BAD"},
		{"FETCH 1 (" + strings.Repeat("BODY[] ", 100) + "FLAGS)", "NO [LIMIT]"},
		{"LIST \"\" " + strings.Repeat("*a", 1000), "OK"},
		{"STORE 1 +FLAGS (" + strings.Repeat("k", 2000) + ")", "NO"},
		{"CREATE " + strings.Repeat("x", 3000), "NO"},
		{"LOGIN \"a", "BAD"},
		{"CREATE \"a\x00b\"", "BAD"},
		{"CREATE a\rb", "BAD"},
		{"", "BAD"},
	} {
		_, tagged := c.do(tt.command)
		if !strings.HasPrefix(tagged, tt.want) {
			t.Errorf("%.60q: %s, want %s", tt.command, tagged, tt.want)
		}
		c.ok("NOOP")
	}
}

// An account has a limited number of connections, and a place is free when one ends.
func TestConnectionLimit(t *testing.T) {
	e := newIMAPEnv(t, nil)
	var all []*imapClient
	for range maxAccountConns {
		all = append(all, e.login())
	}
	c := e.dial()
	if _, tagged := c.do("LOGIN bob secret"); !strings.HasPrefix(tagged, "NO [LIMIT]") {
		t.Fatal(tagged)
	}
	all[0].ok("LOGOUT")
	if _, err := io.ReadAll(all[0].conn); err != nil { // the server has closed it
		t.Fatal(err)
	}
	c.ok("LOGIN bob secret")
}

// A stranger who does not speak IMAP is not listened to for long.
func TestStrangers(t *testing.T) {
	e := newIMAPEnv(t, nil)
	for _, text := range []string{
		"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "\r\n\r\n\r\n\r\n\r\n", strings.Repeat("x", 1<<20),
		"a LOGIN {5000000+}\r\n" + strings.Repeat("x", 5000000), "\x16\x03\x01\x02\x00\x01\r\n\x00\r\n\x00\r\n\x00\r\n",
	} {
		c := e.dial()
		go io.WriteString(c.conn, text)
		c.conn.SetReadDeadline(time.Now().Add(imapPatience))
		if b, err := io.ReadAll(c.conn); err != nil && strings.Contains(err.Error(), "timeout") {
			t.Errorf("%.20q: still open after %q", text, b)
		}
	}
}

// Close says goodbye to programs that wait.
func TestCloseSaysGoodbye(t *testing.T) {
	e := newIMAPEnv(t, nil)
	c := e.login()
	c.ok("SELECT INBOX")
	c.send("x IDLE\r\n")
	if got := c.line(); got != "+ idling" {
		t.Fatal(got)
	}
	go e.srv.Close()
	if got := c.line(); !strings.HasPrefix(got, "* BYE ") {
		t.Error(got)
	}
}

func testTLS(t *testing.T) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

// STARTTLS makes the rest of the connection TLS, once.
func TestStartTLS(t *testing.T) {
	e := newIMAPEnv(t, testTLS(t))
	c := e.dial()
	if got := c.ok("CAPABILITY")[0]; !strings.Contains(got, " STARTTLS") {
		t.Error(got)
	}
	c.ok("STARTTLS")
	secure := tls.Client(c.conn, &tls.Config{InsecureSkipVerify: true}) // its own certificate
	c.conn, c.in = secure, newReader(secure)
	if got := c.ok("CAPABILITY")[0]; strings.Contains(got, " STARTTLS") {
		t.Error(got)
	}
	if _, tagged := c.do("STARTTLS"); !strings.HasPrefix(tagged, "BAD") {
		t.Error(tagged)
	}
	c.ok("LOGIN bob secret")
	c.append("INBOX", "", strings.Repeat("Subject: x\r\n\r\n", 10000))
	c.ok("SELECT INBOX")
	if got := literalOf(t, c.ok("FETCH 1 BODY[]")[0]); len(got) != 140000 {
		t.Errorf("%d bytes", len(got))
	}
	c.ok("LOGOUT")
}

// What is sent in clear after STARTTLS is not taken for what comes by TLS.
func TestStartTLSInjection(t *testing.T) {
	e := newIMAPEnv(t, testTLS(t))
	c := e.dial()
	c.send("a STARTTLS\r\nb NOOP\r\n")
	if got := c.line(); !strings.HasPrefix(got, "* BYE ") {
		t.Error(got)
	}
}

// A listener can begin with TLS.
func TestImplicitTLS(t *testing.T) {
	e := newIMAPEnv(t, testTLS(t))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- e.srv.Serve(ln, true) }()
	conn, err := tls.Dial("tcp", ln.Addr().String(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c := &imapClient{t: t, conn: conn, in: newReader(conn)}
	if got := c.line(); !strings.HasPrefix(got, "* OK ") || strings.Contains(got, "STARTTLS") {
		t.Error(got)
	}
	c.ok("LOGIN bob secret")
	e.srv.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A message that another program removed, or all its folder, cannot be copied, and the answer is
// not OK. It is no reason to make the folder either where it was to go, which is there.
func TestIMAPCopyWhatIsGone(t *testing.T) {
	e := newIMAPEnv(t, nil)
	one, two := e.login(), e.login()
	one.ok("CREATE A")
	for range 3 {
		one.append("A", "", "Subject: a mail\r\n\r\ntext\r\n")
	}
	refused := func(command, code string) {
		t.Helper()
		if _, answer := one.do(command); !strings.HasPrefix(answer, "NO ["+code+"] ") {
			t.Errorf("%s: %s", command, answer)
		}
	}
	one.ok("SELECT A")
	two.ok("SELECT A")
	two.ok(`STORE 1 +FLAGS (\Deleted)`)
	two.ok("EXPUNGE")
	refused("COPY 1:2 INBOX", "EXPUNGEISSUED")
	one.ok("UID COPY 1:2 INBOX")
	if status := one.ok("STATUS INBOX (MESSAGES)"); status[0] != "* STATUS INBOX (MESSAGES 1)" {
		t.Errorf("of two messages, one of which is there: %s", status)
	}
	two.ok("DELETE A")
	refused("COPY 1 INBOX", "EXPUNGEISSUED")
	one.ok("SELECT INBOX")
	refused("COPY 1 Nowhere", "TRYCREATE")
	two.ok("CREATE B")
	one.append("B", "", "Subject: a mail\r\n\r\ntext\r\n")
	one.ok("SELECT B")
	two.ok("DELETE B")
	refused("MOVE 1 INBOX", "EXPUNGEISSUED")
}
