package store_test

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/store"
	"github.com/asmtp/asmtp/internal/store/storetest"
	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
)

// smallDisk mounts an empty ext4 of so many MiB, of which root has nothing to itself.
func smallDisk(t *testing.T, mib int64) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting a small disk needs root")
	}
	image, dir := filepath.Join(t.TempDir(), "disk"), t.TempDir()
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, mib<<20); err != nil {
		t.Fatal(err)
	}
	for _, c := range [][]string{{"mkfs.ext4", "-q", "-m", "0", image}, {"mount", "-o", "loop", image, dir}} {
		if out, err := exec.CommandContext(t.Context(), c[0], c[1:]...).CombinedOutput(); err != nil {
			if os.Getenv("CI") != "true" {
				t.Skipf("%v: %v: %s", c, err, out)
			}
			t.Fatalf("%v: %v: %s", c, err, out)
		}
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	return dir
}

// filler puts envelopes into a store from several goroutines and remembers those that it
// said it has. One in two ends soon.
type filler struct {
	t       *testing.T
	s       *store.Store
	mu      sync.Mutex
	stored  map[envelope.ID]*envelope.Envelope
	refused atomic.Int64
}

func (f *filler) fill(seed uint64, classes int, until func(o envelope.Outcome, err error) bool) {
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(w)))
			for i := range 1_000_000 {
				var list []envelope.Arrival
				for j := range 8 {
					end := storetest.Hour(3)
					if j%2 == 0 {
						end = storetest.Hour(300)
					}
					list = append(list, envelope.Arrival{Envelope: storetest.NewEnvelope(r, r.IntN(classes), end), From: noise.PublicKey{byte(w)}})
				}
				list[0].From = noise.PublicKey{}
				if i%8 == 0 {
					list[1].Matches = []envelope.Match{{User: passport.ID{byte(w)}, Handle: envelope.Handle{1}}}
				}
				outcomes, err := f.s.PutEnvelopes(ctx, list)
				if errors.Is(err, store.ErrFailed) {
					f.t.Errorf("the store failed: %v", err)
					return
				}
				f.mu.Lock()
				for j, o := range outcomes {
					if o.Fresh {
						f.stored[list[j].Envelope.ID()] = list[j].Envelope
					}
				}
				f.mu.Unlock()
				var o envelope.Outcome
				if err == nil {
					o = outcomes[0]
				}
				if err != nil || o.Full != envelope.NotFull {
					f.refused.Add(1)
				}
				if until(o, err) {
					return
				}
			}
		})
	}
	wg.Wait()
}

func (f *filler) check() {
	f.t.Helper()
	for id, e := range f.stored {
		if body, err := f.s.Envelope(id); err != nil || !bytes.Equal(body, e.Bytes()) {
			f.t.Fatalf("an envelope that was stored cannot be read: %v", err)
		}
	}
	verify(f.t, f.s)
}

// hog takes what is left of a disk, as another program would.
func hog(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	zeros := make([]byte, 256<<10)
	for len(zeros) >= 4096 {
		if _, err := f.Write(zeros); err != nil {
			if !errors.Is(err, unix.ENOSPC) {
				t.Fatal(err)
			}
			zeros = zeros[:len(zeros)/2]
		}
	}
	f.Sync()
}

// atRest waits until no memtable is being written out any more. What another program may
// not take meanwhile, see space.go.
func atRest(t *testing.T, dir string) {
	t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.After(30 * time.Second); ; {
		memtables, err := filepath.Glob(filepath.Join(dir, "*.mem"))
		if err != nil {
			t.Fatal(err)
		}
		if len(memtables) == 1 {
			return
		}
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatalf("memtables that are not written out: %v", memtables)
		}
	}
}

// TestFullDiskIsRefusedAndSurvived: a disk that the store fills itself, and one that another
// program fills under it, end no process and lose nothing; what is removed makes room, and
// writing goes on by itself. A write into a mapped file on a full disk would be SIGBUS,
// which ends the whole test.
func TestFullDiskIsRefusedAndSurvived(t *testing.T) {
	if testing.Short() {
		t.Skip("fills a disk of 200 MiB")
	}
	for _, tt := range []struct {
		name    string
		mib     int64 // of the disk; small envelopes are many
		classes int
	}{{"small envelopes", 100, 2}, {"all sizes", 200, 4}} {
		t.Run(tt.name, func(t *testing.T) { fillDisk(t, tt.mib, tt.classes) })
	}
}

