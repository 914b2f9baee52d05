package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/asmtp/asmtp/internal/account"
	"github.com/asmtp/asmtp/internal/clock"
	"github.com/asmtp/asmtp/passport"
)

func (a *app) queueCommand() *cobra.Command {
	list := func(cmd *cobra.Command, _ []string) error {
		return a.with(cmd.Context(), func(acc *account.Account) error {
			mails, err := acc.Queue(cmd.Context())
			if err != nil {
				return err
			}
			return a.printOutgoing(mails, false)
		})
	}
	cmd := &cobra.Command{
		Use: "queue", Short: "mail on its way: list, retry, cancel", Example: "  asmtp-cli queue\n  asmtp-cli queue cancel 4f2a",
		Args: cobra.NoArgs, RunE: list,
	}
	cmd.AddCommand(
		&cobra.Command{Use: "list", Short: "list mail on its way, oldest first", Example: "  asmtp-cli queue list", Args: cobra.NoArgs, RunE: list},
		&cobra.Command{
			Use: "retry ID", Short: "try a mail again at once", Example: "  asmtp-cli queue retry 4f2a", Args: exactArgs(1, "the id of a mail"),
			RunE: func(cmd *cobra.Command, args []string) error {
				ctx := cmd.Context()
				return a.withMail(ctx, args[0], func(acc *account.Account, id account.MailID) error {
					if err := acc.Retry(ctx, id); err != nil {
						return err
					}
					if _, err := acc.Sync(ctx, account.SyncOptions{}); err != nil {
						return withKey(acc, err)
					}
					return a.status(ctx, acc, id)
				})
			},
		},
		&cobra.Command{
			Use: "cancel ID", Short: "stop a mail that no node has yet", Example: "  asmtp-cli queue cancel 4f2a", Args: exactArgs(1, "the id of a mail"),
			RunE: func(cmd *cobra.Command, args []string) error {
				ctx := cmd.Context()
				return a.withMail(ctx, args[0], func(acc *account.Account, id account.MailID) error {
					if err := acc.Cancel(ctx, id); err != nil {
						return err
					}
					return a.status(ctx, acc, id)
				})
			},
		},
	)
	return cmd
}

type nodeJSON struct {
	Node      string `json:"node"`
	Address   string `json:"address"`
	Version   string `json:"version"`
	Peers     int    `json:"peers"`
	Retention int64  `json:"retention"`  // seconds
	MailLimit int64  `json:"mail_limit"` // bytes
	Queued    int    `json:"queued"`
	OnTheWay  int    `json:"on_the_way"`
	Unread    int    `json:"unread"`
}

func (a *app) statusCommand() *cobra.Command {
	var sync bool
	cmd := &cobra.Command{
		Use:   "status [ID]",
		Short: "how the node is; or how far a mail is, with its history",
		Long:  "Without an id: asks the node how it is. With the id of a sent mail: its state for each recipient, as last heard; --sync asks the node first.",
		Example: `  asmtp-cli status
  asmtp-cli status 4f2a`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			if len(args) == 0 {
				return a.with(ctx, func(acc *account.Account) error { return a.nodeStatus(ctx, acc) })
			}
			return a.withMail(ctx, args[0], func(acc *account.Account, id account.MailID) error {
				if sync {
					if _, err := acc.Sync(ctx, account.SyncOptions{}); err != nil {
						return withKey(acc, err)
					}
				}
				return a.status(ctx, acc, id)
			})
		},
	}
	cmd.Flags().BoolVar(&sync, "sync", false, "sync first")
	return cmd
}

func (a *app) status(ctx context.Context, acc *account.Account, id account.MailID) error {
	list, err := acc.Status(ctx, id)
	if err != nil {
		return err
	}
	return a.printOutgoing(list, true)
}

