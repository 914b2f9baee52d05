//go:build linux

package powerloss

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/store"
	"github.com/asmtp/asmtp/passport"
	"github.com/asmtp/asmtp/test/powerloss/load"
)

// Nothing that a node's store acknowledged is lost when the power goes: envelopes and
// mailbox entries byte for byte, acknowledgements, tag keys, custody, stamps, passports.
// What is there is in itself right, and mailbox numbers keep their meaning.
func TestStoreLosesNothing(t *testing.T) {
	need(t)
	t.Parallel()
	promises := 0
	for run, l := range storeRuns(t, sound, runs, &promises) {
		l.report(t, run)
	}
	t.Logf("%d promises in %d runs", promises, runs)
}

// Without syncs the same test finds that much is lost.
func TestStoreWithoutSyncLosesMuch(t *testing.T) {
	need(t)
	t.Parallel()
	promises := 0
	all := storeRuns(t, unsynced, unsafeRuns, &promises)
	wantLosses(t, all, promises)
}

// A store that acknowledges a little before it syncs is found out too.
func TestHastyStoreIsFound(t *testing.T) {
	need(t)
	t.Parallel()
	promises := 0
	all := storeRuns(t, hasty, unsafeRuns, &promises)
	wantLosses(t, all, promises)
}

// storeRuns cuts the power of a store that is written to. Some runs go on with the store
// that the one before left, so that it survives several cuts.
func storeRuns(t *testing.T, k kind, n int, promises *int) (lost []losses) {
	r := random(t)
	path := program(t, "test/powerloss/writer", k)
	d := newDisk(t, 1<<30)
	s := &storeChecker{expires: load.Expires()}
	for run := range n {
		if run%5 == 0 {
			s.dir = filepath.Join(d.root, fmt.Sprintf("store%d", run))
			s.forget()
		}
		args := []string{"-dir", s.dir, "-seed", fmt.Sprint(run), "-expires", fmt.Sprint(uint32(s.expires)), "store"}
		p := startProcess(t, path, args...)
		lines := waitToCut(t, r, p, k)
		began := d.cut()
		lines = printedBefore(t, began, append(lines, p.kill()...))
		d.restart()
		*promises += s.promised(t, run, lines)
		l := s.check()
		lost = append(lost, l)
		if len(l) > 0 {
			s.dir = filepath.Join(d.root, fmt.Sprintf("after%d", run))
			s.forget()
		}
	}
	return lost
}

// waitToCut lets the process run for a random time: mostly from its first line on,
// sometimes less than it takes to open what it writes to.
func waitToCut(t *testing.T, r *rand.Rand, p *process, k kind) (lines []string) {
	t.Helper()
	if k != sound || r.IntN(5) > 0 {
		lines = append(lines, p.first(t))
		sleep(r, 400*time.Millisecond)
	} else {
		sleep(r, 100*time.Millisecond)
	}
	return lines
}

// sleep waits for a random time: not for something to happen, the moment is what is tested.
func sleep(r *rand.Rand, most time.Duration) {
	timer := time.NewTimer(time.Duration(r.Int64N(int64(most))))
	defer timer.Stop()
	<-timer.C
}

// storeChecker knows what one store promised.
type storeChecker struct {
	dir       string
	expires   passport.Time
	envelopes []load.Item
	acks      []ack
	tagKeys   []load.Item
	custody   []load.Item
	seen      map[int]load.Item // the last of each writer
	stamp     uint64
	passports map[string]string
	numbers   map[passport.ID]map[uint64]envelope.ID // as found after earlier runs
}

type ack struct {
	writer int
	number uint64
}

func (s *storeChecker) forget() {
	*s = storeChecker{dir: s.dir, expires: s.expires, seen: map[int]load.Item{}, passports: map[string]string{}, numbers: map[passport.ID]map[uint64]envelope.ID{}}
}

// promised takes in the lines of a writer; see there.
func (s *storeChecker) promised(t *testing.T, run int, lines []string) (promises int) {
	t.Helper()
	for _, line := range lines {
		kind, rest, _ := strings.Cut(line, " ")
		item := load.Item{Seed: uint64(run), Expires: s.expires}
		var err error
		if kind == "envelope" || kind == "ack" || kind == "tagkey" || kind == "custody" || kind == "seen" {
			_, err = fmt.Sscan(rest, &item.Writer, &item.I)
		}
		switch kind {
		case "open":
			continue
		case "envelope":
			s.envelopes = append(s.envelopes, item)
		case "ack":
			a := ack{writer: item.Writer}
			_, err = fmt.Sscan(rest, new(int), new(int), &a.number)
			s.acks = append(s.acks, a)
		case "tagkey":
			s.tagKeys = append(s.tagKeys, item)
		case "custody":
			s.custody = append(s.custody, item)
		case "seen":
			s.seen[item.Writer] = item
		case "stamp":
			var n uint64
			_, err = fmt.Sscan(rest, &n)
			s.stamp = max(s.stamp, n)
		case "passport":
			id, export, _ := strings.Cut(rest, " ")
			s.passports[id] = export
		default:
			err = fmt.Errorf("what is it")
		}
		if err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		promises++
	}
	return promises
}

