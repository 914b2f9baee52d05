package away

import (
	crand "crypto/rand"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/asmtp/asmtp/test/programs"
)

const day = 24 * time.Hour

// attachments fill parts of every size class: one of each, several of the largest, and
// a mail of a mebibyte.
var attachments = map[string]int{
	"1 KiB": 0, "4 KiB": 2500, "16 KiB": 12_000, "60 KiB": 45_000, "many parts": 200_000, "1 MiB": 1 << 20,
}

// mail is a sent mail. Its subject is its own.
type mail struct{ sender, id, subject string }

// The recipient's node, and the recipient, are away for 13 days. Three senders at two
// nodes write in that time, their clients connect now and then, one of the nodes that hold
// the mail is killed and started again. When the node is back everything is in the
// recipient's inbox at once, each mail once, and the senders see that it was delivered.
func TestRecipientAwayFor13Days(t *testing.T) { away(t, 13) }

// Away for longer than the mesh keeps an envelope: the senders' clients seal the mail
// anew as long as its lifetime lasts.
func TestRecipientAwayBeyondRetention(t *testing.T) { away(t, 20, "--lifetime", "720h") }

func away(t *testing.T, days int, sendArgs ...string) {
	if testing.Short() {
		t.Skip("starts whole nodes")
	}
	t.Parallel()
	w := world{programs.New(t, "asmtpclock"), t}
	senders := w.populate()
	w.Nodes["n3"].Stop()

	var mails []mail
	for d := range days {
		for i, sender := range senders {
			if d == 0 || d == 4+i || d == 9+i {
				mails = append(mails, w.sendAll(sender, d, sendArgs...)...)
			}
		}
		if d%7 == 6 || d == days-2 {
			w.Nodes["n2"].Kill()
			w.Start("n2")
			w.Connected("n2", 1)
		}
		w.Pass(day)
		for _, sender := range senders {
			w.As(sender, "sync")
		}
	}
	w.checkHeld(mails)

	began := time.Now()
	w.Start("n3")
	up := time.Since(began)
	w.Await("all mail arrives", func() bool {
		w.As("bob", "sync")
		return len(w.As("bob", "inbox", "--all")) >= len(mails)
	})
	arrived := time.Since(began)
	w.checkInbox(mails)
	w.checkDelivered(mails)
	w.checkInbox(mails)
	t.Logf("%d mails; the node was up after %.2f s, all mail was in the inbox after %.2f s", len(mails), up.Seconds(), arrived.Seconds())
}

// world adds what this test asks of a mesh.
type world struct {
	*programs.World
	t *testing.T
}

// populate makes a mesh of three nodes: bob at the third, who knows three senders at the
// others.
func (w *world) populate() (senders []string) {
	w.Mesh("n1", "n2", "n3")
	senders = []string{"alice", "carol", "dave"}
	w.Person("bob", "n3")
	for i, name := range senders {
		w.Person(name, []string{"n1", "n1", "n2"}[i])
		w.Acquaint(name, "bob")
	}
	for _, name := range senders {
		w.Meet(name, "bob")
	}
	return senders
}

// sendAll sends a mail of each size.
func (w *world) sendAll(sender string, day int, sendArgs ...string) (list []mail) {
	w.t.Helper()
	for name, size := range attachments {
		m := mail{sender: sender, subject: fmt.Sprintf("%s of %s, day %d", name, sender, day)}
		args := append([]string{"send", "--to", "bob", "--subject", m.subject}, sendArgs...)
		if size > 0 {
			content := make([]byte, size)
			crand.Read(content)
			if err := os.WriteFile(w.Path("attachment"), content, 0o600); err != nil {
				w.t.Fatal(err)
			}
			args = append(args, "--attach", w.Path("attachment"))
		}
		m.id = w.As(sender, args...)[0].ID
		list = append(list, m)
	}
	return list
}

// checkHeld waits until every mail is on another node as well, in the envelopes in which
// it was sealed last.
func (w *world) checkHeld(mails []mail) {
	w.t.Helper()
	for _, m := range mails {
		w.Await("mail "+m.subject+" is held", func() bool {
			l := w.As(m.sender, "status", m.id)[0]
			if l.State == "held" && l.Held > 0 {
				return true
			}
			w.As(m.sender, "sync")
			return false
		})
	}
}

// checkInbox looks whether each mail is in the recipient's inbox once, and nothing else.
func (w *world) checkInbox(mails []mail) {
	w.t.Helper()
	count := map[string]int{}
	for _, l := range w.As("bob", "inbox", "--all") {
		count[l.Subject]++
	}
	for _, m := range mails {
		if count[m.subject] != 1 {
			w.t.Errorf("mail %q is in the inbox %d times", m.subject, count[m.subject])
		}
		delete(count, m.subject)
	}
	if len(count) > 0 {
		w.t.Errorf("mail that nobody sent: %v", count)
	}
}

// checkDelivered waits until the senders know, and looks whether no state ever moved back.
func (w *world) checkDelivered(mails []mail) {
	w.t.Helper()
	order := map[string]int{"queued": 0, "accepted": 1, "held": 2, "delivered": 3}
	for _, m := range mails {
		var l programs.Line
		w.Await("mail "+m.subject+" is delivered", func() bool {
			l = w.As(m.sender, "status", m.id)[0]
			if l.State != "delivered" {
				w.As(m.sender, "sync")
			}
			return l.State == "delivered"
		})
		for i := 1; i < len(l.History); i++ {
			from, to := l.History[i-1].State, l.History[i].State
			before, known1 := order[from]
			after, known2 := order[to]
			if !known1 || !known2 || after < before {
				w.t.Errorf("mail %q went from %s to %s", m.subject, from, to)
			}
		}
	}
}
