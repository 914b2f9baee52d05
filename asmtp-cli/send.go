package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/asmtp/asmtp/internal/account"
)

type outgoingJSON struct {
	ID        string       `json:"id"`
	To        string       `json:"to"`
	State     string       `json:"state"`
	Held      int          `json:"held"`
	Since     time.Time    `json:"since"`
	Reason    string       `json:"reason"`
	Next      *time.Time   `json:"next,omitempty"` // when it is tried again
	History   []changeJSON `json:"history,omitempty"`
	Envelopes []string     `json:"envelopes,omitempty"` // the parts as sealed last, by id
}

type changeJSON struct {
	State string    `json:"state"`
	Held  int       `json:"held"`
	Time  time.Time `json:"time"`
	Note  string    `json:"note"`
}

func asOutgoingJSON(o account.Outgoing) outgoingJSON {
	j := outgoingJSON{ID: o.ID.String(), To: o.To, State: o.State.String(), Held: o.Held, Since: o.Since, Reason: o.Reason}
	for _, c := range o.History {
		j.History = append(j.History, changeJSON{c.State.String(), c.Held, c.Time, c.Note})
	}
	for _, id := range o.Envelopes {
		j.Envelopes = append(j.Envelopes, id.String())
	}
	if !o.Next.IsZero() {
		j.Next = &o.Next
	}
	return j
}

// sendOptions are the flags that send and reply share.
type sendOptions struct {
	attach   []string
	wait     string
	timeout  time.Duration
	lifetime lifetime
}

func (o *sendOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringArrayVar(&o.attach, "attach", nil, "attach `FILE`; may be repeated")
	f.StringVar(&o.wait, "wait", "", "return when the mail is in this `STATE`: accepted, held, delivered or read")
	f.DurationVar(&o.timeout, "timeout", 0, "with --wait: give up after `D`, such as 30s (default: never)")
	f.Var(&o.lifetime, "lifetime", "try to deliver for `D`, from 1h to 60d, such as 36h or 10d (default 14d)")
}

func (a *app) sendCommand() *cobra.Command {
	var o sendOptions
	var d account.Draft
	var raw bool
	cmd := &cobra.Command{
		Use:   "send --to NAME [FILE | -]",
		Short: "write to contacts: text from a file or from stdin",
		Long: `Sends the text of FILE, or of stdin, to contacts. The command is done once the mail is
durable on this device, whether or not the node answered; the next sync takes along what
could not be handed over. Delivery is tried for 14 days, or for --lifetime; after 4 hours
without an answer, and at the end, a notice is in your inbox. With --raw the file is a whole
RFC 5322 message.`,
		Example: "  asmtp-cli send --to bob --subject Hello --attach photo.jpg letter.txt\n  echo Yes | asmtp-cli send --to bob --wait delivered --timeout 30s",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			want, err := o.state()
			if err != nil {
				return err
			}
			return a.with(cmd.Context(), func(acc *account.Account) error {
				in, name, err := a.input(args)
				if err != nil {
					return fmt.Errorf("send to %s: %w", strings.Join(d.To, ", "), err)
				}
				defer in.Close()
				what := fmt.Sprintf("send %s to %s", name, strings.Join(d.To, ", "))
				if raw {
					d.Raw = in
				} else if d.Text, err = readText(in); err != nil {
					return fmt.Errorf("%s: %w", what, err)
				}
				if d.Attachments, err = attachments(o.attach); err != nil {
					return fmt.Errorf("%s: %w", what, err)
				}
				d.Lifetime = time.Duration(o.lifetime)
				return a.send(cmd.Context(), acc, d, what, want, o.timeout)
			})
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&d.To, "to", nil, "the contact's `NAME`; may be repeated")
	f.StringSliceVar(&d.Cc, "cc", nil, "a copy to `NAME`")
	f.StringSliceVar(&d.Bcc, "bcc", nil, "a copy to `NAME` that the others do not see")
	f.StringVar(&d.Subject, "subject", "", "the `SUBJECT`")
	f.BoolVar(&raw, "raw", false, "the file is an RFC 5322 message")
	o.flags(cmd)
	return cmd
}

// state returns the state to wait for; Queued means none.
func (o *sendOptions) state() (account.State, error) {
	if o.wait == "" {
		return account.Queued, nil
	}
	s, err := account.ParseState(o.wait)
	if err != nil || s == account.Queued || s == account.Cancelled || s == account.Refused || s == account.Unconfirmed {
		return 0, usage(fmt.Sprintf("--wait %s", o.wait), "want accepted, held, delivered or read")
	}
	return s, nil
}