func (a *app) nodeStatus(ctx context.Context, acc *account.Account) error {
	s, err := acc.NodeStatus(ctx)
	if err != nil {
		return withKey(acc, err)
	}
	o, err := acc.Overview(ctx)
	if err != nil {
		return err
	}
	j := nodeJSON{
		Node: s.Node.Key.String(), Address: s.Node.Address, Version: s.Version, Peers: s.Peers,
		Retention: int64(s.Retention / time.Second), MailLimit: s.MailLimit, Queued: o.Queued, OnTheWay: o.OnTheWay, Unread: o.Unread,
	}
	return a.print(j, func(w io.Writer) {
		fmt.Fprintf(w, "node     %s at %s, version %s\n", j.Node, j.Address, j.Version)
		fmt.Fprintf(w, "mesh     connected to %d other nodes; keeps mail for %d days; mails up to %s\n", j.Peers, j.Retention/86400, byteCount(j.MailLimit))
		fmt.Fprintf(w, "account  %d unread; %d queued here, %d on their way\n", j.Unread, j.Queued, j.OnTheWay)
	})
}

func (a *app) showPassport(ctx context.Context, acc *account.Account) error {
	p, err := acc.Passport(ctx)
	if err != nil {
		return err
	}
	type entryJSON struct {
		Kind  string `json:"kind"`
		Key   string `json:"key"`
		Alias string `json:"alias,omitempty"`
	}
	type blockJSON struct {
		Number  int         `json:"number"`
		Hash    string      `json:"hash"`
		Time    time.Time   `json:"time"`
		Author  string      `json:"author"`
		Entries []entryJSON `json:"entries"`
	}
	if !a.json {
		fmt.Fprintf(a.out, "passport %s, %d blocks\n", p.ID(), p.Len())
	}
	for i, b := range p.Blocks() {
		j := blockJSON{Number: i, Hash: b.Hash().String(), Time: b.Time().Time(), Author: b.Author().String()}
		for _, e := range b.Entries() {
			switch e := e.(type) {
			case passport.Register:
				j.Entries = append(j.Entries, entryJSON{"register master key", e.Key.String(), e.Alias})
			case passport.Deregister:
				j.Entries = append(j.Entries, entryJSON{"remove master key", e.Key.String(), ""})
			case passport.SetShared:
				j.Entries = append(j.Entries, entryJSON{"set shared key", e.Key.String(), ""})
			}
		}
		err := a.print(j, func(w io.Writer) {
			fmt.Fprintf(w, "block %d of %s by %.8s…\n", i, j.Time.Local().Format(time.DateTime), j.Author)
			for _, e := range j.Entries {
				fmt.Fprintf(w, "  %-20s %s %s\n", e.Kind, e.Key, e.Alias)
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// check is one finding of the doctor.
type check struct {
	What   string `json:"what"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
}

var errDoctor = errors.New("not all is well")

func (a *app) doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "doctor",
		Short:   "look for what is wrong, and say what to do",
		Long:    "Looks at the account's files, the clock, the node and the versions of both programs.",
		Example: "  asmtp-cli doctor",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.doctor(cmd.Context())
		},
	}
}

func (a *app) doctor(ctx context.Context) error {
	var checks []check
	add := func(what string, ok bool, detail string, args ...any) {
		checks = append(checks, check{what, ok, fmt.Sprintf(detail, args...)})
	}
	dir, err := a.dir()
	if err != nil {
		return err
	}
	checks = append(checks, checkModes(dir)...)
	err = a.with(ctx, func(acc *account.Account) error {
		add("account", true, "opens")
		started := time.Now()
		s, err := acc.NodeStatus(ctx)
		switch {
		case err != nil:
			add("node", false, "%v", err)
			for _, h := range hints(withKey(acc, err)) {
				add("node", false, "try: %s", h)
			}
		default:
			add("node", true, "answers at %s after %v, version %s", s.Node.Address, time.Since(started).Round(time.Millisecond), s.Version)
			off := s.Clock.Sub(clock.Now()).Round(time.Second)
			add("clock", off.Abs() < 2*time.Hour, "differs from the node's by %v; up to two hours work", off)
			add("mesh", s.Peers > 0, `the node is connected to %d others; without any, mail reaches its own users only`, s.Peers)
		}
		return nil
	})
	if err != nil {
		add("account", false, "%v", err)
	}
	bad := 0
	for _, c := range checks {
		mark := "ok     "
		if !c.OK {
			mark = "problem"
			bad++
		}
		if err := a.print(c, func(w io.Writer) { fmt.Fprintf(w, "%s  %-8s %s\n", mark, c.What, c.Detail) }); err != nil {
			return err
		}
	}
	if bad > 0 {
		return errDoctor
	}
	return nil
}
