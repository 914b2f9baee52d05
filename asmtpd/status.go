package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/asmtp/asmtp/internal/control"
)

func newStatusCommand() *cobra.Command {
	c := new(client)
	cmd := &cobra.Command{
		Use: "status", Short: "how the running node is", Example: "  asmtpd status --json", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.do(cmd, func(ctx context.Context, node *control.Client) error {
				s, err := node.Status(ctx)
				if err != nil {
					return err
				}
				return c.print(cmd, s, func(w io.Writer) { printStatus(w, s) })
			})
		},
	}
	c.flags(cmd)
	return cmd
}

func printStatus(w io.Writer, s *control.Status) {
	fmt.Fprintf(w, "node\t%s\n", s.ID)
	fmt.Fprintf(w, "version\t%s, up since %s\n", s.Version, s.Started.Local().Format(time.DateTime))
	fmt.Fprintf(w, "listens on\t%s\n", s.Listen)
	for _, a := range s.Public {
		fmt.Fprintf(w, "reached at\t%s\n", a)
	}
	fmt.Fprintf(w, "mesh\t%s, %d members, keeps mail for %.0f days\n", s.Mesh, s.Members, s.Retention.Hours()/24)
	fmt.Fprintf(w, "stores\t%d envelopes, %s\n", s.Envelopes, control.Bytes(s.Bytes))
	printRoom(w, s)
	fmt.Fprintf(w, "users\t%d, %d devices connected, %d tag keys\n", s.Users, s.Sessions, s.TagKeys)
	printClock(w, s.Clock)
	printReconciled(w, s.Reconciled)
	for _, p := range s.Peers {
		printPeer(w, p)
		printComparison(w, p.Reconciled)
	}
}

// printComparison says what is unusual about the comparisons with a peer.
func printComparison(w io.Writer, r *control.PeerReconciled) {
	if r == nil {
		return
	}
	if r.Refused > 0 {
		fmt.Fprintf(w, "\tit refused %d envelopes within the last hour, for want of room\n", r.Refused)
	}
	if r.Gone > 0 {
		fmt.Fprintf(w, "\tit said to have %d envelopes that it had not\n", r.Gone)
	}
	if r.Error != "" {
		fmt.Fprintf(w, "\tthe last comparison with it failed: %s\n", r.Error)
	}
}

// printRoom says how full the node is, when it would be full, and whether it takes mail.
func printRoom(w io.Writer, s *control.Status) {
	for _, q := range []struct {
		name  string
		quota control.Quota
	}{{"large", s.Large}, {"rest", s.Rest}} {
		fmt.Fprintf(w, "quota %s\town users: %s\n", q.name, accountText(q.quota.Own, q.quota.Limit, s.LittleData))
		fmt.Fprintf(w, "\tfor others: %s\n", accountText(q.quota.Relayed, q.quota.Limit, s.LittleData))
	}
	fmt.Fprintf(w, "disk\t%s free, %s are left alone\n", control.Bytes(s.Disk.Free), control.Bytes(s.Disk.Reserve))
	for _, why := range s.Refusing {
		fmt.Fprintf(w, "REFUSES MAIL\t%s\n", why)
	}
	if len(s.Refused) > 0 {
		var counts []string
		for _, reason := range slices.Sorted(maps.Keys(s.Refused)) {
			counts = append(counts, fmt.Sprintf("%d by %s", s.Refused[reason], reason))
		}
		fmt.Fprintf(w, "refused\t%s, since the start\n", strings.Join(counts, ", "))
	}
}

func accountText(a control.Account, limit int64, little bool) string {
	percent := 0.0
	if limit > 0 {
		percent = 100 * float64(a.Bytes) / float64(limit)
	}
	text := fmt.Sprintf("%s of %s (%.0f %%), ", control.Bytes(a.Bytes), control.Bytes(limit), percent)
	switch {
	case a.Bytes >= limit:
		return text + "full"
	case a.FullAt.IsZero():
		text += "not full at the present rate"
	default:
		text += "full on " + a.FullAt.Local().Format(time.DateOnly) + " at the present rate"
	}
	if little {
		text += " (a guess: up for less than a day)"
	}
	return text
}

func printClock(w io.Writer, c control.Clock) {
	if !c.Known {
		return
	}
	offset := time.Duration(c.Offset * float64(time.Second)).Round(time.Second)
	way := "ahead of"
	if offset < 0 {
		way = "behind"
	}
	switch {
	case c.Wrong:
		fmt.Fprintf(w, "CLOCK\tmost peers' clocks are %v %s this one: set this machine's clock\n", offset.Abs(), way)
	case offset == 0:
		fmt.Fprintf(w, "clock\tas most peers'\n")
	default:
		fmt.Fprintf(w, "clock\tmost peers' are %v %s this one\n", offset.Abs(), way)
	}
}

func printReconciled(w io.Writer, r control.Reconciled) {
	if r.Last.IsZero() && r.Failed == 0 {
		return
	}
	last := "never agreed"
	if !r.Last.IsZero() {
		last = "agreed " + r.Last.Local().Format(time.DateTime)
	}
	fmt.Fprintf(w, "stores compared\t%s; since the start %d times with %s, %d failed; this node lacked %d envelopes and got %d, others lacked %d\n",
		last, r.Sessions, control.Bytes(r.Bytes), r.Failed, r.Missing, r.Fetched, r.Lacking)
}
