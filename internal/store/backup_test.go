package store_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/store"
	"github.com/asmtp/asmtp/internal/store/storetest"
	"github.com/asmtp/asmtp/mesh"
	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
)

// fillStore puts something of most kinds into a store.
func fillStore(t testing.TB, s *store.Store) (envs []*envelope.Envelope) {
	t.Helper()
	r := storetest.Random(7)
	user := passport.ID{1}
	for i := range 40 {
		e := storetest.NewEnvelope(r, i%4, storetest.Hour(9))
		a := envelope.Arrival{Envelope: e}
		if i%3 > 0 {
			a.From = noise.PublicKey{byte(i % 3)}
		}
		if i%5 == 0 {
			a.Matches = []envelope.Match{{User: user, Handle: envelope.Handle{1}}}
		}
		put(t, s, a)
		envs = append(envs, e)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(s.Acknowledge(ctx, user, noise.PublicKey{7}, []uint64{1}))
	must(s.PutUser(ctx, "someone", time.Now()))
	must(s.SetMesh(ctx, mesh.ID{1}, mesh.Secret{2}, nil, []byte("statement")))
	must(s.PutPeer(ctx, noise.PublicKey{3}, []string{"node.example:9800"}, 5))
	must(s.PutTagKeys(ctx, user, []envelope.TagKey{{Epoch: 3, Handle: envelope.Handle{1}}}))
	must(s.PutCustody(ctx, noise.PublicKey{9}, []envelope.ID{envs[0].ID()}))
	must(s.PutToken(ctx, 1, mesh.Token{4}, 5, passport.TimeOf(time.Unix(2_000_000_000, 0))))
	_, err := s.FreshStamp(ctx, 2, noise.PublicKey{3}, 77)
	must(err)
	return envs
}

func put(t testing.TB, s *store.Store, a ...envelope.Arrival) []envelope.Outcome {
	t.Helper()
	o, err := s.PutEnvelopes(ctx, a)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func backup(t testing.TB, s *store.Store) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := s.Backup(ctx, &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestRestoreBringsBackEverythingInANewLife(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	o := store.Options{Now: func() time.Time { return now }}
	old := open(t, t.TempDir(), o)
	defer old.Close()
	envs := fillStore(t, old)
	if _, err := old.NextStamp(); err != nil {
		t.Fatal(err)
	}
	b := backup(t, old)
	// The old node goes on after the backup.
	stamp := uint64(0)
	for range 100 {
		now = now.Add(time.Second)
		n, err := old.NextStamp()
		if err != nil {
			t.Fatal(err)
		}
		stamp = n
	}
	now = now.Add(-time.Hour) // on a machine whose clock is late

	dir := filepath.Join(t.TempDir(), "store")
	if err := store.Restore(ctx, dir, bytes.NewReader(b), o); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir, o)
	defer s.Close()
	verify(t, s)
	for _, e := range envs {
		if body, err := s.Envelope(e.ID()); err != nil || !bytes.Equal(body, e.Bytes()) {
			t.Errorf("envelope %s: %v", e.ID().Short(), err)
		}
	}
	if u1, err := old.Usage(); err != nil {
		t.Error(err)
	} else if u2, err := s.Usage(); err != nil || u1 != u2 {
		t.Errorf("usage %+v (%v), was %+v", u2, err, u1)
	}
	if s.Generation() == old.Generation() || s.Generation() == 0 {
		t.Errorf("generation %d, was %d", s.Generation(), old.Generation())
	}
	if n, err := s.NextStamp(); err != nil || n <= stamp {
		t.Errorf("stamp %d after the old node's %d (%v)", n, stamp, err)
	}
	if ok, err := s.TakeToken(ctx, 1, mesh.Token{4}.Hash()); ok || err != nil {
		t.Errorf("a token can be used again: %v, %v", ok, err)
	}
	if fresh, err := s.FreshStamp(ctx, 2, noise.PublicKey{3}, 77); fresh || err != nil {
		t.Errorf("a stamp is fresh again: %v, %v", fresh, err)
	}
	if d, err := s.Deliveries(passport.ID{1}, 0, 100); err != nil || len(d) != 8 {
		t.Errorf("%d in the mailbox (%v), want 8", len(d), err)
	}
	if again := backup(t, s); len(again) != len(b) {
		t.Errorf("backup of the restored store has %d bytes, the first had %d", len(again), len(b))
	}
}

// TestBrokenBackupIsRefused: cut off anywhere, or with any byte altered, it leaves nothing.
func TestBrokenBackupIsRefused(t *testing.T) {
	s := open(t, t.TempDir(), store.Options{})
	put(t, s, envelope.Arrival{Envelope: storetest.NewEnvelope(storetest.Random(1), 0, storetest.Hour(3))})
	b := backup(t, s)
	s.Close()
	parent := t.TempDir()
	dir := filepath.Join(parent, "store")
	refused := func(what string, b []byte) {
		t.Helper()
		if err := store.Restore(ctx, dir, bytes.NewReader(b), store.Options{}); err == nil {
			t.Fatalf("%s: restored", what)
		}
		if files, err := os.ReadDir(parent); err != nil || len(files) != 0 {
			t.Fatalf("%s: %v is left (%v)", what, files, err)
		}
	}
	for i := 0; i < len(b); i += 1 + len(b)/40 {
		refused("cut off", b[:i])
		altered := slices.Clone(b)
		altered[i] ^= 0x10
		refused("altered", altered)
	}
	refused("longer", append(slices.Clone(b), 0))
}

func TestRestoreTouchesNoStore(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, store.Options{})
	fillStore(t, s)
	b, generation := backup(t, s), s.Generation()
	s.Close()
	if err := store.Restore(ctx, dir, bytes.NewReader(b), store.Options{}); err == nil {
		t.Error("restored over a store")
	}
	s = open(t, dir, store.Options{})
	defer s.Close()
	if s.Generation() != generation {
		t.Error("the store that was there is another one")
	}
	verify(t, s)
}

func TestBackupOfALaterProgramIsRefusedByName(t *testing.T) {
	for _, at := range []int{15, 19} { // version, schema
		s := open(t, t.TempDir(), store.Options{})
		b := backup(t, s)
		s.Close()
		b[at]++
		err := store.Restore(ctx, filepath.Join(t.TempDir(), "s"), bytes.NewReader(b), store.Options{})
		if !errors.Is(err, store.ErrNewer) {
			t.Errorf("byte %d: %v", at, err)
		}
	}
}

// FuzzReadBackup: what is accepted is written again as it was; nothing else may happen than
// an error, and no more is allocated than the input has bytes.
func FuzzReadBackup(f *testing.F) {
	s := open(f, f.TempDir(), store.Options{})
	f.Add(backup(f, s))
	put(f, s, envelope.Arrival{Envelope: storetest.NewEnvelope(storetest.Random(1), 0, storetest.Hour(3))})
	f.Add(backup(f, s))
	s.Close()
	f.Add([]byte("asmtp store\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, fix := range []bool{false, true} {
			if fix && len(b) >= 32 { // else hardly anything gets past the checksum
				sum := sha256.Sum256(b[:len(b)-32])
				b = append(slices.Clone(b[:len(b)-32]), sum[:]...)
			}
			if again, err := store.Reread(b); err == nil && !bytes.Equal(again, b) {
				t.Errorf("%x was read as %x", b, again)
			}
		}
	})
}
