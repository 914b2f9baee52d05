package store_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/asmtp/asmtp/internal/store"
)

// TestCallersThatComeBackShareABatch: the committer waits for as many as it had last, and beside them, for a
// quarter of what the last batch took, and for nobody when it had one.
func TestCallersThatComeBackShareABatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const ms = time.Millisecond
		g := store.NewGatherer(8 * ms)
		g.Queue(4, 0)
		if n, after := g.Next(); n != 5 || after != 0 {
			t.Errorf("what waits: %d after %v, want 5 at once", n, after)
		}
		g.Queue(4, ms)
		if n, after := g.Next(); n != 5 || after != ms {
			t.Errorf("callers that come back: %d after %v, want 5 after 1ms", n, after)
		}
		if n, after := g.Next(); n != 1 || after != 2*ms {
			t.Errorf("callers that do not come back: %d after %v, want 1 after 2ms", n, after)
		}
		if n, after := g.Next(); n != 1 || after != 0 {
			t.Errorf("a caller that is alone: %d after %v, want 1 at once", n, after)
		}
	})
}
