package store_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/store"
	"github.com/asmtp/asmtp/internal/store/storetest"
	"github.com/asmtp/asmtp/passport"
)

func TestMain(m *testing.M) {
	// glog's daemon comes with ristretto's package and cannot be stopped.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/golang/glog.(*fileSink).flushDaemon"))
}

var ctx = context.Background()

func open(t testing.TB, dir string, o store.Options) *store.Store {
	t.Helper()
	s, err := store.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func verify(t testing.TB, s *store.Store) {
	t.Helper()
	if err := s.Verify(ctx, func(p string) { t.Errorf("verify: %s", p) }); err != nil {
		t.Fatal(err)
	}
}

func TestStoreMeetsContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T, dir string) storetest.Store {
		return open(t, dir, store.Options{})
	})
}

func TestSecondOpenSaysWhoHasIt(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, store.Options{})
	defer s.Close()
	_, err := store.Open(dir, store.Options{})
	if !errors.Is(err, store.ErrLocked) || !strings.Contains(err.Error(), "another asmtpd is running on "+dir) {
		t.Errorf("second open: %v", err)
	}
}

func TestNewerSchemaIsRefused(t *testing.T) {
	dir := t.TempDir()
	open(t, dir, store.Options{}).Close()
	if err := store.SetSchema(dir, 2); err != nil {
		t.Fatal(err)
	}
	_, err := store.Open(dir, store.Options{})
	if !errors.Is(err, store.ErrNewer) || !strings.Contains(err.Error(), "format 2") {
		t.Errorf("open of a newer store: %v", err)
	}
	if err := store.SetSchema(dir, 1); err != nil { // it was closed and not touched
		t.Fatal(err)
	}
	open(t, dir, store.Options{}).Close()
}

func TestCallsAfterCloseFail(t *testing.T) {
	s := open(t, t.TempDir(), store.Options{})
	inside := s.PutUser(ctx, "aa", time.Now())
	s.Close()
	_, err := s.Users, s.Users(func(string, time.Time) bool { return true })
	for _, err := range []error{err, s.PutUser(ctx, "bb", time.Now()), s.Close()} {
		if !errors.Is(err, store.ErrClosed) {
			t.Errorf("after close: %v", err)
		}
	}
	if inside != nil {
		t.Error(inside)
	}
}

// TestHandleOverItsLimitIsNotDelivered: one contact cannot fill a mailbox nobody reads.
func TestHandleOverItsLimitIsNotDelivered(t *testing.T) {
	s := open(t, t.TempDir(), store.Options{HandleLimit: 2500})
	defer s.Close()
	r := storetest.Random(1)
	user, flood, friend := passport.ID{1}, envelope.Handle{1}, envelope.Handle{2}
	put := func(h envelope.Handle) {
		t.Helper()
		e := storetest.NewEnvelope(r, 0, storetest.Hour(9))
		fresh, err := s.PutEnvelopes(ctx, []envelope.Arrival{{Envelope: e, Matches: []envelope.Match{{User: user, Handle: h}}}})
		if err != nil || !fresh[0] || !s.HasEnvelope(e.ID()) {
			t.Fatalf("put: %v, %v", fresh, err)
		}
	}
	want := func(n int) {
		t.Helper()
		if d, err := s.Deliveries(user, 0, 100); err != nil || len(d) != n {
			t.Errorf("%d in the mailbox (%v), want %d", len(d), err, n)
		}
	}
	for range 4 {
		put(flood)
	}
	want(2)
	put(friend)
	want(3)
	if err := s.Acknowledge(ctx, user, [32]byte{7}, []uint64{1}); err != nil {
		t.Fatal(err)
	}
	put(flood)
	put(flood)
	want(4)
	verify(t, s)
}

// TestRefusedWriteHarmsNoOther: in a batch in which some writes are refused, the others
// are stored, and nothing of the refused ones is.
func TestRefusedWriteHarmsNoOther(t *testing.T) {
	s := open(t, t.TempDir(), store.Options{})
	defer s.Close()
	var wg sync.WaitGroup
	for i := range 300 {
		wg.Go(func() {
			if i%3 == 0 {
				if err := s.DeleteUser(ctx, fmt.Sprint("nobody", i)); !errors.Is(err, store.ErrNotFound) {
					t.Errorf("delete: %v", err)
				}
			} else if err := s.PutUser(ctx, fmt.Sprint("user", i), time.Now()); err != nil {
				t.Errorf("put: %v", err)
			}
		})
	}
	wg.Wait()
	n := 0
	if err := s.Users(func(string, time.Time) bool { n++; return true }); err != nil || n != 200 {
		t.Errorf("%d users (%v), want 200", n, err)
	}
}

