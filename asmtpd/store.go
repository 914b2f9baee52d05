package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/asmtp/asmtp/internal/clock"
	"github.com/asmtp/asmtp/internal/control"
	"github.com/asmtp/asmtp/internal/node"
)

func newStoreCommand() *cobra.Command {
	c := new(client)
	cmd := group("store", "the database of the node")
	verify := &cobra.Command{
		Use: "verify", Short: "check all that must hold of the store",
		Long: `Reads all that is stored and checks it against everything that must hold. The node may
run meanwhile; if it does not, it cannot start before the check is over. Each problem is a
line; with any the exit code is 1. Nothing is changed.`,
		Example: "  asmtpd store verify", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return c.verify(cmd) },
	}
	cmd.AddCommand(verify)
	c.flags(cmd)
	return cmd
}

// storeAccess is the store of a node that runs or does not.
type storeAccess struct {
	running *control.Client // nil: it does not
	stopped *node.Stopped
}

// store opens the way to the store in a data folder.
func openAccess(dir string) (*storeAccess, error) {
	conn, err := control.Dial(dir)
	if err == nil {
		return &storeAccess{running: conn}, nil
	}
	if !errors.Is(err, control.ErrNotRunning) {
		return nil, err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	stopped, err := node.OpenStopped(node.Options{Data: dir, Now: clock.Now, Log: log})
	if err != nil {
		return nil, err
	}
	return &storeAccess{stopped: stopped}, nil
}

func (a *storeAccess) verify(ctx context.Context, report func(control.VerifyEvent) error) error {
	if a.running != nil {
		return a.running.StoreVerify(ctx, report)
	}
	return a.stopped.Verify(ctx, report)
}

func (a *storeAccess) Close() error {
	if a.running != nil {
		return a.running.Close()
	}
	return a.stopped.Close()
}

// verdict is the last line of "store verify --json".
type verdict struct {
	OK       bool `json:"ok"`
	Problems int  `json:"problems"`
}

func (c *client) verify(cmd *cobra.Command) (err error) {
	dir, err := c.folder()
	if err != nil {
		return err
	}
	a, err := openAccess(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	lines := json.NewEncoder(cmd.OutOrStdout())
	p := newProgress()
	problems := 0
	err = a.verify(cmd.Context(), func(e control.VerifyEvent) error {
		if e.Problem == "" {
			p.show(func() string { return fmt.Sprintf("read %d of about %d envelopes", e.Done, e.Total) })
			return nil
		}
		problems++
		p.clear()
		if c.json {
			return lines.Encode(map[string]string{"problem": e.Problem})
		}
		_, err := fmt.Fprintln(cmd.OutOrStdout(), e.Problem)
		return err
	})
	p.clear()
	if err != nil {
		return err
	}
	if c.json {
		err = lines.Encode(verdict{OK: problems == 0, Problems: problems})
	} else if problems == 0 {
		_, err = fmt.Fprintln(cmd.OutOrStdout(), "the store is good")
	}
	if problems > 0 {
		err = errors.Join(err, hintError{fmt.Errorf("the store has %d problems", problems),
			`stop the node and keep a copy of its folder; "asmtpd restore" makes a good one from a backup, and the mesh brings back what it still has`})
	}
	return err
}

// progress is a line on a terminal's stderr that is written over.
type progress struct {
	on   bool
	last time.Time
	wide int
}

// progressEvery keeps a slow terminal from slowing down the work.
const progressEvery = 200 * time.Millisecond

func newProgress() *progress { return &progress{on: term.IsTerminal(int(os.Stderr.Fd()))} }

func (p *progress) show(text func() string) {
	if now := time.Now(); p.on && now.Sub(p.last) >= progressEvery {
		line := text()
		fmt.Fprintf(os.Stderr, "\r%-*s", p.wide, line)
		p.last, p.wide = now, len(line)
	}
}

func (p *progress) clear() {
	if p.wide > 0 {
		fmt.Fprintf(os.Stderr, "\r%*s\r", p.wide, "")
		p.wide = 0
	}
}
