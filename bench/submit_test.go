package bench_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/clientapi"
	"github.com/asmtp/asmtp/internal/control"
	"github.com/asmtp/asmtp/internal/node"
	"github.com/asmtp/asmtp/internal/node/nodetest"
	"github.com/asmtp/asmtp/internal/spool"
	"github.com/asmtp/asmtp/internal/store"
	"github.com/asmtp/asmtp/internal/store/storetest"
	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
)

// BenchmarkDurableSubmit submits envelopes of 1 KiB, each acknowledged after it is on the
// disk: through spool and store, through the whole of a node's client API over loopback,
// and in the ways that bound or undercut it on the same disk:
//
//   - append + fsync: the same bytes appended to a file, one sync for each, one after the other
//   - a transaction each: Badger with our options, 256 writers, a synced transaction for each
//   - bare loop: one goroutine writes ready-made records, the four of a new envelope of an own
//     user, 256 in one synced transaction, with nothing to decide and nobody to answer. 256
//     submitters that each wait for an answer cannot fill larger ones
//   - bare loop of 512: the same with transactions as large as the store makes them at most
//
// What is submitted are bytes, as they come from a connection: to parse and to hash them is
// part of a submission.
func BenchmarkDurableSubmit(b *testing.B) {
	for range b.N {
		durableSubmit(b)
	}
}

func durableSubmit(b *testing.B) {
	dir := b.TempDir()
	source := newSource()
	file := &contender{name: "append + fsync", n: 300, do: appender(b, filepath.Join(dir, "file"), source)}
	each := &contender{name: "a transaction each", n: 600, do: eachInBadger(openBadger(b, filepath.Join(dir, "each")), source, 256)}
	loop := &contender{name: "bare loop", n: 16384, do: bareLoop(openBadger(b, filepath.Join(dir, "loop")), source, 256)}
	loop512 := &contender{name: "bare loop of 512", n: 16384, do: bareLoop(openBadger(b, filepath.Join(dir, "loop512")), source, 512)}
	all := []*contender{file, each, loop, loop512}
	s := openSpool(b, filepath.Join(dir, "store"))
	for _, c := range []struct{ submitters, n int }{{1, 300}, {16, 3000}, {256, 12288}} {
		all = append(all, &contender{name: fmt.Sprintf("spool, %d submitters", c.submitters), n: c.n, do: submitter(source, c.submitters, s)})
	}
	clients := newClients(b)
	for _, c := range []struct{ submitters, n int }{{1, 300}, {16, 2000}, {256, 4096}} {
		all = append(all, &contender{name: fmt.Sprintf("client API, %d submitters", c.submitters), n: c.n, do: submitter(source, c.submitters, clients)})
	}
	takeTurns(b, all)
	table("durable submissions of 1 KiB", "per second", all, file, each, loop, loop512)
	for _, c := range all[4:] {
		m, _, _ := spread(c.ratio(loop))
		b.ReportMetric(m, "loop-ratio:"+metric(c.name))
	}
}

// source makes envelopes that nobody has seen.
type source struct{ seed atomic.Uint64 }

func newSource() *source { return new(source) }

func (s *source) take(n int) []*envelope.Envelope {
	r := storetest.Random(s.seed.Add(1))
	list := make([]*envelope.Envelope, n)
	for i := range list {
		list[i] = storetest.NewEnvelope(r, 0, storetest.Hour(48))
	}
	return list
}

// put hands one envelope over; worker is the number of the goroutine.
type put func(worker int, e *envelope.Envelope) error

func submitter(s *source, workers int, p put) func(int) (time.Duration, error) {
	return func(n int) (time.Duration, error) { return inParallel(workers, s.take(n), p) }
}

// inParallel puts each envelope from one of several goroutines.
func inParallel(workers int, list []*envelope.Envelope, p put) (time.Duration, error) {
	var next atomic.Int64
	var wg sync.WaitGroup
	failed := make(chan error, 1)
	start := time.Now()
	for w := range workers {
		wg.Go(func() {
			for i := next.Add(1) - 1; int(i) < len(list); i = next.Add(1) - 1 {
				if err := p(w, list[i]); err != nil {
					select {
					case failed <- err:
					default:
					}
					return
				}
			}
		})
	}
	wg.Wait()
	took := time.Since(start)
	select {
	case err := <-failed:
		return 0, err
	default:
		return took, nil
	}
}

// openSpool opens a spool with a hundred tag keys of its users, none of which fits.
func openSpool(b *testing.B, dir string) put {
	st, err := store.Open(dir, store.Options{Quotas: plenty})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { st.Close() })
	s, err := spool.New(st, spool.Options{})
	if err != nil {
		b.Fatal(err)
	}
	if err := s.RegisterTagKeys(b.Context(), someUser(), tagKeys(100)); err != nil {
		b.Fatal(err)
	}
	return func(_ int, raw *envelope.Envelope) error {
		e, err := envelope.Parse(raw.Bytes())
		if err != nil {
			return err
		}
		r, err := s.Put(context.Background(), noise.PublicKey{}, []*envelope.Envelope{e})
		if err != nil {
			return err
		}
		return r[0].Err
	}
}

