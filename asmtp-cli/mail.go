package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/asmtp/asmtp/internal/account"
	"github.com/asmtp/asmtp/internal/cli"
)

type summaryJSON struct {
	ID      string    `json:"id"`
	From    string    `json:"from"`
	Subject string    `json:"subject"`
	Date    time.Time `json:"date"`
	Size    int64     `json:"size"`
}

type inboxJSON struct {
	summaryJSON
	Read        bool `json:"read"`
	Attachments int  `json:"attachments"`
	Certain     bool `json:"certain"`
}

type mailJSON struct {
	ID          string           `json:"id"`
	From        string           `json:"from"`
	To          []string         `json:"to"`
	Cc          []string         `json:"cc,omitempty"`
	Subject     string           `json:"subject"`
	Date        time.Time        `json:"date"`
	Text        string           `json:"text"`
	Attachments []attachmentJSON `json:"attachments"`
	Certain     bool             `json:"certain"`
}

type attachmentJSON struct {
	Name string `json:"name"`
	Size int64  `json:"size"`
}

func asSummaryJSON(s account.Summary) summaryJSON {
	return summaryJSON{s.ID.String(), s.From, s.Subject, s.Date, s.Size}
}

func (a *app) syncCommand() *cobra.Command {
	var follow bool
	cmd := &cobra.Command{
		Use:   "sync",
		Short: "send what is due and take new mail in",
		Long:  "Sends what is due, takes new mail in and prints a line for each. With --follow it stays and prints each mail as it comes, until it is interrupted.",
		Example: `  asmtp-cli sync
  asmtp-cli sync --follow --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd.Context(), func(acc *account.Account) error { return a.sync(cmd.Context(), acc, follow) })
		},
	}
	cmd.Flags().BoolVar(&follow, "follow", false, "stay, and print each mail as it comes")
	return cmd
}

func (a *app) sync(ctx context.Context, acc *account.Account, follow bool) error {
	p := a.progress()
	var printing error
	result, err := acc.Sync(ctx, account.SyncOptions{
		Follow:     follow,
		OnProgress: p.show,
		OnMail: func(s account.Summary) {
			p.done()
			printing = errors.Join(printing, a.print(asSummaryJSON(s), func(w io.Writer) { fmt.Fprintln(w, summaryLine(s)) }))
		},
	})
	p.done()
	if follow && errors.Is(err, context.Canceled) {
		return printing // interrupted, as --follow is meant to end
	}
	if err != nil {
		return errors.Join(withKey(acc, err), printing)
	}
	a.noteNodes(result)
	if result.Pending > 0 {
		a.note(`%d mails wait here; "asmtp-cli queue" says for what`, result.Pending)
	}
	return printing
}

func summaryLine(s account.Summary) string {
	mark := " "
	if !s.Read {
		mark = "*"
	}
	certain := ""
	if !s.Certain {
		certain = "  [sender not certain]"
	}
	files := ""
	if s.Attachments > 0 {
		files = fmt.Sprintf("  [%d attached]", s.Attachments)
	}
	return fmt.Sprintf("%s %s  %s  %-12s %s%s%s", mark, s.ID.String()[:8], s.Date.Local().Format("2006-01-02 15:04"), s.From, cut(s.Subject, maxSubject), files, certain)
}

// maxSubject is how many characters of a subject a list shows.
const maxSubject = 72

// cut shortens a text to n characters, the last of which then says so.
func cut(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return string(r[:n-1]) + "…"
}

func (a *app) inboxCommand() *cobra.Command {
	var o account.InboxOptions
	var all bool
	cmd := &cobra.Command{
		Use:     "inbox",
		Short:   "list received mail, newest first",
		Long:    "Lists received mail that is on this device, newest first; \"asmtp-cli sync\" takes new mail in. Without --all or --search at most 50 mails.",
		Example: "  asmtp-cli inbox\n  asmtp-cli inbox --search 'beans peas'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !all && o.Search == "" {
				o.Limit = 50
			}
			return a.with(cmd.Context(), func(acc *account.Account) error { return a.inbox(cmd.Context(), acc, o) })
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "list all, however many")
	cmd.Flags().StringVar(&o.Search, "search", "", "only mail in which all these `WORDS` occur")
	return cmd
}

func (a *app) inbox(ctx context.Context, acc *account.Account, o account.InboxOptions) error {
	list, err := acc.Inbox(ctx, o)
	if err != nil {
		return err
	}
	for _, s := range list {
		j := inboxJSON{asSummaryJSON(s), s.Read, s.Attachments, s.Certain}
		if err := a.print(j, func(w io.Writer) { fmt.Fprintln(w, summaryLine(s)) }); err != nil {
			return err
		}
	}
	over, err := acc.Overview(ctx)
	if err != nil {
		return err
	}
	when := `never; "asmtp-cli sync" does it`
	if !over.LastSync.IsZero() {
		when = over.LastSync.Local().Format(time.DateTime)
	}
	a.note("mail was last taken in: %s", when)
	if over.Newer > 0 {
		a.note("%d parts of mail need a newer program", over.Newer)
	}
	return nil
}

// withMail opens the account and finds the mail whose id begins with prefix.
func (a *app) withMail(ctx context.Context, prefix string, f func(*account.Account, account.MailID) error) error {
	return a.with(ctx, func(acc *account.Account) error {
		id, err := acc.Find(ctx, prefix)
		if err != nil {
			return err
		}
		return f(acc, id)
	})
}

func (a *app) readCommand() *cobra.Command {
	var raw bool
	var dir string
	cmd := &cobra.Command{
		Use:     "read ID",
		Short:   "show a mail, and mark it as read",
		Long:    "Shows a mail. ID is the beginning of its id, at least 4 digits, if only one mail has it.",
		Example: "  asmtp-cli read 4f2a\n  asmtp-cli read 4f2a --save-attachments photos",
		Args:    exactArgs(1, "the id of a mail"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			return a.withMail(ctx, args[0], func(acc *account.Account, id account.MailID) error {
				if dir != "" {
					files, err := acc.SaveAttachments(ctx, id, dir)
					if err != nil {
						return err
					}
					for _, f := range files {
						a.note("saved %s", f)
					}
				}
				show := a.show
				if raw {
					show = func(ctx context.Context, acc *account.Account, id account.MailID) error {
						return acc.Raw(ctx, id, a.out)
					}
				}
				if err := show(ctx, acc, id); err != nil {
					return err
				}
				return acc.MarkRead(ctx, id, true)
			})
		},
	}
	cmd.Flags().BoolVar(&raw, "raw", false, "print the RFC 5322 message as it was sent")
	cmd.Flags().StringVar(&dir, "save-attachments", "", "save the attachments into `DIR`")
	return cmd
}

func (a *app) show(ctx context.Context, acc *account.Account, id account.MailID) error {
	m, err := acc.Mail(ctx, id)
	if err != nil {
		return err
	}
	j := mailJSON{
		ID: m.ID.String(), From: m.From, To: m.To, Cc: m.Cc, Subject: m.Subject, Date: m.Date, Text: m.Text,
		Attachments: []attachmentJSON{}, Certain: m.Certain,
	}
	for _, f := range m.Attachments {
		j.Attachments = append(j.Attachments, attachmentJSON{f.Name, f.Size})
	}
	return a.print(j, func(w io.Writer) { printMail(w, m) })
}

func printMail(w io.Writer, m *account.Mail) {
	t := tabwriter.NewWriter(w, 0, 4, 1, ' ', 0)
	from := m.From
	if !m.Certain {
		from += "  [sender not certain: a removed device knows the key this was sealed with]"
	}
	fmt.Fprintf(t, "From:\t%s\n", from)
	for _, to := range m.To {
		fmt.Fprintf(t, "To:\t%s\n", to)
	}
	for _, cc := range m.Cc {
		fmt.Fprintf(t, "Cc:\t%s\n", cc)
	}
	fmt.Fprintf(t, "Date:\t%s\n", m.Date.Local().Format(time.RFC1123))
	fmt.Fprintf(t, "Subject:\t%s\n", m.Subject)
	for _, f := range m.Attachments {
		fmt.Fprintf(t, "Attached:\t%s (%s)\n", f.Name, byteCount(f.Size))
	}
	t.Flush()
	fmt.Fprintf(w, "\n%s", m.Text)
	if n := len(m.Text); n > 0 && m.Text[n-1] != '\n' {
		fmt.Fprintln(w)
	}
}

// byteCount is a number of bytes for people.
func byteCount(n int64) string {
	switch {
	case n < 1<<10:
		return fmt.Sprintf("%d bytes", n)
	case n < 1<<20:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
}

func (a *app) replyCommand() *cobra.Command {
	var o sendOptions
	cmd := &cobra.Command{
		Use:     "reply ID [FILE | -]",
		Short:   "answer a mail: text from a file or from stdin",
		Example: "  asmtp-cli reply 4f2a answer.txt",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 || len(args) > 2 {
				return usage("want the id of a mail, and a file or - for stdin")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			want, err := o.state()
			if err != nil {
				return err
			}
			ctx := cmd.Context()
			return a.withMail(ctx, args[0], func(acc *account.Account, id account.MailID) error {
				d, err := acc.Reply(ctx, id)
				if err != nil {
					return err
				}
				in, name, err := a.input(args[1:])
				if err != nil {
					return err
				}
				defer in.Close()
				what := fmt.Sprintf("send %s in reply to %s", name, args[0])
				if d.Text, err = readText(in); err != nil {
					return fmt.Errorf("%s: %w", what, err)
				}
				if d.Attachments, err = attachments(o.attach); err != nil {
					return fmt.Errorf("%s: %w", what, err)
				}
				d.Lifetime = time.Duration(o.lifetime)
				return a.send(ctx, acc, d, what, want, o.timeout)
			})
		},
	}
	o.flags(cmd)
	return cmd
}

func (a *app) deleteCommand() *cobra.Command {
	return &cobra.Command{
		Use: "delete ID", Short: "remove a mail from this device", Example: "  asmtp-cli delete 4f2a",
		Args: exactArgs(1, "the id of a mail"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withMail(cmd.Context(), args[0], func(acc *account.Account, id account.MailID) error {
				return acc.Delete(cmd.Context(), id)
			})
		},
	}
}

func (a *app) passportCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "passport", Short: "your passport: the chain of blocks that says which devices speak for you", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return usage("which passport command?", `"asmtp-cli help passport" lists them`)
		},
		Example: "  asmtp-cli passport show",
	}
	show := &cobra.Command{
		Use: "show", Short: "print the chain in words", Example: "  asmtp-cli passport show", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd.Context(), func(acc *account.Account) error { return a.showPassport(cmd.Context(), acc) })
		},
	}
	export := &cobra.Command{
		Use: "export FILE", Short: "write the passport as the original ASMTP does; it holds nothing secret in clear",
		Example: "  asmtp-cli passport export alice.passport", Args: exactArgs(1, "a file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(acc *account.Account) error {
				p, err := acc.Passport(cmd.Context())
				if err != nil {
					return err
				}
				f, err := os.OpenFile(args[0], os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
				if err != nil {
					return err
				}
				_, err = f.Write(p.Export())
				return errors.Join(err, f.Close())
			})
		},
	}
	imp := &cobra.Command{
		Use: "import FILE", Short: "take an exported passport: a contact's newer chain, or one's own",
		Example: "  asmtp-cli passport import bob.passport", Args: exactArgs(1, "a file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(acc *account.Account) error {
				b, err := cli.ReadFile(args[0], maxExport)
				if err != nil {
					return err
				}
				id, err := acc.Import(cmd.Context(), b)
				if err != nil {
					return err
				}
				return a.print(map[string]string{"passport": id.String()}, func(w io.Writer) { fmt.Fprintln(w, "passport", id) })
			})
		},
	}
	cmd.AddCommand(show, export, imp)
	return cmd
}
