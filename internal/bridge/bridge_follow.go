package bridge

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/asmtp/asmtp/internal/account"
	"github.com/asmtp/asmtp/internal/clientapi"
)

// The account makes broken connections anew by itself. firstFollow and lastFollow bound
// the wait before it is told to begin again after it gave up, because it knows no node or
// none admits this device, or because of its disk.
const (
	firstFollow = time.Second
	lastFollow  = time.Minute
)

// follow exchanges mail with the nodes of an account until ctx ends.
func (b *Bridge) follow(ctx context.Context, s *served) {
	n := &nodeNews{tell: func(err error) {
		if b.o.OnNode != nil {
			b.o.OnNode(s.acc, err)
		} else if err != nil {
			b.log.Warn("no node", "account", s.acc.Name(), "error", err)
		}
	}}
	for wait := firstFollow; ; wait = min(2*wait, lastFollow) {
		began := time.Now()
		changed := s.acc.Changed()
		_, err := s.acc.Sync(ctx, account.SyncOptions{Follow: true, OnProgress: n.progress})
		if ctx.Err() != nil {
			return
		}
		n.failed(err)
		if time.Since(began) > lastFollow {
			wait = firstFollow
		}
		if errors.Is(err, account.ErrNoNode) || errors.Is(err, clientapi.ErrNotAllowed) {
			wait = lastFollow // or until the user connects with one
		} else {
			changed = nil
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-changed:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// nodeNews tells when it becomes different whether a node is reached.
type nodeNews struct {
	tell func(error)

	mu    sync.Mutex
	known bool
	up    map[account.Node]bool
	last  string
}

func (n *nodeNews) progress(p account.Progress) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.up == nil {
		n.up = make(map[account.Node]bool)
	}
	switch p.Step {
	case "connected":
		n.up[p.Node] = true
		if !n.known || n.last != "" {
			n.known, n.last = true, ""
			n.tell(nil)
		}
	case "disconnected":
		delete(n.up, p.Node)
		if len(n.up) == 0 && p.Err != nil {
			n.say(p.Err)
		}
	}
}

// failed notes that nothing is connected any more.
func (n *nodeNews) failed(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.up = nil
	if err != nil {
		n.say(err)
	}
}

func (n *nodeNews) say(err error) {
	if n.known && n.last != "" {
		return // it was said
	}
	n.known, n.last = true, err.Error()
	n.tell(err)
}
