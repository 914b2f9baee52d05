package clients

import (
	"fmt"
	"os"
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

// person is an account with a bridge.
type person struct {
	*programs.Bridge
	name, address  string
	user, password string // the observer's; each program has its own
	world          *programs.World
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
	p := &person{Bridge: w.World.Bridge(t, name), name: name, address: name + "@asmtp", world: w.World}
	p.user, p.password = p.Login(t, "observer")
	return p
}

// setup returns what "bridge setup" prints for a program, with a password filled in and
// paths in its home.
func (p *person) setup(t testing.TB, program string, home *tool) string {
	t.Helper()
	out, err := p.world.Try(nil, "asmtp-cli", "--home", p.Home, "bridge", "setup", program, "--imap", p.IMAP, "--smtp", p.SMTP)
	if err != nil {
		t.Fatal(err)
	}
	_, password := p.Login(t, program+"-printed") // one of a name replaces the other
	return strings.NewReplacer("PASSWORD", password, "~/", home.home+"/").Replace(out)
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
	if _, err := w.Try(mail, "asmtp-cli", "--home", w.alice.Home, "send", "--to", "bob", "--raw", "-"); err != nil {
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