// newClients starts a whole node and connects 128 devices of its users, each of which
// serves two submitters.
func newClients(b *testing.B) put {
	n := nodetest.Start(b, func(o *node.Options) {})
	const devices = 128 // of which each may submit four at a time
	clients := make([]*clientapi.Client, devices)
	for i := range clients {
		key, err := noise.GenerateKey(nil)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := n.Control.UserAdd(b.Context(), control.UserName(key.Public().String())); err != nil {
			b.Fatal(err)
		}
		if clients[i], err = clientapi.Dial(b.Context(), n.Addr(), n.ID(), key, new(stamps)); err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { clients[i].Close() })
		own, _, err := passport.Create(nil, key, passport.TimeOf(time.Now()))
		if err != nil {
			b.Fatal(err)
		}
		if err := clients[i].PutPassport(b.Context(), own); err != nil {
			b.Fatal(err)
		}
	}
	return func(worker int, e *envelope.Envelope) error {
		fetch := func(envelope.ID) ([]byte, error) { return e.Bytes(), nil }
		refused, err := clients[worker%devices].Submit(context.Background(), []envelope.ID{e.ID()}, fetch)
		if err == nil && len(refused) > 0 {
			err = errors.New(refused[0].Text)
		}
		return err
	}
}

type stamps struct{ last atomic.Uint64 }

func (s *stamps) NextStamp() (uint64, error) {
	return max(s.last.Add(1), uint64(time.Now().UnixNano())), nil
}

// appender is the simplest thing that is durable.
func appender(b *testing.B, path string, s *source) func(int) (time.Duration, error) {
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { f.Close() })
	return func(n int) (time.Duration, error) {
		list := s.take(n)
		start := time.Now()
		for _, e := range list {
			if _, err := f.Write(e.Bytes()); err != nil {
				return 0, err
			}
			if err := f.Sync(); err != nil {
				return 0, err
			}
		}
		return time.Since(start), nil
	}
}

// openBadger opens a database with the options of package store.
func openBadger(b *testing.B, dir string) *badger.DB {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		b.Fatal(err)
	}
	db, err := badger.Open(badger.DefaultOptions(dir).WithSyncWrites(true).WithDetectConflicts(false).
		WithLogger(nil).WithMetricsEnabled(false).WithCompression(options.None).WithBlockCacheSize(0).WithIndexCacheSize(0).
		WithMemTableSize(4 << 20).WithNumMemtables(2).WithValueThreshold(1 << 10).WithValueLogFileSize(64 << 20).
		WithNumLevelZeroTables(2).WithNumLevelZeroTablesStall(4).WithBaseTableSize(2 << 20).WithBaseLevelSize(8 << 20).WithNumCompactors(2))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { db.Close() })
	return db
}

type record struct{ key, value []byte }

// records are those of a new envelope of an own user: body, index, end, and whose it is.
func records(e *envelope.Envelope) []record {
	id := e.ID()
	end := func(kind byte) []byte {
		return append(binary.BigEndian.AppendUint32([]byte{kind}, uint32(e.Expires)), id[:]...)
	}
	index := append(make([]byte, 17, 97), e.Tag[:]...)
	return []record{
		{append([]byte{'b'}, id[:]...), e.Bytes()},
		{append([]byte{'e'}, id[:]...), append(index, make([]byte, 64)...)},
		{end('x'), nil},
		{end('o'), nil},
	}
}

func eachInBadger(db *badger.DB, s *source, workers int) func(int) (time.Duration, error) {
	return submitter(s, workers, func(_ int, e *envelope.Envelope) error {
		return db.Update(func(txn *badger.Txn) error {
			for _, r := range records(e) {
				if err := txn.Set(r.key, r.value); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

func bareLoop(db *badger.DB, s *source, most int) func(int) (time.Duration, error) {
	const mostBytes = 4 << 20
	return func(n int) (time.Duration, error) {
		list := make([][]record, 0, n)
		for _, e := range s.take(n) {
			list = append(list, records(e))
		}
		start := time.Now()
		for len(list) > 0 {
			err := db.Update(func(txn *badger.Txn) error {
				for count, bytes := 0, 0; len(list) > 0 && count < most && bytes < mostBytes; count++ {
					for _, r := range list[0] {
						if err := txn.Set(r.key, r.value); err != nil {
							return err
						}
						bytes += len(r.key) + len(r.value)
					}
					list = list[1:]
				}
				return nil
			})
			if err != nil {
				return 0, err
			}
		}
		return time.Since(start), nil
	}
}
