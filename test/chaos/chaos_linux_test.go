package chaos_test

import (
	"flag"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/asmtp/asmtp/test/chaos"
)

var (
	seed     = flag.Uint64("chaos.seed", 0, "what all is drawn from; 0: a random number")
	duration = flag.Duration("chaos.duration", 0, "break things for this long; 0: a short look whether the harness works")
	nodes    = flag.Int("chaos.nodes", 5, "how many nodes")
	breaking = flag.String("chaos.break", "", "build this fault in, and find it")
)

// A small world under chaos for some seconds keeps its promises. It is there to notice
// when the harness breaks; "make chaos" is the test of the product.
func TestChaos(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a whole world")
	}
	c := chaos.Config{Seed: *seed, Duration: *duration, Nodes: *nodes, Break: *breaking, Source: "../..", Out: os.Stdout}
	if c.Seed == 0 {
		c.Seed = rand.Uint64() >> 32
	}
	if c.Duration == 0 {
		c.Duration, c.Accounts = 8*time.Second, 5
	}
	if err := chaos.Run(t.Context(), c); err != nil {
		t.Fatal(err)
	}
}
