// Command fuzz runs every fuzz target of the module, or of the packages that its
// arguments name, one after the other.
//
// The environment variable FUZZTIME says how long each runs (default 1m); targets for
// frames, envelopes and passports, which every stranger's bytes reach first, run five
// times as long. It stops at the first finding, which go test keeps as a seed below
// the package's testdata/fuzz.
package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"time"
)

// longer lists the targets that run five times as long.
var longer = []string{"FuzzFrames", "FuzzParseEnvelope", "FuzzParseBlock", "FuzzParse "}

type target struct{ pkg, name string }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "fuzz: error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	each := time.Minute
	if s := os.Getenv("FUZZTIME"); s != "" {
		d, err := time.ParseDuration(s)
		if err != nil {
			return fmt.Errorf("FUZZTIME: %w", err)
		}
		each = d
	}
	targets, err := find(ctx)
	if err != nil {
		return err
	}
	if len(targets) == 0 {
		return fmt.Errorf("no fuzz target found")
	}
	for i, t := range targets {
		d := each
		if t.long() {
			d *= 5
		}
		fmt.Printf("%d of %d: %s in %s, %v\n", i+1, len(targets), t.name, t.pkg, d)
		cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-fuzz", "^"+t.name+"$", "-fuzztime", d.String(), "-fuzzminimizetime", "10x", t.pkg)
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("%s in %s: %w", t.name, t.pkg, err)
		}
	}
	return nil
}

// long reports whether t belongs to the targets that run longer.
func (t target) long() bool {
	for _, l := range longer {
		if t.name == strings.TrimSpace(l) && (l != "FuzzParse " || strings.HasSuffix(t.pkg, "/passport")) {
			return true
		}
	}
	return false
}

// find lists the targets of all packages, in the order of go list.
func find(ctx context.Context) ([]target, error) {
	packages := os.Args[1:]
	if len(packages) == 0 {
		packages = []string{"./..."}
	}
	cmd := exec.CommandContext(ctx, "go", append([]string{"test", "-run", "^$", "-list", "^Fuzz"}, packages...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("list the targets: %w", err)
	}
	var all []target
	var names []string
	lines := bufio.NewScanner(bytes.NewReader(out))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		switch {
		case len(fields) == 1 && strings.HasPrefix(fields[0], "Fuzz"):
			names = append(names, fields[0])
		case len(fields) >= 2 && (fields[0] == "ok" || fields[0] == "?"):
			for _, name := range names {
				all = append(all, target{fields[1], name})
			}
			names = nil
		}
	}
	return all, lines.Err()
}
