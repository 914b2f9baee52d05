package clients

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/asmtp/asmtp/test/programs"
)

// patience bounds every single wait.
const patience = 60 * time.Second

// world is a mesh with two persons.
type world struct {
	*programs.World
	alice, bob *person
}

// person is an account with a bridge. The addresses of the bridge stay the same when it
// is started again, as they do for a user.
type person struct {
	name, address string
	home          string // the account's folder
	IMAP, SMTP    string
	fingerprint   string
	user          string
	password      string // the observer's; each program has its own, see [person.login]
	world         *programs.World
	bridge        *exec.Cmd
	log           *bytes.Buffer // what the bridge wrote to stderr; read it once it has ended
	done          chan struct{} // closed when the bridge has ended
}

// newWorld starts the nodes and the bridges.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{World: programs.New(t, "")}
	w.Mesh("n1", "n2")
	w.Person("alice", "n1")
	w.Person("bob", "n2")
	w.Acquaint("alice", "bob")
	w.Meet("alice", "bob")
	w.alice, w.bob = w.person(t, "alice"), w.person(t, "bob")
	return w
}

func (w *world) person(t *testing.T, name string) *person {
	t.Helper()
	p := &person{name: name, address: name + "@asmtp", home: w.Path(name), world: w.World}
	p.IMAP, p.SMTP = programs.FreeAddress(t), programs.FreeAddress(t)
	p.user, p.password = p.login(t, "observer")
	p.start(t)
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("log of the bridge of %s:\n%s", name, p.log.String())
		}
	})
	return p
}

// login makes a password for a program.
func (p *person) login(t testing.TB, program string) (user, password string) {
	t.Helper()
	out, err := p.world.Try(nil, "asmtp-cli", "--home", p.home, "--json", "bridge", "password", program)
	if err != nil {
		t.Fatal(err)
	}
	var l struct{ User, Password string }
	if err := json.Unmarshal([]byte(out), &l); err != nil {
		t.Fatal(err)
	}
	return l.User, l.Password
}

// setup returns what "bridge setup" prints for a program, with a password filled in and
// paths in its home.
func (p *person) setup(t testing.TB, program string, home *tool) string {
	t.Helper()
	out, err := p.world.Try(nil, "asmtp-cli", "--home", p.home, "bridge", "setup", program, "--imap", p.IMAP, "--smtp", p.SMTP)
	if err != nil {
		t.Fatal(err)
	}
	_, password := p.login(t, program+"-printed") // one of a name replaces the other
	return strings.NewReplacer("PASSWORD", password, "~/", home.home+"/").Replace(out)
}

// certificate is the file that a program is told to trust.
func (p *person) certificate() string { return filepath.Join(p.home, "bridge-cert.pem") }

// start starts the bridge and returns when it listens.
func (p *person) start(t testing.TB) {
	t.Helper()
	p.log, p.done = new(bytes.Buffer), make(chan struct{})
	p.bridge = p.world.Command(context.Background(), "asmtp-cli", "bridge", "--home", p.home, "--imap", p.IMAP, "--smtp", p.SMTP, "--json")
	p.bridge.Stderr = p.log
	out, err := p.bridge.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.bridge.Start(); err != nil {
		t.Fatal(err)
	}
	var says struct{ Fingerprint string }
	err = json.NewDecoder(out).Decode(&says)
	done, cmd := p.done, p.bridge
	go func() {
		_ = cmd.Wait() // it is killed
		close(done)
	}()
	if err != nil {
		p.kill()
		t.Fatalf("the bridge of %s does not start: %v\n%s", p.name, err, p.log)
	}
	p.fingerprint = says.Fingerprint
}

// kill ends the bridge by SIGKILL.
func (p *person) kill() {
	_ = p.bridge.Process.Kill() // it may have ended
	<-p.done
}

// await waits until ok is content.
func await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// send sends a mail from alice to bob without a mail program, and waits for it.
func (w *world) send(t testing.TB, subject, text string) message {
	t.Helper()
	mail := strings.NewReader(letter(subject, text))
	if _, err := w.Try(mail, "asmtp-cli", "--home", w.alice.home, "send", "--to", "bob", "--raw", "-"); err != nil {
		t.Fatal(err)
	}
	return w.bob.await(t, "INBOX", subject)
}

// write makes a file that only its owner reads, as programs want theirs with a password.
func write(t testing.TB, file, format string, args ...any) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, fmt.Appendf(nil, format, args...), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
