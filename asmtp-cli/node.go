package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/asmtp/asmtp/internal/account"
)

type nodeInfoJSON struct {
	Node     string     `json:"node"`
	Address  string     `json:"address"`
	Primary  bool       `json:"primary"`
	LastSync *time.Time `json:"last_sync"` // null: never
	OK       bool       `json:"ok"`
	Problem  string     `json:"problem"`
}

func asNodeInfoJSON(n account.NodeInfo) nodeInfoJSON {
	j := nodeInfoJSON{Node: n.Node.Key.String(), Address: n.Node.Address, Primary: n.Primary, OK: n.Problem == "", Problem: n.Problem}
	if !n.LastSync.IsZero() {
		j.LastSync = &n.LastSync
	}
	return j
}

func (a *app) nodeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "node",
		Short: "your nodes: list, remove",
		Long: `"asmtp-cli connect" adds a node, and may be given several times. Mail goes out through the
first that answers, in the order of connecting; mail is taken in from all, and each mail is
shown once. If your only node is gone for good, connect to a friend's: it gives you what the
mesh still keeps for you.`,
		Example: "  asmtp-cli node list\n  asmtp-cli node remove 3d40",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return usage("which node command?", `"asmtp-cli help node" lists them`)
		},
	}
	cmd.AddCommand(
		&cobra.Command{
			Use: "list", Short: "list your nodes, in the order of connecting, and how the last sync with each went",
			Example: "  asmtp-cli node list --json", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				return a.with(cmd.Context(), func(acc *account.Account) error { return a.listNodes(cmd.Context(), acc) })
			},
		},
		&cobra.Command{
			Use: "remove ID", Short: "use a node no more; ID is the beginning of its id, or its address",
			Example: "  asmtp-cli node remove 3d40", Args: exactArgs(1, "the id of a node"),
			RunE: func(cmd *cobra.Command, args []string) error {
				return a.with(cmd.Context(), func(acc *account.Account) error { return a.removeNode(cmd.Context(), acc, args[0]) })
			},
		},
	)
	return cmd
}

func (a *app) listNodes(ctx context.Context, acc *account.Account) error {
	list, err := acc.Nodes(ctx)
	if err != nil {
		return err
	}
	if a.json {
		for _, n := range list {
			if err := a.print(asNodeInfoJSON(n), nil); err != nil {
				return err
			}
		}
		return nil
	}
	if len(list) == 0 {
		a.note(`no node yet; see "asmtp-cli help connect"`)
	}
	w := tabwriter.NewWriter(a.out, 0, 4, 2, ' ', 0)
	for _, n := range list {
		last := "never synced"
		if !n.LastSync.IsZero() {
			last = "synced " + n.LastSync.Local().Format(time.DateTime)
		}
		if n.Problem != "" {
			last += "; last time: " + n.Problem
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", n.Node.Key.Short(), n.Node.Address, last)
	}
	return w.Flush()
}

func (a *app) removeNode(ctx context.Context, acc *account.Account, who string) error {
	n, err := acc.FindNode(ctx, who)
	if err != nil {
		return hintError{err, []string{`"asmtp-cli node list" prints the ids`}}
	}
	told, err := acc.RemoveNode(ctx, n.Node.Key)
	if err != nil {
		return err
	}
	if !told {
		a.note("the node was not reached: until its keys end, it still knows which mail is yours (and cannot read it)")
	}
	return a.print(asNodeInfoJSON(n), func(w io.Writer) {
		fmt.Fprintf(w, "node %s at %s is not used any more\n", n.Node.Key.Short(), n.Node.Address)
	})
}
