package programs

import (
	"bytes"
	"context"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"testing"
)

// Bridge is the bridge of a person, for mail programs. Its addresses stay the same when it is
// started again, as they do for a user.
type Bridge struct {
	Home        string // the account's folder
	IMAP, SMTP  string
	Fingerprint string // of its certificate
	Cmd         *exec.Cmd

	w    *World
	log  *bytes.Buffer
	done chan struct{} // closed when the process has ended
}

// Bridge starts the bridge of a person.
func (w *World) Bridge(t testing.TB, name string) *Bridge {
	t.Helper()
	b := &Bridge{Home: w.Path(name), IMAP: FreeAddress(t), SMTP: FreeAddress(t), w: w}
	b.Start(t)
	t.Cleanup(func() {
		b.Kill()
		if t.Failed() {
			t.Logf("log of the bridge of %s:\n%s", name, b.log)
		}
	})
	return b
}

// Start starts the bridge again and returns when it listens.
func (b *Bridge) Start(t testing.TB) {
	t.Helper()
	b.log, b.done = new(bytes.Buffer), make(chan struct{})
	b.Cmd = b.w.Command(context.Background(), "asmtp-cli", "bridge", "--home", b.Home, "--imap", b.IMAP, "--smtp", b.SMTP, "--json")
	b.Cmd.Stderr = b.log
	out, err := b.Cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var says struct{ Fingerprint string }
	err = json.NewDecoder(out).Decode(&says)
	done, cmd := b.done, b.Cmd
	go func() {
		_ = cmd.Wait() // it is killed
		close(done)
	}()
	if err != nil {
		b.Kill()
		t.Fatalf("the bridge at %s does not start: %v\n%s", b.Home, err, b.log)
	}
	b.Fingerprint = says.Fingerprint
}

// Kill ends the bridge by SIGKILL.
func (b *Bridge) Kill() {
	_ = b.Cmd.Process.Kill() // it may have ended
	<-b.done
}

// Login makes a password for a mail program. One of a name replaces the one before.
func (b *Bridge) Login(t testing.TB, program string) (user, password string) {
	t.Helper()
	out, err := b.w.Try(nil, "asmtp-cli", "--home", b.Home, "--json", "bridge", "password", program)
	if err != nil {
		t.Fatal(err)
	}
	var l struct{ User, Password string }
	if err := json.Unmarshal([]byte(out), &l); err != nil {
		t.Fatal(err)
	}
	return l.User, l.Password
}

// Certificate is the file that a mail program is told to trust.
func (b *Bridge) Certificate() string { return filepath.Join(b.Home, "bridge-cert.pem") }
