package chaos

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/asmtp/asmtp/test/chaos/check"
)

// watch asks the account again and again what it knows, until the run ends.
func (a *account) watch() {
	random := rand.New(rand.NewPCG(a.r.Seed, 1000+uint64(len(a.name))*100+uint64(a.name[len(a.name)-1])))
	for round := 0; ; round++ {
		select {
		case <-a.r.quit:
			return
		case <-time.After(time.Second + time.Duration(random.IntN(3000))*time.Millisecond):
		}
		a.folder.RLock()
		a.askQueue()
		if round%4 == 0 {
			a.askInbox(10)
		}
		if round%16 == 9 && a.r.reachable(a) {
			a.cli(patience, nil, "status") // may fail: the node may be away
		}
		a.folder.RUnlock()
		a.r.look()
	}
}

// askQueue asks for the mails on their way, and for those that left since.
func (a *account) askQueue() {
	res, ok := a.local("queue")
	if !ok {
		return
	}
	now := map[string]bool{}
	err := each(res.out, func(o outgoing) {
		now[o.ID] = true
		a.told(res.Span, o)
	})
	if err != nil {
		a.r.fault("harness", "queue of %s: %v", a.name, err)
		return
	}
	a.mu.Lock()
	before := a.queue
	a.queue = now
	a.mu.Unlock()
	for id := range before {
		if !now[id] {
			a.askStatus(id)
		}
	}
}

// askStatus asks for one mail, with its history.
func (a *account) askStatus(id string) {
	res, ok := a.local("status", id)
	if !ok {
		return
	}
	if err := each(res.out, func(o outgoing) {
		a.told(res.Span, o)
		a.mu.Lock()
		a.parts[o.ID+" "+o.To] = o.Envelopes
		a.mu.Unlock()
	}); err != nil {
		a.r.fault("harness", "status of %s: %v", a.name, err)
	}
}

// askInbox lists the inbox and reads up to some of the mails that were not read yet.
func (a *account) askInbox(read int) {
	res, ok := a.local("inbox", "--all")
	if !ok {
		return
	}
	box := check.Inbox{Span: res.Span, Account: a.name, Lineage: a.lineage}
	if err := each(res.out, func(l struct{ ID, Subject string }) {
		box.Mails = append(box.Mails, check.Line{ID: l.ID, Subject: l.Subject})
	}); err != nil {
		a.r.fault("harness", "inbox of %s: %v", a.name, err)
		return
	}
	a.r.mails.Inbox(box)
	for i, l := range a.r.mails.Unread(a.name) {
		if i == read {
			break
		}
		a.readOne(l)
	}
}

// readOne reads a mail and has its text compared with what was sent.
func (a *account) readOne(l check.Line) {
	res, ok := a.local("read", l.ID)
	if !ok {
		return
	}
	err := each(res.out, func(m struct{ Subject, Text string }) {
		if m.Subject != l.Subject {
			a.r.fault("harness", "mail %s of %s: subject %q in the list, %q when read", l.ID, a.name, l.Subject, m.Subject)
		}
		sum := sha256.Sum256([]byte(m.Text))
		a.r.mails.Body(a.name, l.ID, m.Subject, hex.EncodeToString(sum[:]))
		a.r.counts.add("texts compared", 1)
	})
	if err != nil {
		a.r.fault("harness", "read %s of %s: %v", l.ID, a.name, err)
	}
}

// reachable reports whether any node of the account is running.
func (r *run) reachable(a *account) bool {
	for _, n := range a.nodes {
		if n.pid() != 0 {
			return true
		}
	}
	return false
}

// onTheWay returns the ids that were on their way when the queue was last asked for.
func (a *account) onTheWay() (ids []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for id := range a.queue {
		ids = append(ids, id)
	}
	return ids
}

func (a *account) String() string { return fmt.Sprintf("%s (life %d)", a.name, a.lineage) }
