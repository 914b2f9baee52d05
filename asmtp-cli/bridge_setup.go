package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/asmtp/asmtp/internal/account"
	"github.com/asmtp/asmtp/internal/bridge"
)

type passwordJSON struct {
	User     string `json:"user"`
	Password string `json:"password"`
	Name     string `json:"name"`
}

type passwordInfoJSON struct {
	Name    string     `json:"name"`
	Created time.Time  `json:"created"`
	Used    *time.Time `json:"used"` // null: never
}

func (a *app) bridgePasswordCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "password [NAME]",
		Short: "make a password for a mail program; list them; revoke one",
		Long: `Makes a password and prints it this once; only its hash is kept. Give each mail program its
own, by a name that says which it is: then one can be revoked and the others stay. Without
NAME it gets a number. A password of that name is replaced. It is good for IMAP and SMTP,
and a bridge that runs knows it at once.`,
		Example: "  asmtp-cli bridge password thunderbird\n  asmtp-cli bridge password list\n  asmtp-cli bridge password revoke thunderbird",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(acc *account.Account) error { return a.makePassword(cmd.Context(), acc, args) })
		},
	}
	cmd.AddCommand(
		&cobra.Command{
			Use: "list", Short: "list the passwords of mail programs, by name", Example: "  asmtp-cli bridge password list --json", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				return a.with(cmd.Context(), func(acc *account.Account) error { return a.listPasswords(cmd.Context(), acc) })
			},
		},
		&cobra.Command{
			Use: "revoke NAME", Short: "make a password worthless, and end the connections that use it",
			Example: "  asmtp-cli bridge password revoke thunderbird", Args: exactArgs(1, "the name of a password"),
			RunE: func(cmd *cobra.Command, args []string) error {
				return a.with(cmd.Context(), func(acc *account.Account) error {
					if err := acc.RevokePassword(cmd.Context(), args[0]); err != nil {
						return hintError{err, []string{`"asmtp-cli bridge password list" lists them`}}
					}
					return a.print(map[string]string{"name": args[0]}, func(w io.Writer) { fmt.Fprintf(w, "password %s is revoked\n", args[0]) })
				})
			},
		},
	)
	return cmd
}

// loginName is the user for logins: an address, unless it has letters that not every mail
// program sends.
func loginName(acc *account.Account) string {
	addresses := acc.Addresses()
	if strings.ContainsFunc(acc.Name(), func(r rune) bool { return r > '~' }) {
		return addresses[1]
	}
	return addresses[0]
}

func (a *app) makePassword(ctx context.Context, acc *account.Account, args []string) error {
	list, err := acc.Passwords(ctx)
	if err != nil {
		return err
	}
	taken := func(name string) bool {
		return slices.ContainsFunc(list, func(p account.PasswordInfo) bool { return p.Name == name })
	}
	name := ""
	if len(args) > 0 {
		name = args[0]
	}
	for n := 1; name == ""; n++ {
		if try := fmt.Sprintf("program-%d", n); !taken(try) {
			name = try
		}
	}
	password, err := acc.MakePassword(ctx, name)
	if err != nil {
		return err
	}
	if taken(name) {
		a.note("the password that %s had until now is worthless", name)
	}
	return a.print(passwordJSON{loginName(acc), password, name}, func(w io.Writer) {
		fmt.Fprintf(w, "user      %s\npassword  %s\n", loginName(acc), password)
		a.note(`it is shown this once; "asmtp-cli bridge setup" prints the other settings`)
	})
}

func (a *app) listPasswords(ctx context.Context, acc *account.Account) error {
	list, err := acc.Passwords(ctx)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(a.out, 0, 4, 2, ' ', 0)
	for _, p := range list {
		j := passwordInfoJSON{Name: p.Name, Created: p.Created}
		used := "never used"
		if !p.Used.IsZero() {
			j.Used, used = &p.Used, "used "+p.Used.Local().Format(time.DateTime)
		}
		if a.json {
			if err := a.print(j, nil); err != nil {
				return err
			}
			continue
		}
		fmt.Fprintf(w, "%s\tmade %s\t%s\n", p.Name, p.Created.Local().Format(time.DateTime), used)
	}
	if len(list) == 0 && !a.json {
		a.note(`no password yet; "asmtp-cli bridge password thunderbird" makes one`)
	}
	return w.Flush()
}

func (a *app) bridgeSetupCommand() *cobra.Command {
	var f bridgeFlags
	cmd := &cobra.Command{
		Use:   "setup [PROGRAM]",
		Short: "print the settings for mail programs, ready to paste",
		Long: `Prints the settings for a mail program, or for all that it knows: ` + strings.Join(bridge.Programs(), ", ") + `.
Give the flags that the bridge runs with. The password is what "asmtp-cli bridge password"
prints.`,
		Example: "  asmtp-cli bridge setup thunderbird\n  asmtp-cli bridge setup --imap 192.168.1.5:993 --smtp 192.168.1.5:465 --tls implicit",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(acc *account.Account) error { return a.bridgeSetup(acc, f, args) })
		},
	}
	f.add(cmd)
	return cmd
}

type setupJSON struct {
	User        string `json:"user"`
	Address     string `json:"address"`
	IMAP        string `json:"imap"`
	SMTP        string `json:"smtp"`
	TLS         string `json:"tls"`
	Fingerprint string `json:"fingerprint"`
}

func (a *app) bridgeSetup(acc *account.Account, f bridgeFlags, args []string) error {
	programs := bridge.Programs()
	if len(args) > 0 {
		if !slices.Contains(programs, args[0]) {
			return usage(fmt.Sprintf("no settings for %q", args[0]), "there are those for "+strings.Join(programs, ", "), "another program takes the values of thunderbird")
		}
		programs = args
	}
	f, err := f.checked()
	if err != nil {
		return err
	}
	s := bridge.Setup{Name: acc.Name(), User: loginName(acc), Address: acc.Addresses()[0], IMAP: f.imap, SMTP: f.smtp, TLS: bridge.TLSMode(f.tls)}
	if s.TLS != bridge.TLSOff {
		dir, err := a.dir()
		if err != nil {
			return err
		}
		c, file, err := f.certificate(dir)
		if err != nil {
			return err
		}
		s.Certificate, s.Fingerprint = file, bridge.Fingerprint(c)
	}
	if a.json {
		return a.print(setupJSON{s.User, s.Address, s.IMAP, s.SMTP, string(s.TLS), s.Fingerprint}, nil)
	}
	for i, p := range programs {
		text, err := s.Text(p)
		if err != nil {
			return err
		}
		if i > 0 {
			fmt.Fprintln(a.out)
		}
		fmt.Fprint(a.out, text)
	}
	return nil
}
