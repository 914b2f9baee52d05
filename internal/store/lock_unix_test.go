//go:build unix

package store_test

import (
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/asmtp/asmtp/internal/store"
)

// A lock that is given back in a moment is waited for.
func TestOpenWaitsForTheLock(t *testing.T) {
	dir := t.TempDir()
	held, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(int(held.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(20*time.Millisecond, func() { held.Close() })
	open(t, dir, store.Options{}).Close()
}
