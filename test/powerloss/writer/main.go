// Command writer writes into a node's store or into accounts until it is killed, and
// prints a line for each thing that was promised to be durable, after the promise. It is
// the program whose power test/powerloss cuts.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"sync"

	"github.com/asmtp/asmtp/test/powerloss/load"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "writer:", err)
		os.Exit(1)
	}
}

func run() error {
	dir := flag.String("dir", "", "the folder of the store, or of the accounts")
	seed := flag.Uint64("seed", 0, "of what is written")
	expires := flag.Uint("expires", 0, "end of the envelopes")
	flag.Parse()
	ctx := context.Background()
	switch flag.Arg(0) {
	case "store":
		return writeStore(ctx, *dir, *seed, uint32(*expires))
	case "account":
		return writeAccounts(ctx, *dir)
	}
	return fmt.Errorf("what is %q", flag.Arg(0))
}

var printing sync.Mutex

// promised prints a line at once, so that what was printed before the power went is
// what was promised before. The line begins with when that was.
func promised(format string, args ...any) {
	printing.Lock()
	defer printing.Unlock()
	fmt.Printf("%d "+format+"\n", append([]any{load.Clock()}, args...)...)
}
