package account

import (
	"database/sql"
	"fmt"
	"runtime"
	"sync"
	"testing"
)

// A write that panics is the trouble of its own caller: the others that share its commit
// are made, and none is told that it was made when it was not.
func TestPanicInASharedCommit(t *testing.T) {
	ctx := t.Context()
	a, err := Create(ctx, t.TempDir(), "alice", Options{NoPassphrase: true})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	const others = 8
	var all sync.WaitGroup
	entered := make(chan struct{})
	release := make(chan struct{})
	all.Go(func() { // holds the others back until all wait
		_ = a.write(ctx, func(*sql.Tx) error { close(entered); <-release; return nil })
	})
	<-entered
	var recovered any
	errs := make([]error, others)
	all.Go(func() {
		defer func() { recovered = recover() }()
		_ = a.write(ctx, func(tx *sql.Tx) error {
			if err := setMeta(ctx, tx, "half", []byte("x")); err != nil {
				return err
			}
			panic("boom")
		})
	})
	for i := range errs {
		all.Go(func() {
			defer func() {
				if v := recover(); v != nil {
					errs[i] = fmt.Errorf("another's panic: %v", v)
				}
			}()
			errs[i] = a.write(ctx, func(tx *sql.Tx) error { return setMeta(ctx, tx, fmt.Sprint("key ", i), []byte("x")) })
		})
	}
	for n := 0; n < others+1; runtime.Gosched() { // no call leaves the list before the first one ends
		a.waiting.Lock()
		n = len(a.waiting.list)
		a.waiting.Unlock()
	}
	close(release)
	all.Wait()
	if recovered == nil {
		t.Error("the panic did not reach its caller")
	}
	for i, err := range errs {
		if b, getErr := getMeta(ctx, a.db, fmt.Sprint("key ", i)); err != nil || getErr != nil || b == nil {
			t.Errorf("write %d: %v; in the database %q, %v", i, err, b, getErr)
		}
	}
	if b, err := getMeta(ctx, a.db, "half"); err != nil || b != nil {
		t.Errorf("the half of the write that panicked was kept: %q, %v", b, err)
	}
}