// TestBatchLargerThanATransaction: what waits at once and does not fit into one
// transaction of Badger is split; a single write that does not fit is refused whole.
func TestBatchLargerThanATransaction(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "s"), store.Options{})
	defer s.Close()
	r := storetest.Random(2)
	var wg sync.WaitGroup
	for range 40 {
		var arrivals []envelope.Arrival
		for range 100 { // 300 records each, 12,000 in all
			arrivals = append(arrivals, envelope.Arrival{Envelope: storetest.NewEnvelope(r, 0, storetest.Hour(3))})
		}
		wg.Go(func() {
			if fresh, err := s.PutEnvelopes(ctx, arrivals); err != nil || slices.Contains(fresh, false) {
				t.Errorf("put: %v", err)
			}
		})
	}
	wg.Wait()
	if u, err := s.Usage(); err != nil || u.Small.Count != 4000 || u.Small.Bytes != 4000*1045 || u.Large.Count != 0 {
		t.Errorf("usage %+v, %v", u, err)
	}
	tooMany := make([][]byte, 20000)
	for i := range tooMany {
		tooMany[i] = fmt.Append(nil, "statement ", i)
	}
	if err := s.PutStatements(ctx, tooMany); !errors.Is(err, store.ErrTooLarge) {
		t.Errorf("20,000 records in one write: %v", err)
	}
	if list, err := s.Statements(); err != nil || len(list) != 0 {
		t.Errorf("%d statements of the refused write are there (%v)", len(list), err)
	}
	verify(t, s)
}

// TestStampsNeverRepeatWhenTheClockGoesBack also shows that most stamps need no write.
func TestStampsNeverRepeatWhenTheClockGoesBack(t *testing.T) {
	dir := t.TempDir()
	now := time.Unix(1_800_000_000, 0)
	o := store.Options{Now: func() time.Time { return now }}
	var last uint64
	for range 3 {
		s := open(t, dir, o)
		for range 1000 {
			n, err := s.NextStamp()
			if err != nil || n <= last {
				t.Fatalf("stamp %d after %d (%v)", n, last, err)
			}
			last = n
		}
		s.Close()
		now = now.Add(-time.Hour)
	}
}

// TestVerifyFindsDamage: each kind of record, when missing, is noticed.
func TestVerifyFindsDamage(t *testing.T) {
	for _, kind := range []byte("bexmMhd") {
		t.Run(string(kind), func(t *testing.T) {
			s := open(t, t.TempDir(), store.Options{})
			defer s.Close()
			user := passport.ID{1}
			r := storetest.Random(3)
			for range 2 {
				e := storetest.NewEnvelope(r, 0, storetest.Hour(9))
				m := []envelope.Match{{User: user, Handle: envelope.Handle{1}}}
				if _, err := s.PutEnvelopes(ctx, []envelope.Arrival{{Envelope: e, Matches: m}}); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.Acknowledge(ctx, user, [32]byte{7}, []uint64{1}); err != nil {
				t.Fatal(err)
			}
			verify(t, s)
			if kind == 'd' { // a record that nothing else counts: leave it without its entry
				kind = 'm'
			}
			if err := s.Drop(kind); err != nil {
				t.Fatal(err)
			}
			n := 0
			if err := s.Verify(ctx, func(string) { n++ }); err != nil || n == 0 {
				t.Errorf("%d problems found (%v)", n, err)
			}
		})
	}
}

// TestNothingIsAcknowledgedAfterAFailedSync: not the write whose sync failed, and none
// that comes after it.
func TestNothingIsAcknowledgedAfterAFailedSync(t *testing.T) {
	s := open(t, t.TempDir(), store.Options{})
	defer s.Close()
	if err := s.PutUser(ctx, "aa", time.Now()); err != nil {
		t.Fatal(err)
	}
	s.Fail()
	for _, name := range []string{"bb", "cc"} {
		if err := s.PutUser(ctx, name, time.Now()); !errors.Is(err, store.ErrFailed) {
			t.Errorf("write after the failure: %v", err)
		}
	}
	if ok, err := s.HasUser("aa"); !ok || err != nil {
		t.Errorf("reading after the failure: %v, %v", ok, err)
	}
}
