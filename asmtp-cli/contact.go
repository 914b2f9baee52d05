package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/asmtp/asmtp/internal/account"
	"github.com/asmtp/asmtp/internal/cli"
	"github.com/asmtp/asmtp/passport"
)

type contactJSON struct {
	Name     string `json:"name"`
	Passport string `json:"passport"`
	Verified bool   `json:"verified"`
	Waiting  bool   `json:"waiting,omitempty"`
	Problem  string `json:"problem,omitempty"`
}

func asContactJSON(c account.Contact) contactJSON {
	return contactJSON{c.Name, c.Passport.String(), c.Verified, c.Waiting, c.Problem}
}

func (a *app) contactCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "contact",
		Short: "whom you write to, and whose mail you take",
		Long:  "Mail flows between two people once both have added each other.",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return usage("which contact command?", `"asmtp-cli help contact" lists them`)
		},
		Example: "  asmtp-cli contact add bob 0123456789abcdef0123456789abcdef",
	}
	add := &cobra.Command{
		Use: "add NAME (PASSPORT-ID | FILE)", Short: "know somebody by their passport id, or by an exported passport",
		Long: `Adds a contact. By id the passport comes through your node; mail that you send before it
has come waits. FILE is what "asmtp-cli passport export" wrote. Prints what the other side
types to add you.`,
		Example: "  asmtp-cli contact add bob 0123456789abcdef0123456789abcdef",
		Args:    exactArgs(2, "a name, and a passport id or a file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(acc *account.Account) error {
				return a.addContact(cmd.Context(), acc, args[0], args[1])
			})
		},
	}
	list := &cobra.Command{
		Use: "list", Short: "list all contacts", Example: "  asmtp-cli contact list --json", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd.Context(), func(acc *account.Account) error {
				list, err := acc.Contacts(cmd.Context())
				if err != nil {
					return err
				}
				return a.printContacts(list)
			})
		},
	}
	remove := &cobra.Command{
		Use: "remove NAME", Short: "forget a contact; mail from it is not taken any more",
		Example: "  asmtp-cli contact remove bob", Args: exactArgs(1, "the name of a contact"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(acc *account.Account) error {
				return acc.RemoveContact(cmd.Context(), args[0])
			})
		},
	}
	verify := &cobra.Command{
		Use: "verify NAME", Short: "note that you compared the passport id by another way, such as in person",
		Example: "  asmtp-cli contact verify bob", Args: exactArgs(1, "the name of a contact"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(acc *account.Account) error {
				return acc.SetVerified(cmd.Context(), args[0], true)
			})
		},
	}
	cmd.AddCommand(add, list, remove, verify)
	return cmd
}

// exactArgs is cobra.ExactArgs with words for people.
func exactArgs(n int, what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != n {
			return usage(fmt.Sprintf("%d arguments, want %d: %s", len(args), n, what))
		}
		return nil
	}
}

// maxExport bounds what is read of an exported passport: its own limit, and lengths.
const maxExport = passport.MaxSize + 4*passport.MaxBlocks

func (a *app) addContact(ctx context.Context, acc *account.Account, name, who string) error {
	var c account.Contact
	id, err := passport.ParseID(who)
	switch {
	case err == nil:
		c, err = acc.AddContact(ctx, name, id)
	case exists(who):
		var export []byte
		if export, err = cli.ReadFile(who, maxExport); err == nil {
			c, err = acc.AddContactExport(ctx, name, export)
		}
	default:
		return usage(fmt.Sprintf("%q is neither a passport id (32 hex digits) nor a file", who),
			`ask for the id: "asmtp-cli id" prints it`)
	}
	if err != nil {
		return err
	}
	c = a.meet(ctx, acc, c)
	return a.print(asContactJSON(c), func(w io.Writer) {
		fmt.Fprintf(w, "%s is a contact now, passport %s\n", c.Name, c.Passport)
		if c.Waiting {
			fmt.Fprintf(w, "the passport has not come through the node yet; mail to %s waits until it does\n", c.Name)
		}
		fmt.Fprintf(w, "on the other side, if not done yet:\n  asmtp-cli contact add %s %s\n", acc.Name(), acc.ID())
	})
}

// meetTimeout bounds how long contact add waits for the node.
const meetTimeout = 10 * time.Second

// meet takes the new contact's passport from the node, if it has it, and tells the node to
// recognise the contact's mail. A node that is away does no harm: the next sync does both.
func (a *app) meet(ctx context.Context, acc *account.Account, c account.Contact) account.Contact {
	ctx, cancel := context.WithTimeout(ctx, meetTimeout)
	defer cancel()
	result, err := acc.Sync(ctx, account.SyncOptions{})
	a.noteReceived(result)
	a.noteNodes(result)
	switch {
	case errors.Is(err, account.ErrNoNode):
	case err != nil:
		a.note("no node was reached (%v); the next sync looks for the passport", err)
	}
	if now, err := acc.Contact(ctx, c.Name); err == nil {
		return now
	}
	return c
}

func (a *app) printContacts(list []account.Contact) error {
	if a.json {
		var errs error
		for _, c := range list {
			errs = errors.Join(errs, a.print(asContactJSON(c), nil))
		}
		return errs
	}
	w := tabwriter.NewWriter(a.out, 0, 4, 2, ' ', 0)
	for _, c := range list {
		state := ""
		switch {
		case c.Problem != "":
			state = c.Problem
		case c.Waiting:
			state = "passport not known yet"
		case c.Verified:
			state = "verified"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", c.Name, c.Passport, state)
	}
	return w.Flush()
}
