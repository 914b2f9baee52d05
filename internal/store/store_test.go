package store_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/store"
	"github.com/asmtp/asmtp/internal/store/storetest"
	"github.com/asmtp/asmtp/passport"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
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
	if err := store.SetSchema(dir, 3); err != nil {
		t.Fatal(err)
	}
	_, err := store.Open(dir, store.Options{})
	if !errors.Is(err, store.ErrNewer) || !strings.Contains(err.Error(), "format 3") {
		t.Errorf("open of a newer store: %v", err)
	}
	if err := store.SetSchema(dir, 2); err != nil { // it was closed and not touched
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
		if err != nil || !fresh[0].Fresh || !s.HasEnvelope(e.ID()) {
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
				if err := s.Refused(fmt.Sprint("nobody", i)); !errors.Is(err, store.ErrNotFound) {
					t.Errorf("refused write: %v", err)
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
// transaction of Badger is split; a single write that does not fit is refused whole and
// harms no other.
func TestBatchLargerThanATransaction(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "s"), store.Options{})
	defer s.Close()
	r := storetest.Random(2)
	var wg sync.WaitGroup
	for i := range 40 {
		var arrivals []envelope.Arrival
		for range 100 { // 40 of them have 16,000 records, a transaction may have 6,000
			e := storetest.NewEnvelope(r, 0, storetest.Hour(3))
			arrivals = append(arrivals, envelope.Arrival{Envelope: e, Matches: []envelope.Match{{User: passport.ID{byte(i)}}}})
		}
		wg.Go(func() {
			if fresh, err := s.PutEnvelopes(ctx, arrivals); err != nil || slices.Contains(fresh, envelope.Outcome{}) {
				t.Errorf("put: %v", err)
			}
		})
	}
	wg.Go(func() {
		if err := s.TooLarge("huge"); !errors.Is(err, store.ErrTooLarge) {
			t.Errorf("20,000 records in one write: %v", err)
		}
	})
	wg.Wait()
	if ok, err := s.HasUser("huge1"); ok || err != nil {
		t.Errorf("a record of the refused write is there (%v)", err)
	}
	if u, err := s.Usage(); err != nil || u.Own.Small != (store.Amount{Count: 4000, Bytes: 4000 * 1045}) || u.Total().Sum() != u.Own.Small {
		t.Errorf("usage %+v, %v", u, err)
	}
	verify(t, s)
}

// TestLargeCallsAreSplit: callers need not know what fits into a transaction.
func TestLargeCallsAreSplit(t *testing.T) {
	s := open(t, t.TempDir(), store.Options{})
	defer s.Close()
	r, user := storetest.Random(4), passport.ID{1}
	var arrivals []envelope.Arrival
	var numbers []uint64
	for i := range 3000 {
		m := []envelope.Match{{User: user}, {User: passport.ID{2}}}
		arrivals = append(arrivals, envelope.Arrival{Envelope: storetest.NewEnvelope(r, i%300/299*3, storetest.Hour(3)), Matches: m})
		numbers = append(numbers, uint64(i+1))
	}
	if _, err := s.PutEnvelopes(ctx, arrivals); err != nil {
		t.Error(err)
	}
	if err := s.Acknowledge(ctx, user, [32]byte{1}, numbers); err != nil {
		t.Error(err)
	}
	statements := make([][]byte, 8000)
	for i := range statements {
		statements[i] = fmt.Appendf(nil, "statement %0200d", i)
	}
	if err := s.SetMesh(ctx, [16]byte{1}, [32]byte{1}, nil, statements...); err != nil {
		t.Error(err)
	}
	if list, err := s.Statements(); err != nil || len(list) != len(statements) {
		t.Errorf("%d statements (%v)", len(list), err)
	}
	keys := make([]envelope.TagKey, 5000)
	for i := range keys {
		keys[i].Handle = envelope.Handle{byte(i), byte(i >> 8)}
	}
	if err := s.PutTagKeys(ctx, user, keys); err != nil {
		t.Error(err)
	}
	verify(t, s)
}

// TestRoomOfRemovedEnvelopesComesBack: without it a node fills its disk in some months.
func TestRoomOfRemovedEnvelopesComesBack(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 250 MiB")
	}
	dir := t.TempDir()
	s := open(t, dir, store.Options{})
	defer func() { s.Close() }()
	r := storetest.Random(5)
	for range 100 {
		var arrivals []envelope.Arrival
		for i := range 150 {
			arrivals = append(arrivals, envelope.Arrival{Envelope: storetest.NewEnvelope(r, 2+i%150/149, storetest.Hour(3))})
		}
		if _, err := s.PutEnvelopes(ctx, arrivals); err != nil {
			t.Fatal(err)
		}
	}
	full := used(t, dir)
	if _, err := s.ExpireEnvelopes(ctx, storetest.Hour(8), 1_000_000); err != nil {
		t.Fatal(err)
	}
	// A restart forgets what was counted; it must not let the garbage stay for ever.
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, store.Options{})
	left := full
	// Badger notes late which views have ended (its watermarks are goroutines), so one call
	// may find everything still in use; the next one, after some write, does not.
	for try := 0; try < 5 && left > full/2; try++ {
		if err := s.Compact(ctx); err != nil {
			t.Fatal(err)
		}
		left = used(t, dir)
		e := storetest.NewEnvelope(r, 0, storetest.Hour(9))
		if _, err := s.PutEnvelopes(ctx, []envelope.Arrival{{Envelope: e}}); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d MiB of %d MiB are left", left>>20, full>>20)
	if left > full/2 {
		t.Errorf("%d MiB of %d MiB are still taken after all envelopes were removed", left>>20, full>>20)
	}
	verify(t, s)
}

// TestCompactHarmsNoWrite: what is written and read while Compact runs is as ever.
func TestCompactHarmsNoWrite(t *testing.T) {
	s := open(t, t.TempDir(), store.Options{})
	defer s.Close()
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for i := range 8 {
		wg.Go(func() {
			r := storetest.Random(uint64(100 + i))
			for more := true; more; {
				e := storetest.NewEnvelope(r, 1, storetest.Hour(3))
				_, err := s.PutEnvelopes(ctx, []envelope.Arrival{{Envelope: e}})
				if body, err2 := s.Envelope(e.ID()); err != nil || err2 != nil || len(body) != 21+4096 {
					t.Errorf("put %v, read %d bytes, %v", err, len(body), err2)
					return
				}
				select {
				case <-stop:
					more = false
				default:
				}
			}
		})
	}
	for range 5 {
		s.PretendRemoved(1 << 40)
		if err := s.Compact(ctx); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	wg.Wait()
	verify(t, s)
}

// used returns the room that the files of dir take, holes not counted.
func used(t *testing.T, dir string) (n int64) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		var st unix.Stat_t
		if err := unix.Stat(filepath.Join(dir, f.Name()), &st); err == nil {
			n += st.Blocks * 512
		}
	}
	return n
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
	for _, kind := range []byte("bexmMhdow") {
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
			put(t, s, envelope.Arrival{Envelope: storetest.NewEnvelope(r, 0, storetest.Hour(9)), From: [32]byte{5}})
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