func fillDisk(t *testing.T, mib int64, classes int) {
	disk := smallDisk(t, mib)
	dir := filepath.Join(disk, "store")
	o := store.Options{Members: func() int { return 1 }}
	s := open(t, dir, o)
	defer func() { s.Close() }()
	f := &filler{t: t, s: s, stored: map[envelope.ID]*envelope.Envelope{}}
	f.fill(1, classes, func(o envelope.Outcome, err error) bool { return o.Full == envelope.FullDisk || err != nil })
	u, err := s.Usage()
	if err != nil {
		t.Fatal(err)
	}
	atRest(t, dir)
	space, _ := s.Space()
	t.Logf("full with %d envelopes, %d MiB, free %+v", u.Total().Sum().Count, u.Total().Sum().Bytes>>20, space)
	if u.Total().Sum().Bytes < mib<<20/6 {
		t.Errorf("a disk of %d MiB takes only %d MiB of envelopes", mib, u.Total().Sum().Bytes>>20)
	}

	// Another program takes the rest, while all goes on.
	foreign := filepath.Join(disk, "foreign")
	var filled atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.fill(2, classes, func(envelope.Outcome, error) bool { return filled.Load() && f.refused.Load() > 5000 })
	}()
	hog(t, foreign)
	filled.Store(true)
	<-done
	f.check()
	if err := s.PutTagKeys(ctx, passport.ID{1}, []envelope.TagKey{{}}); !errors.Is(err, store.ErrDiskFull) {
		t.Errorf("a write on the full disk: %v", err)
	}
	if fresh, err := s.FreshStamp(ctx, 1, noise.PublicKey{1}, 5); !fresh || err != nil {
		t.Errorf("nobody could connect on the full disk: %v, %v", fresh, err)
	}

	// A restart on the full disk.
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, o)
	f.s = s
	f.check()

	// What ends makes room.
	removeEnded(t, s)
	for id, e := range f.stored {
		if e.Expires == storetest.Hour(3) && !s.HasEnvelope(id) {
			delete(f.stored, id)
		}
	}
	f.check()
	before := len(f.stored)
	f.refused.Store(0)
	f.fill(3, classes, func(o envelope.Outcome, err error) bool { return o.Full == envelope.FullDisk || err != nil })
	t.Logf("%d more after expiry", len(f.stored)-before)
	if _, err := os.Stat(filepath.Join(dir, "ballast")); err != nil && len(f.stored)-before < 100 { // it comes first
		t.Errorf("only %d more envelopes after half of them ended, and no ballast", len(f.stored)-before)
	}
	f.check()
	if err := os.Remove(foreign); err != nil {
		t.Fatal(err)
	}
	if err := s.PutTagKeys(ctx, passport.ID{1}, []envelope.TagKey{{}}); err != nil {
		t.Errorf("a write when there is room again: %v", err)
	}
	verify(t, s)
	if err := s.Backup(ctx, io.Discard); err != nil {
		t.Error(err)
	}
}

// TestKilledOnAFullDisk: a process that ends while another program has filled the disk leaves
// a store that opens there, with everything it acknowledged, and that can make room.
func TestKilledOnAFullDisk(t *testing.T) {
	if dir := os.Getenv("ASMTP_TEST_FILL"); dir != "" {
		fillForEver(t, dir)
	}
	if testing.Short() {
		t.Skip("fills a disk of 200 MiB")
	}
	disk := smallDisk(t, 200)
	dir := filepath.Join(disk, "store")
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestKilledOnAFullDisk$")
	child.Env = append(os.Environ(), "ASMTP_TEST_FILL="+dir)
	if _, err := child.StdinPipe(); err != nil { // its end is the end of the child, also if this process is killed
		t.Fatal(err)
	}
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	var acknowledged []string
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if line := lines.Text(); len(line) == 64 { // the last may be cut off
			acknowledged = append(acknowledged, line)
		}
		if len(acknowledged) == 15_000 {
			go func() {
				hog(t, filepath.Join(disk, "foreign"))
				child.Process.Kill()
			}()
		}
	}
	child.Wait() // it was killed
	s := open(t, dir, store.Options{})
	defer func() { s.Close() }()
	for _, line := range acknowledged {
		b, err := hex.DecodeString(line)
		if err != nil {
			t.Fatal(err)
		}
		if !s.HasEnvelope(envelope.ID(b)) {
			t.Fatalf("envelope %s was acknowledged and is not there", line)
		}
	}
	verify(t, s)
	before, err := s.Space()
	if err != nil {
		t.Fatal(err)
	}
	removeEnded(t, s)
	if after, err := s.Space(); err != nil || after.Free <= before.Free || after.Free < after.Reserve {
		t.Errorf("free %d, %d before anything was removed (%v)", after.Free, before.Free, err)
	}
	t.Logf("%d acknowledged", len(acknowledged))
}

// fillForEver puts envelopes into a store and prints the ids of those that are stored, until
// its standard input ends.
func fillForEver(t *testing.T, dir string) {
	s := open(t, dir, store.Options{Members: func() int { return 1 }})
	for w := range 16 {
		go func() {
			r := rand.New(rand.NewPCG(1, uint64(w)))
			for {
				var list []envelope.Arrival
				for range 4 {
					list = append(list, envelope.Arrival{Envelope: storetest.NewEnvelope(r, 0, storetest.Hour(3))})
				}
				outcomes, _ := s.PutEnvelopes(ctx, list)
				var lines []byte
				for i, o := range outcomes {
					if o.Fresh {
						lines = fmt.Appendf(lines, "%s\n", list[i].Envelope.ID())
					}
				}
				os.Stdout.Write(lines)
			}
		}()
	}
	io.Copy(io.Discard, os.Stdin)
	os.Exit(1)
}

// removeEnded does what the spool does every hour.
func removeEnded(t *testing.T, s *store.Store) {
	t.Helper()
	for range 3 {
		if n, err := s.ExpireEnvelopes(ctx, storetest.Hour(8), 1_000_000); err != nil {
			t.Fatalf("after %d: %v", n, err)
		}
		if err := s.Compact(ctx); err != nil {
			t.Fatal(err)
		}
		space, err := s.Space()
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("after expiry: %+v", space)
	}
}