// check opens the store and looks for all that it promised.
func (s *storeChecker) check() (l losses) {
	st, err := store.Open(s.dir, store.Options{})
	if err != nil {
		if n := len(s.envelopes); n > 0 {
			l.add("the whole store, of %d envelopes: %v", n, err)
		}
		return l
	}
	defer st.Close()
	s.checkEnvelopes(st, &l)
	s.checkMailboxes(st, &l)
	s.checkOthers(st, &l)
	return l
}

func (s *storeChecker) checkEnvelopes(st *store.Store, l *losses) {
	for _, item := range s.envelopes {
		e := item.Envelope()
		b, err := st.Envelope(e.ID())
		if err != nil {
			l.add("envelope %+v: %v", item, err)
		} else if !bytes.Equal(b, e.Bytes()) {
			l.add("envelope %+v has other bytes", item)
		}
	}
}

func (s *storeChecker) checkMailboxes(st *store.Store, l *losses) {
	all := map[passport.ID]map[envelope.ID]bool{}
	for w := range load.Writers {
		user := load.User(w)
		if all[user] != nil {
			continue
		}
		all[user] = map[envelope.ID]bool{}
		numbers := map[uint64]envelope.ID{}
		for after, more := uint64(0), true; more; {
			list, err := st.Deliveries(user, after, 500)
			if err != nil {
				l.add("mailbox of %s: %v", user, err)
				break
			}
			for _, d := range list {
				e, err := envelope.Parse(d.Envelope)
				if err != nil {
					l.add("mailbox of %s, number %d: %v", user, d.Number, err)
					continue
				}
				all[user][e.ID()] = true
				numbers[d.Number], after = e.ID(), d.Number
			}
			more = len(list) > 0
		}
		for n, id := range s.numbers[user] {
			if numbers[n] != id {
				l.add("number %d of %s was %s and is %s", n, user, id, numbers[n])
			}
		}
		s.numbers[user] = numbers
	}
	for _, item := range s.envelopes {
		id := item.Envelope().ID()
		for _, m := range item.Match() {
			if !all[m.User][id] {
				l.add("mailbox entry of %+v", item)
			}
		}
	}
}

func (s *storeChecker) checkOthers(st *store.Store, l *losses) {
	for _, a := range s.acks {
		devices, err := st.AcknowledgedBy(load.User(a.writer), a.number)
		found := false
		for _, d := range devices {
			found = found || d == load.Device(a.writer)
		}
		if !found {
			l.add("acknowledgement %+v (%v)", a, err)
		}
	}
	keys := map[envelope.TagKey]bool{}
	if err := st.TagKeys(func(_ passport.ID, k envelope.TagKey) bool { keys[k] = true; return true }); err != nil {
		l.add("tag keys: %v", err)
	}
	for _, item := range s.tagKeys {
		if !keys[item.TagKey()] {
			l.add("tag key %+v", item)
		}
	}
	for _, item := range s.custody {
		if st.Custody(item.Envelope().ID()) == 0 {
			l.add("custody %+v", item)
		}
	}
	for id, export := range s.passports {
		parsed, err := passport.ParseID(id)
		if err != nil {
			l.add("passport %s: %v", id, err)
			continue
		}
		if p, err := st.Passport(parsed); err != nil || hex.EncodeToString(p.Export()) != export {
			l.add("passport %s: %v", id, err)
		}
	}
	s.checkWrites(st, l)
}

// checkWrites checks what can only be seen by writing, and the store as a whole.
func (s *storeChecker) checkWrites(st *store.Store, l *losses) {
	ctx, cancel := contextOf()
	defer cancel()
	for w, item := range s.seen {
		if fresh, err := st.FreshStamp(ctx, 3, load.Device(w), item.Stamp()); fresh || err != nil {
			l.add("stamp %d of a peer: fresh again is %v (%v)", item.Stamp(), fresh, err)
		}
	}
	if n, err := st.NextStamp(); err != nil || n <= s.stamp {
		l.add("own stamp %d after %d (%v)", n, s.stamp, err)
	}
	if err := st.Verify(ctx, func(p string) { l.add("order: %s", p) }); err != nil {
		l.add("verify: %v", err)
	}
}
