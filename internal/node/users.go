package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
)

// userStore is what users needs of the store.
type userStore interface {
	PutUser(ctx context.Context, name string, added time.Time) error
	DeleteUser(ctx context.Context, name string) error
	HasUser(name string) (bool, error)
	Users(fn func(name string, added time.Time) bool) error
	PassportOf(noise.PublicKey) (passport.ID, bool)
	Passport(passport.ID) (*passport.Passport, error)
}

// users decides which devices may use the node. A user is the name of a passport or of
// a device key; names come from the configuration's file and, at run time, into the
// store. A device whose key was removed from its passport may not connect, even if its
// key is a name: the chain is newer than the list.
type users struct {
	store userStore
	now   func() time.Time
	log   *slog.Logger

	mu     sync.Mutex
	file   map[string]bool
	knocks []knock // oldest first
}

// knock is a key that was refused.
type knock struct {
	key  noise.PublicKey
	addr string
	at   time.Time
}

// maxKnocks bounds the keys that are remembered; a stranger can make as many as it likes.
const maxKnocks = 64

func newUsers(store userStore, file []string, now func() time.Time, log *slog.Logger) *users {
	u := &users{store: store, now: now, log: log}
	u.setFile(file)
	return u
}

// setFile replaces the names that come from the file.
func (u *users) setFile(names []string) {
	file := make(map[string]bool, len(names))
	for _, n := range names {
		file[strings.ToLower(n)] = true
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.file = file
}

// listed reports whether name is a user by file or store.
func (u *users) listed(name string) bool {
	u.mu.Lock()
	inFile := u.file[name]
	u.mu.Unlock()
	if inFile {
		return true
	}
	ok, err := u.store.HasUser(name)
	if err != nil {
		u.log.Error("users cannot be read; nobody is admitted by the store", "err", err)
	}
	return ok && err == nil
}

// User returns the passport of a device that may use the node and has published one.
func (u *users) User(key noise.PublicKey) (passport.ID, bool) {
	id, active := u.store.PassportOf(key)
	return id, active && (u.listed(id.String()) || u.listed(key.String()))
}

// Admitted reports whether a device may use the node now.
func (u *users) Admitted(key noise.PublicKey) bool {
	if _, ok := u.User(key); ok {
		return true
	}
	return u.listed(key.String()) && !u.removed(key)
}

// removed reports whether key once was, and is no longer, an active key of a passport
// that is a user. Only few keys get here: those that are names without being active.
func (u *users) removed(key noise.PublicKey) bool {
	names, err := u.names()
	if err != nil {
		u.log.Error("users cannot be read; the device is not admitted", "err", err)
		return true
	}
	for _, n := range names {
		id, err := passport.ParseID(n.name)
		if err != nil {
			continue // a device key
		}
		p, err := u.store.Passport(id)
		if err != nil {
			continue // not published yet
		}
		if !p.IsActive(key) && registered(p, key) {
			return true
		}
	}
	return false
}

// registered reports whether a block of p registers key.
func registered(p *passport.Passport, key noise.PublicKey) bool {
	for _, b := range p.Blocks() {
		for _, e := range b.Entries() {
			if r, ok := e.(passport.Register); ok && r.Key == key {
				return true
			}
		}
	}
	return false
}

// bringIn makes the passport, which key published and in which it is active, a user, so that its
// other devices may connect. A key that is a user only through that passport changes nothing.
func (u *users) bringIn(ctx context.Context, key noise.PublicKey, p *passport.Passport) error {
	if !p.IsActive(key) || u.listed(p.ID().String()) || !u.listed(key.String()) {
		return nil
	}
	return u.store.PutUser(ctx, p.ID().String(), u.now())
}

// named is a user and where it comes from.
type named struct {
	name  string
	file  bool
	added time.Time // zero for the file's
}

// names lists all users in the order of their names.
func (u *users) names() ([]named, error) {
	u.mu.Lock()
	list := make([]named, 0, len(u.file))
	for name := range u.file {
		list = append(list, named{name: name, file: true})
	}
	u.mu.Unlock()
	err := u.store.Users(func(name string, added time.Time) bool {
		list = append(list, named{name: name, added: added})
		return true
	})
	slices.SortFunc(list, func(a, b named) int { return strings.Compare(a.name, b.name) })
	return list, err
}

// add admits a user at run time.
func (u *users) add(ctx context.Context, name string) error {
	return u.store.PutUser(ctx, strings.ToLower(name), u.now())
}

// errInFile is the error for taking away what only the file can.
var errInFile = errors.New("the user stands in the configuration's file; remove it there and send the node SIGHUP")

// remove takes a user off the list of the store.
func (u *users) remove(ctx context.Context, name string) error {
	name = strings.ToLower(name)
	u.mu.Lock()
	inFile := u.file[name]
	u.mu.Unlock()
	if err := u.store.DeleteUser(ctx, name); err != nil && !inFile {
		return fmt.Errorf("remove user: %w", err)
	}
	if inFile {
		return errInFile
	}
	return nil
}

// knocked remembers a key that was refused for not being a user.
func (u *users) knocked(key noise.PublicKey, addr string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.knocks = slices.DeleteFunc(u.knocks, func(k knock) bool { return k.key == key })
	if len(u.knocks) >= maxKnocks {
		u.knocks = slices.Delete(u.knocks, 0, 1)
	}
	u.knocks = append(u.knocks, knock{key, addr, u.now()})
}

// refused lists the keys that knocked and are still not admitted, oldest first.
func (u *users) refused() []knock {
	u.mu.Lock()
	list := slices.Clone(u.knocks)
	u.mu.Unlock()
	return slices.DeleteFunc(list, func(k knock) bool { return u.Admitted(k.key) })
}
