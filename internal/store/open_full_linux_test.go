package store_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/store"
	"github.com/asmtp/asmtp/internal/store/storetest"
	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
)

// TestOpenedOnAFullDisk: what a killed process left in memtables is written out as soon as
// the store is opened. What is allocated ahead meanwhile, for collecting garbage and for
// small records, must leave room for it, however little there is.
func TestOpenedOnAFullDisk(t *testing.T) {
	if dir := os.Getenv("ASMTP_TEST_OPEN"); dir != "" {
		openFull(t, dir)
		return
	}
	if testing.Short() {
		t.Skip("fills a disk of 200 MiB")
	}
	disk := smallDisk(t, 200)
	dir, foreign := filepath.Join(disk, "store"), filepath.Join(disk, "foreign")
	for leave := int64(8); leave <= 20; leave += 4 {
		os.RemoveAll(dir)
		os.Remove(foreign)
		if out, err := child(t, dir, -1); err == nil {
			t.Fatalf("the child was not killed: %s", out)
		}
		os.Remove(filepath.Join(dir, "ballast"))
		take(t, foreign, leave<<20)
		if out, err := child(t, dir, leave); err != nil {
			t.Errorf("with %d MiB: %v\n%.3000s", leave, err, out)
		}
	}
}

// child runs openFull in another process.
func child(t *testing.T, dir string, leave int64) ([]byte, error) {
	c := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestOpenedOnAFullDisk$")
	c.Env = append(os.Environ(), "ASMTP_TEST_OPEN="+dir, fmt.Sprintf("ASMTP_TEST_LEAVE=%d", leave))
	return c.CombinedOutput()
}

// take leaves so many bytes of a disk free.
func take(t *testing.T, path string, leave int64) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	if err := unix.Fallocate(int(f.Fd()), 0, 0, int64(st.Bavail)*st.Bsize-leave); err != nil {
		t.Fatal(err)
	}
}

// openFull fills a store and is killed, or opens it with little room and does all that a node
// does then.
func openFull(t *testing.T, dir string) {
	s, err := store.Open(dir, store.Options{Members: func() int { return 1 }})
	if errors.Is(err, store.ErrDiskFull) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if os.Getenv("ASMTP_TEST_LEAVE") == "-1" {
		f := &filler{t: t, s: s, stored: map[envelope.ID]*envelope.Envelope{}}
		f.fill(1, 3, func(envelope.Outcome, error) bool {
			f.mu.Lock()
			defer f.mu.Unlock()
			return len(f.stored) > 2500
		})
		if n, err := s.ExpireEnvelopes(ctx, storetest.Hour(8), 1_000_000); err != nil {
			t.Fatal(n, err)
		}
		unix.Kill(os.Getpid(), unix.SIGKILL)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for range 5 {
			refused(t, s.Compact(ctx))
		}
	})
	for w := range 4 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(w)))
			for i := range 3000 {
				_, err := s.FreshStamp(ctx, 1, noise.PublicKey{byte(w), byte(i), byte(i >> 8)}, uint64(i)+1)
				refused(t, err)
				refused(t, s.PutTagKeys(ctx, passport.ID{byte(i), byte(i >> 8), byte(w)}, []envelope.TagKey{{}}))
				_, err = s.PutEnvelopes(ctx, []envelope.Arrival{{Envelope: storetest.NewEnvelope(r, 0, storetest.Hour(300))}})
				refused(t, err)
			}
		})
	}
	wg.Wait()
	verify(t, s)
	refused(t, s.Close())
}

// refused fails the test unless something was done or had no room.
func refused(t *testing.T, err error) {
	t.Helper()
	if err != nil && !errors.Is(err, store.ErrDiskFull) {
		t.Error(err)
	}
}

// TestAllocatingLeavesRoom: what is allocated ahead for the next transactions is not taken
// from what tables that are written out meanwhile need: a node was ended by SIGBUS that was
// started when another program had just left 14 MB of its disk.
func TestAllocatingLeavesRoom(t *testing.T) {
	disk := smallDisk(t, 200)
	dir, foreign := filepath.Join(disk, "store"), filepath.Join(disk, "foreign")
	for leave := int64(13); leave <= 29; leave += 4 {
		os.RemoveAll(dir)
		os.Remove(foreign)
		s := open(t, dir, store.Options{})
		if err := s.PutTagKeys(ctx, passport.ID{1}, []envelope.TagKey{{}}); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		take(t, foreign, leave<<20)
		s = open(t, dir, store.Options{})
		_, err := s.PutEnvelopes(ctx, []envelope.Arrival{{Envelope: storetest.NewEnvelope(rand.New(rand.NewPCG(1, 1)), 0, storetest.Hour(300))}})
		refused(t, err)
		space, err := s.Space()
		if err != nil || space.Free < space.Floor {
			t.Errorf("of %d MiB only %d KiB are free, and tables may need %d KiB (%v)", leave, space.Free>>10, space.Floor>>10, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
