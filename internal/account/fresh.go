package account

import "sync"

// maxFresh bounds how much fresh has. What is beyond is found in the database.
const maxFresh = 1024

// fresh is small mail that has just entered the outbox and goes to the node at once, so that
// it need not be looked for among all that waits for answers. The database has it too: who
// looks there drops what is here.
type fresh struct {
	mu   sync.Mutex
	list []*due
	more bool // than list has
}

func (f *fresh) add(d *due) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.more = f.more || len(f.list) >= maxFresh; !f.more {
		f.list = append(f.list, d)
	}
}

// take removes all there is. more says that the database has more of it.
func (f *fresh) take() (list []*due, more bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	list, more = f.list, f.more
	f.list, f.more = nil, false
	return list, more
}
