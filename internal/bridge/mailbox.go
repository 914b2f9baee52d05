package bridge

import (
	"context"
	"errors"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/asmtp/asmtp/internal/account"
)

// refreshPause is how long news waits for more, when there was more while the last was
// looked at.
const refreshPause = 50 * time.Millisecond

// imapAccount is what the connections of one account share: the folders that are open.
type imapAccount struct {
	*account.Account
	conns int // guarded by the server's lock

	mu     sync.Mutex
	opened map[int64]*mailbox
	watch  context.CancelFunc // ends the goroutine that follows; nil while nothing is open
	done   chan struct{}      // closed when it has ended

	trees treeCache
}

func newIMAPAccount(a *account.Account) *imapAccount {
	return &imapAccount{Account: a, opened: make(map[int64]*mailbox)}
}

// openFolder returns the mailbox of a folder, as it is now. Close it with closeFolder.
func (a *imapAccount) openFolder(ctx context.Context, f account.Folder) (*mailbox, error) {
	a.mu.Lock()
	m := a.opened[f.ID]
	if m == nil {
		m = &mailbox{acc: a.Account, id: f.ID, words: map[string]uint32{"": 0}, sets: [][]string{nil}, wake: make(chan struct{})}
		a.opened[f.ID] = m
	}
	m.users++
	if a.watch == nil {
		a.follow()
	}
	a.mu.Unlock()
	if err := m.refresh(ctx); err != nil {
		a.closeFolder(m)
		return nil, err
	}
	return m, nil
}

// closeFolder takes back openFolder.
func (a *imapAccount) closeFolder(m *mailbox) {
	a.mu.Lock()
	var done chan struct{}
	if m.users--; m.users == 0 {
		delete(a.opened, m.id)
		if len(a.opened) == 0 {
			a.watch()
			a.watch, done = nil, a.done
		}
	}
	a.mu.Unlock()
	if done != nil {
		<-done
	}
}

