package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/asmtp/asmtp/internal/account"
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
					result, err := acc.Sync(ctx, account.SyncOptions{})
					a.noteReceived(result)
					a.noteNodes(result)
					if err != nil {
						a.note("the retry is noted: the next sync that reaches a node does it")
						return errors.Join(a.status(ctx, acc, id), withKey(acc, err))
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

// nodeJSON is the first node that answered, and all of them.
type nodeJSON struct {
	Node      string         `json:"node"`
	Address   string         `json:"address"`
	Version   string         `json:"version"`
	Peers     int            `json:"peers"`
	Retention int64          `json:"retention"`  // seconds
	MailLimit int64          `json:"mail_limit"` // bytes
	Queued    int            `json:"queued"`
	OnTheWay  int            `json:"on_the_way"`
	Unread    int            `json:"unread"`
	Nodes     []nodeInfoJSON `json:"nodes"`
	Forked    []string       `json:"forked,omitempty"`
}

func (a *app) statusCommand() *cobra.Command {
	var sync bool
	cmd := &cobra.Command{
		Use:   "status [ID]",
		Short: "how the node is; or how far a mail is, with its history",
		Long: `Without an id: syncs, and says how each node is. With the id of a sent mail: its state for
each recipient, as last heard; --sync asks the nodes first.`,
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
					result, err := acc.Sync(ctx, account.SyncOptions{})
					a.noteNodes(result)
					if err != nil {
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

// nodeStatus does what is due, as every command that connects, and tells of the nodes.
func (a *app) nodeStatus(ctx context.Context, acc *account.Account) error {
	result, err := acc.Sync(ctx, account.SyncOptions{})
	a.noteReceived(result)
	if err != nil {
		return withKey(acc, err)
	}
	o, err := acc.Overview(ctx)
	if err != nil {
		return err
	}
	j := nodeJSON{Queued: o.Queued, OnTheWay: o.OnTheWay, Unread: o.Unread, Nodes: []nodeInfoJSON{}, Forked: o.Forked}
	for _, s := range result.Nodes {
		if s.Err == nil && j.Node == "" {
			j.Node, j.Address, j.Version, j.Peers = s.Node.Key.String(), s.Node.Address, s.Version, s.Peers
			j.Retention, j.MailLimit = int64(s.Retention/time.Second), s.MailLimit
		}
	}
	for _, n := range o.Nodes {
		j.Nodes = append(j.Nodes, asNodeInfoJSON(n))
	}
	return a.print(j, func(w io.Writer) {
		for _, s := range result.Nodes {
			printNode(w, s)
		}
		fmt.Fprintf(w, "account  %d unread; %d queued here, %d on their way\n", j.Unread, j.Queued, j.OnTheWay)
		for _, name := range j.Forked {
			fmt.Fprintf(w, "warning  %s\n", forkText(name))
		}
	})
}

func printNode(w io.Writer, s account.NodeStatus) {
	if s.Err != nil {
		fmt.Fprintf(w, "problem  %v\n", s.Err)
		return
	}
	fmt.Fprintf(w, "node     %s at %s, version %s\n", s.Node.Key, s.Node.Address, s.Version)
	fmt.Fprintf(w, "mesh     connected to %d other nodes; keeps mail for %d days; mails up to %s\n", s.Peers, s.Retention/(24*time.Hour), byteCount(s.MailLimit))
}

// forkText says what two chains of one passport mean.
func forkText(name string) string {
	return fmt.Sprintf("two chains of the passport of %s were seen; the first stays in force. A master key may be in other hands", name)
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

// clockWarn is by how much the clock may be off before it is worth a word, and clockLimit
// before mail may be refused.
const (
	clockWarn  = 5 * time.Minute
	clockLimit = 2 * time.Hour
)

// checkNode says how a node is.
func checkNode(acc *account.Account, s account.NodeStatus, add func(what string, ok bool, detail string, args ...any)) {
	if s.Err != nil {
		add("node", false, "%v", s.Err)
		for _, h := range hints(withKey(acc, s.Err)) {
			add("node", false, "try: %s", h)
		}
	}
	if s.Clock.IsZero() {
		return
	}
	if s.Err == nil {
		add("node", true, "%s answers at %s after %v, version %s", s.Node.Key.Short(), s.Node.Address, s.Took.Round(time.Millisecond), s.Version)
	}
	switch off := s.Off.Abs(); {
	case off > clockLimit:
		add("clock", false, "differs from the node's by %v; only up to two hours work: set the clock here or there", off)
	case off > clockWarn:
		add("clock", true, "differs from the node's by %v; up to two hours work", off)
	default:
		add("clock", true, "agrees with the node's")
	}
	add("mesh", s.Peers > 0, "the node is connected to %d others; without any, mail reaches its own users only", s.Peers)
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
		result, err := acc.Sync(ctx, account.SyncOptions{})
		if err != nil && len(result.Nodes) == 0 {
			add("node", false, "%v", err)
			for _, h := range hints(withKey(acc, err)) {
				add("node", false, "try: %s", h)
			}
		}
		for _, s := range result.Nodes {
			checkNode(acc, s, add)
		}
		o, err := acc.Overview(ctx)
		for _, name := range o.Forked {
			add("passport", false, "%s", forkText(name))
		}
		if o.Newer > 0 {
			add("versions", false, "%d parts of mail need a newer asmtp-cli", o.Newer)
		}
		return err
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
