// Package storetest states what a node's store must do, as a suite of tests that any
// implementation can be put to: [Run]. Only what the methods promise is tested, so a
// second store (of another database, or in memory) would have to pass it as it is.
package storetest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/mesh"
	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
)

// Store is the store under test. See package store for what the methods promise.
type Store interface {
	PutEnvelopes(ctx context.Context, arrivals []envelope.Arrival) ([]envelope.Outcome, error)
	Envelope(id envelope.ID) ([]byte, error)
	HasEnvelope(id envelope.ID) bool
	Ends(ids []envelope.ID) (map[envelope.ID]passport.Time, error)
	Missing(ids []envelope.ID) []envelope.ID
	Envelopes(after envelope.ID, fn func(envelope.Meta) bool) error
	Window(from, to passport.Time, fn func(expires passport.Time, id envelope.ID) bool) error
	OwnEnvelopes(fn func(id envelope.ID, expires passport.Time) bool) error
	AddMatches(ctx context.Context, ids []envelope.ID, matches [][]envelope.Match) error
	ExpireEnvelopes(ctx context.Context, now passport.Time, limit int) (int, error)

	Generation() uint64
	Deliveries(user passport.ID, after uint64, limit int) ([]envelope.Delivery, error)
	LastNumber(user passport.ID) (uint64, error)
	Acknowledge(ctx context.Context, user passport.ID, device noise.PublicKey, numbers []uint64) error
	AcknowledgedBy(user passport.ID, number uint64) ([]noise.PublicKey, error)
	Unacknowledged(user passport.ID, h envelope.Handle) (uint64, error)

	PutTagKeys(ctx context.Context, user passport.ID, keys []envelope.TagKey) error
	DeleteTagKeys(ctx context.Context, user passport.ID, handles []envelope.Handle) error
	TagKeys(fn func(user passport.ID, k envelope.TagKey) bool) error
	ExpireTagKeys(ctx context.Context, before uint32) error

	PutPassport(ctx context.Context, p *passport.Passport) (changed bool, err error)
	Passport(id passport.ID) (*passport.Passport, error)
	PassportOf(key noise.PublicKey) (passport.ID, bool)
	PassportsChanged(after uint64, fn func(n uint64, id passport.ID) bool) error
	LastPassportChange() uint64
	PassportTips(fn func(passport.ID, passport.Hash) bool) error
	Forks(fn func(*passport.ForkError) bool) error

	PutStatements(ctx context.Context, statements [][]byte) error
	Statements() ([][]byte, error)
	SetMesh(ctx context.Context, id mesh.ID, secret mesh.Secret, founder []byte, statements ...[]byte) error
	Mesh() (id mesh.ID, secret mesh.Secret, founder []byte, ok bool, err error)

	PutUser(ctx context.Context, name string, added time.Time) error
	DeleteUser(ctx context.Context, name string) error
	HasUser(name string) (bool, error)
	Users(fn func(name string, added time.Time) bool) error
	PutPeer(ctx context.Context, peer noise.PublicKey, addresses []string, seen passport.Time) error
	DeletePeer(ctx context.Context, peer noise.PublicKey) error
	Peers(fn func(peer noise.PublicKey, addresses []string, seen passport.Time) bool) error
	PutToken(ctx context.Context, kind byte, t mesh.Token, uses uint32, end passport.Time) error
	TakeToken(ctx context.Context, kind byte, hash [32]byte) (bool, error)

	FreshStamp(ctx context.Context, kind byte, peer noise.PublicKey, stamp uint64) (bool, error)
	NextStamp() (uint64, error)
	PutCustody(ctx context.Context, member noise.PublicKey, ids []envelope.ID) error
	DropCustody(ctx context.Context, member noise.PublicKey, ids []envelope.ID) error
	Custody(id envelope.ID) int
	Holders(id envelope.ID) ([]noise.PublicKey, error)

	Verify(ctx context.Context, problem func(string)) error
	Close() error
}

// Opener opens the store in dir, or fails the test. It uses the real clock.
type Opener func(t *testing.T, dir string) Store