// follow keeps the open mailboxes current for those who wait for news; a.mu is held.
func (a *imapAccount) follow() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	a.watch, a.done = cancel, done
	go func() {
		defer close(done)
		for {
			changed := a.FoldersChanged()
			for _, m := range a.listOpened() {
				m.refresh(ctx) // an error comes to light when a session asks
			}
			select {
			case <-changed: // while it was asked for: more may follow
				time.Sleep(refreshPause)
			default:
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}()
}

func (a *imapAccount) listOpened() []*mailbox {
	a.mu.Lock()
	defer a.mu.Unlock()
	var l []*mailbox
	for _, m := range a.opened {
		l = append(l, m)
	}
	return l
}

// mailbox is the one truth about a folder that all sessions share: which messages it has
// and their flags. It holds 32 bytes for each message, and no contents.
type mailbox struct {
	acc   *account.Account
	id    int64
	users int // guarded by imapAccount.mu

	refreshing sync.Mutex // one question to the database at a time; taken before mu
	changed    <-chan struct{}
	at         uint64 // the account's counter, as of the last question

	mu       sync.Mutex
	rows     []row    // ascending by uid
	uids     []uint32 // of rows. It grows in place and is replaced when messages go: sessions keep slices of it
	uidNext  uint32
	version  uint64        // rises with every change
	flagged  uint64        // the version of the last change of flags
	expunged uint64        // the version in which messages went last
	wake     chan struct{} // closed at the next change
	words    map[string]uint32
	sets     [][]string // sets of keywords, which rows number; it only grows
	recent   recent
}

// row is what is known of a message.
type row struct {
	uid     uint32
	size    uint32
	words   uint32 // of mailbox.sets
	flags   account.Flag
	date    int64  // seconds
	changed uint64 // the version in which the flags changed last
}

// stale reports whether something may have changed since the last question.
func (m *mailbox) stale() bool {
	if m.changed == nil {
		return true
	}
	select {
	case <-m.changed:
		return true
	default:
		return false
	}
}

// refresh asks the account what changed, if anything did. It costs no question to the
// database otherwise.
func (m *mailbox) refresh(ctx context.Context) error {
	m.refreshing.Lock()
	defer m.refreshing.Unlock()
	if !m.stale() {
		return nil
	}
	changed := m.acc.FoldersChanged() // before the question: what comes after it is seen the next time
	news, err := m.acc.FolderChanges(ctx, m.id, m.at)
	if errors.Is(err, account.ErrNotFound) {
		news, err = account.FolderChanges{At: m.at, Reset: true, UIDNext: m.uidNext}, nil // the folder was deleted
	}
	if err != nil {
		return err
	}
	m.changed, m.at = changed, news.At
	m.mu.Lock()
	defer m.mu.Unlock()
	m.uidNext = news.UIDNext
	if m.apply(news) {
		close(m.wake)
		m.wake = make(chan struct{})
	}
	return nil
}

// apply takes in what changed and reports whether anything did.
func (m *mailbox) apply(news account.FolderChanges) bool {
	version := m.version + 1
	any := false
	if news.Reset {
		any = m.keepOnly(news.Places, version)
	}
	for _, p := range news.Places {
		any = m.put(p, version) || any
	}
	any = m.remove(news.Expunged, version) || any
	if any {
		m.version = version
	}
	return any
}

// put adds a message, or changes its flags.
func (m *mailbox) put(p account.Place, version uint64) bool {
	r := row{uid: p.UID, size: uint32(min(p.Size, 1<<32-1)), words: m.intern(p.Keywords), flags: p.Flags, date: p.Date.Unix()}
	n := len(m.rows)
	if n == 0 || m.rows[n-1].uid < p.UID {
		m.rows, m.uids = append(m.rows, r), append(m.uids, p.UID)
		return true
	}
	i, ok := m.find(p.UID)
	if !ok { // not reached as long as UIDs are given in the order of commits
		m.rows, m.uids = slices.Insert(slices.Clone(m.rows), i, r), slices.Insert(slices.Clone(m.uids), i, p.UID)
		return true
	}
	if old := &m.rows[i]; old.flags != r.flags || old.words != r.words {
		old.flags, old.words, old.changed, m.flagged = r.flags, r.words, version, version
		return true
	}
	return false
}

func (m *mailbox) remove(uids []uint32, version uint64) bool {
	gone := make(map[uint32]bool, len(uids))
	for _, uid := range uids {
		if _, ok := m.find(uid); ok {
			gone[uid] = true
		}
	}
	return m.drop(version, func(uid uint32) bool { return gone[uid] }, len(gone))
}

// keepOnly removes all but those.
func (m *mailbox) keepOnly(places []account.Place, version uint64) bool {
	there := make(map[uint32]bool, len(places))
	for _, p := range places {
		there[p.UID] = true
	}
	n := 0
	for _, uid := range m.uids {
		if !there[uid] {
			n++
		}
	}
	return m.drop(version, func(uid uint32) bool { return !there[uid] }, n)
}

func (m *mailbox) drop(version uint64, gone func(uint32) bool, n int) bool {
	if n == 0 {
		return false
	}
	rows, uids := make([]row, 0, len(m.rows)-n), make([]uint32, 0, len(m.uids)-n)
	for _, r := range m.rows {
		if !gone(r.uid) {
			rows, uids = append(rows, r), append(uids, r.uid)
		}
	}
	m.rows, m.uids, m.expunged = rows, uids, version
	return true
}

// find returns where the message with a uid is or would be; m.mu is held.
func (m *mailbox) find(uid uint32) (int, bool) {
	return sort.Find(len(m.rows), func(i int) int { return int(int64(uid) - int64(m.rows[i].uid)) })
}

// intern numbers a set of keywords.
func (m *mailbox) intern(words []string) uint32 {
	if len(words) == 0 {
		return 0
	}
	key := strings.Join(words, " ")
	n, ok := m.words[key]
	if !ok {
		n = uint32(len(m.sets))
		m.words[key], m.sets = n, append(m.sets, slices.Clone(words))
	}
	return n
}

// waker returns a channel that is closed at the next change after version.
func (m *mailbox) waker(version uint64) <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.version != version {
		ready := make(chan struct{})
		close(ready)
		return ready
	}
	return m.wake
}

// treeCache keeps the parts of the large messages that were looked at last, since finding
// them means reading the message. A message never changes.
type treeCache struct {
	mu   sync.Mutex
	list []cachedTree // the oldest first
}

type treeKey struct {
	folder int64
	uid    uint32
}

type cachedTree struct {
	treeKey
	root *part
}

// maxTrees is how many are kept; those of a thousand parts have some 300 KB.
const maxTrees = 16

func (c *treeCache) get(key treeKey) *part {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.list {
		if t.treeKey == key {
			return t.root
		}
	}
	return nil
}

func (c *treeCache) put(key treeKey, root *part) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.list) == maxTrees {
		c.list = slices.Delete(c.list, 0, 1)
	}
	c.list = append(c.list, cachedTree{key, root})
}