// maxText bounds the text of a mail; the mail's own limit is checked with all of it.
const maxText = 64 << 20

func readText(r io.Reader) (string, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxText+1))
	if err == nil && len(b) > maxText {
		err = fmt.Errorf("text of more than %d bytes", maxText)
	}
	return string(b), err
}

// input opens the file that args name, or stdin.
func (a *app) input(args []string) (io.ReadCloser, string, error) {
	if len(args) == 0 || args[0] == "-" {
		return io.NopCloser(a.in), "mail", nil
	}
	f, err := os.Open(args[0])
	return f, args[0], err
}

// attachments looks for the files, so that a missing one is an error before anything is
// done. They are opened, and then read, when the mail is composed.
func attachments(files []string) ([]account.Attachment, error) {
	var list []account.Attachment
	for _, file := range files {
		st, err := os.Stat(file)
		if err != nil {
			return nil, err
		}
		if !st.Mode().IsRegular() {
			return nil, fmt.Errorf("attach %s: not a regular file", file)
		}
		list = append(list, account.Attachment{
			Name: filepath.Base(file),
			Open: func() (io.ReadCloser, error) { return os.Open(file) },
		})
	}
	return list, nil
}

// send puts a draft into the outbox, tries to hand it over, and prints how it stands.
// Once the mail is in the outbox only waiting in vain is an error.
func (a *app) send(ctx context.Context, acc *account.Account, d account.Draft, what string, want account.State, timeout time.Duration) error {
	sent, err := acc.Send(ctx, d)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	id := sent[0].ID
	p := a.progress()
	if want != account.Queued {
		return a.wait(ctx, acc, id, want, timeout, p)
	}
	result, syncErr := acc.Sync(ctx, account.SyncOptions{OnProgress: p.show})
	p.done()
	a.noteReceived(result)
	a.noteNodes(result)
	if now, err := acc.Status(ctx, id); err == nil {
		sent = now
	}
	if err := a.printOutgoing(sent, false); err != nil {
		return err
	}
	if syncErr != nil {
		a.note("no node was reached (%v); the mail is kept here, and the next sync takes it along", syncErr)
	}
	return nil
}

// noteReceived tells of mail that came in while something else was done.
func (a *app) noteReceived(r account.SyncResult) {
	if r.Received > 0 {
		a.note(`new mail came in (%d); "asmtp-cli inbox" lists them`, r.Received)
	}
}

// noteNodes tells of the nodes with which a sync failed, if it went well with another.
func (a *app) noteNodes(r account.SyncResult) {
	ok := 0
	for _, n := range r.Nodes {
		if n.Err == nil {
			ok++
		}
	}
	for _, n := range r.Nodes {
		if n.Err != nil && ok > 0 {
			a.note("one of the nodes was not reached: %v", n.Err)
		}
	}
}

func (a *app) wait(ctx context.Context, acc *account.Account, id account.MailID, want account.State, timeout time.Duration, p *progress) error {
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	list, err := acc.Wait(ctx, id, want, account.SyncOptions{OnProgress: p.show})
	p.done()
	if w, ok := errors.AsType[*account.WaitError](err); ok {
		list = w.Mails
	}
	if perr := a.printOutgoing(list, false); perr != nil {
		return perr
	}
	if err != nil {
		return err
	}
	for _, o := range list {
		if !o.State.Reached(want) {
			return fmt.Errorf("the mail to %s is %s: %s", o.To, o.State, o.Reason)
		}
	}
	return nil
}

// printOutgoing prints a line for each recipient, for people with the history if wanted.
func (a *app) printOutgoing(list []account.Outgoing, history bool) error {
	for _, o := range list {
		j := asOutgoingJSON(o)
		if !history {
			j.History, j.Envelopes = nil, nil
		}
		err := a.print(j, func(w io.Writer) {
			fmt.Fprintf(w, "%s  to %s: %s%s\n", o.ID, o.To, o.State, heldText(o))
			if !history {
				return
			}
			for _, c := range o.History {
				note := c.Note
				if c.State == account.Held {
					note = strings.TrimSpace("by " + others(c.Held) + " " + note)
				}
				fmt.Fprintf(w, "  %s  %-11s %s\n", c.Time.Local().Format(time.DateTime), c.State, note)
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// others says how many other nodes hold a mail.
func others(n int) string {
	if n == 1 {
		return "1 other node"
	}
	return fmt.Sprintf("%d other nodes", n)
}

func heldText(o account.Outgoing) string {
	var s string
	if o.State == account.Held {
		s = " by " + others(o.Held)
	}
	if o.Reason != "" {
		s += " (" + o.Reason + ")"
	}
	return s
}
