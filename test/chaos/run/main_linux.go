// Command run runs package chaos from the command line; "make chaos" calls it.
package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/asmtp/asmtp/test/chaos"
)

func main() {
	c := chaos.Config{Out: os.Stdout}
	seed := flag.String("seed", "", "the `NUMBER` that all is drawn from (default: a random one, which is printed)")
	flag.DurationVar(&c.Duration, "duration", 5*time.Minute, "break things for this long")
	flag.IntVar(&c.Nodes, "nodes", 7, "how many nodes, 5 to 9")
	flag.IntVar(&c.Accounts, "accounts", 0, "how many accounts, 8 to 14 (default: drawn)")
	flag.Float64Var(&c.Rate, "rate", 0, "mails per second to aim at (default 2.5)")
	flag.StringVar(&c.Break, "break", "", "build this fault in and find it: ack-before-fsync, forget-custody, double-accept, early-expiry")
	flag.BoolVar(&c.Race, "race", false, "build the programs with the race detector")
	flag.StringVar(&c.Source, "source", ".", "the module's folder")
	flag.BoolVar(&c.Keep, "keep", false, "keep the folder of the world")
	flag.Parse()
	if *seed == "" {
		c.Seed = rand.Uint64() >> 32
	} else {
		n, err := strconv.ParseUint(*seed, 10, 64)
		if err != nil {
			fmt.Fprintln(os.Stderr, "chaos: error: -seed:", err)
			os.Exit(2)
		}
		c.Seed = n
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := chaos.Run(ctx, c)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos: error:", err)
		os.Exit(1)
	}
}