// Run runs the suite.
func Run(t *testing.T, open Opener) {
	for _, tt := range []struct {
		name string
		test func(*testing.T, *fixture)
	}{
		{"an envelope is stored once", testEnvelopes},
		{"a mailbox numbers each envelope once", testMailbox},
		{"an envelope ends unless a mailbox holds it", testExpiry},
		{"custody counts for own envelopes only", testCustody},
		{"windows are in the order of ends", testWindows},
		{"tag keys", testTagKeys},
		{"passports grow and never turn", testPassports},
		{"forks are proven and not followed", testForks},
		{"mesh and statements", testMesh},
		{"users and peers", testPeople},
		{"a token is used as often as it says", testTokens},
		{"a stamp is fresh once", testStamps},
		{"own stamps grow", testNextStamp},
		{"a write that is given up has no effect", testContext},
		{"any sequence of writes does what a model does", testModel},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := &fixture{t: t, open: open, dir: filepath.Join(t.TempDir(), "store")}
			f.Store = open(t, f.dir)
			defer func() { f.Close() }()
			tt.test(t, f)
			f.verify()
		})
	}
}

// fixture is a store in a directory that can be opened again.
type fixture struct {
	Store
	t    *testing.T
	open Opener
	dir  string
}

func (f *fixture) verify() {
	f.t.Helper()
	err := f.Verify(context.Background(), func(p string) { f.t.Errorf("verify: %s", p) })
	if err != nil {
		f.t.Fatal(err)
	}
}

// reopen closes the store and opens it again.
func (f *fixture) reopen() {
	f.t.Helper()
	if err := f.Close(); err != nil {
		f.t.Fatal(err)
	}
	f.Store = f.open(f.t, f.dir)
}

// crash goes on with what a killed process would leave: a copy of the files as they are
// now, without Close.
func (f *fixture) crash() {
	f.t.Helper()
	// Background work may remove files while they are copied, which no crash does; then
	// the files are others afterwards, and the copy is made again.
	dir := ""
	for before, after := "", f.files(); before != after; before, after = after, f.files() {
		dir = filepath.Join(f.t.TempDir(), "store")
		if err := copyDir(dir, f.dir); err != nil && !errors.Is(err, os.ErrNotExist) {
			f.t.Fatal(err)
		}
	}
	old := f.Store
	f.Store, f.dir = f.open(f.t, dir), dir
	if err := old.Close(); err != nil {
		f.t.Fatal(err)
	}
}

// files returns the names of all files.
func (f *fixture) files() string {
	list, err := os.ReadDir(f.dir)
	ok(f.t, err)
	return fmt.Sprint(list)
}

func copyDir(to, from string) error {
	files, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(to, 0o700); err != nil {
		return err
	}
	for _, file := range files {
		if err := copySparse(filepath.Join(to, file.Name()), filepath.Join(from, file.Name())); err != nil {
			return err
		}
	}
	return nil
}

// copySparse leaves out what is zero: log files are some hundred MiB, most of it holes.
func copySparse(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer out.Close()
	buf, zero, size := make([]byte, 1<<16), make([]byte, 1<<16), int64(0)
	for {
		n, err := io.ReadFull(in, buf)
		if n > 0 && !bytes.Equal(buf[:n], zero[:n]) {
			if _, err := out.WriteAt(buf[:n], size); err != nil {
				return err
			}
		}
		size += int64(n)
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return out.Truncate(size)
		}
		if err != nil {
			return err
		}
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Hour returns the full hour that is h hours after this one.
func Hour(h int) passport.Time {
	return passport.TimeOf(time.Now())/3600*3600 + passport.Time(h*3600)
}

// NewEnvelope returns an envelope of a size class with random content, which no key fits.
func NewEnvelope(r *rand.Rand, class int, expires passport.Time) *envelope.Envelope {
	e := &envelope.Envelope{Expires: expires, Sealed: make([]byte, envelope.Sizes[class])}
	fill(r, e.Sealed)
	fill(r, e.Tag[:])
	return e
}

// Random returns a source of random values that is the same in each run.
func Random(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }

func fill(r *rand.Rand, b []byte) {
	for len(b) >= 8 {
		binary.LittleEndian.PutUint64(b, r.Uint64())
		b = b[8:]
	}
	for i := range b {
		b[i] = byte(r.Uint32())
	}
}

func user(n byte) passport.ID        { return passport.ID{0: n, 15: 1} }
func device(n byte) noise.PublicKey  { return noise.PublicKey{0: n, 31: 1} }
func handle(n byte) envelope.Handle  { return envelope.Handle{0: n, 15: 1} }
func match(u, h byte) envelope.Match { return envelope.Match{User: user(u), Handle: handle(h)} }
func ids(e ...*envelope.Envelope) (l []envelope.ID) {
	for _, e := range e {
		l = append(l, e.ID())
	}
	return l
}
