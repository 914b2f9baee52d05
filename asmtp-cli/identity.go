package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/asmtp/asmtp/internal/account"
	"github.com/asmtp/asmtp/internal/clock"
	"github.com/asmtp/asmtp/internal/control"
	"github.com/asmtp/asmtp/internal/version"
	"github.com/asmtp/asmtp/mesh"
)

type identityJSON struct {
	Passport string `json:"passport"`
	Key      string `json:"key"`
	Node     string `json:"node,omitempty"`
	Address  string `json:"address,omitempty"`
}

func (a *app) initCommand() *cobra.Command {
	var name, invitation string
	var noPassphrase bool
	cmd := &cobra.Command{
		Use:   "init --name NAME",
		Short: "make this device's key, a passport and an account",
		Long: `Makes the master key of this device, a passport and an account for both, sealed with a
passphrase. NAME is how others see you. With the line of "asmtpd user invite" the device
is admitted to that node and connected at once.`,
		Example: "  asmtp-cli init --name alice\n  asmtp-cli init --name carol --invitation 'asmtp-user1…'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.init(cmd.Context(), name, invitation, noPassphrase)
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "your `NAME`, as others see it")
	cmd.Flags().StringVar(&invitation, "invitation", "", "the `LINE` of \"asmtpd user invite\"")
	cmd.Flags().BoolVar(&noPassphrase, "no-passphrase", false, "leave the key file in clear: whoever can read it can read your mail")
	_ = cmd.MarkFlagRequired("name") // fails only for a flag that does not exist
	return cmd
}

func (a *app) init(ctx context.Context, name, invitation string, noPassphrase bool) error {
	var line *mesh.Line
	if invitation != "" { // a bad line is refused before anything is made
		var err error
		if line, err = userLine(invitation); err != nil {
			return err
		}
	}
	dir, err := a.dir()
	if err != nil {
		return err
	}
	o, err := a.options()
	if err != nil {
		return err
	}
	if account.Exists(dir) {
		return fmt.Errorf("%s: %w", dir, account.ErrExists)
	}
	if o.NoPassphrase = noPassphrase; !noPassphrase {
		if o.Passphrase, err = a.newPassphrase(); err != nil {
			return err
		}
	}
	acc, err := account.Create(ctx, dir, name, o)
	if err != nil {
		return err
	}
	if line != nil {
		if err := a.redeemFirst(ctx, acc, line); err != nil {
			return errors.Join(err, acc.Close())
		}
	}
	id := identityJSON{Passport: acc.ID().String(), Key: acc.Key().String()}
	err = a.print(id, func(w io.Writer) {
		fmt.Fprintf(w, "account of %s in %s\npassport %s\nkey      %s\n", acc.Name(), dir, id.Passport, id.Key)
		if line == nil {
			fmt.Fprintf(w, `next, with a node of your own on this machine:
  asmtp-cli connect --local
or tell the node's operator to type
  asmtpd user add %s
and then type
  asmtp-cli connect --remote-address HOST:PORT --remote-id ID
`, id.Key)
		}
	})
	return errors.Join(err, acc.Close())
}

// userLine reads the line of "asmtpd user invite", which must not have ended.
func userLine(text string) (*mesh.Line, error) {
	line, err := mesh.ParseLine(text, mesh.LineUser)
	if err != nil {
		return nil, err
	}
	return line, line.CheckEnd(clock.Now())
}

// redeem uses an invitation: the node admits this device, which then connects.
func redeem(ctx context.Context, acc *account.Account, line *mesh.Line) (account.NodeStatus, error) {
	node, err := acc.Redeem(ctx, line)
	if err != nil {
		return account.NodeStatus{}, err
	}
	return acc.Connect(ctx, node)
}

// redeemFirst uses an invitation for an account that was just made, which stays in any case.
func (a *app) redeemFirst(ctx context.Context, acc *account.Account, line *mesh.Line) error {
	status, err := redeem(ctx, acc, line)
	if err != nil {
		return hintError{err, []string{
			"the account is made; the line may have been used up: ask for another, then \"asmtp-cli connect --invitation 'LINE'\"",
			"the node may be down: try later with \"asmtp-cli connect --invitation 'LINE'\"",
		}}
	}
	a.note("admitted by and connected to the node at %s", status.Node.Address)
	return nil
}

// newPassphrase finds the passphrase of a new account; on a terminal it is asked for twice.
func (a *app) newPassphrase() (string, error) {
	p, err := a.passphrase("new passphrase: ")
	if errors.Is(err, account.ErrNeedPassphrase) {
		return "", hintError{errors.New("there is no terminal to ask for a passphrase"),
			[]string{"give --passphrase-file FILE, set ASMTP_PASSPHRASE, or give --no-passphrase"}}
	}
	if err != nil {
		return "", err
	}
	if p == "" {
		return "", hintError{errors.New("the passphrase is empty; nothing was made"), []string{"give --no-passphrase if that is what you want"}}
	}
	if a.passphraseFile == "" && os.Getenv("ASMTP_PASSPHRASE") == "" && term.IsTerminal(int(os.Stdin.Fd())) {
		again, err := a.passphrase("once more: ")
		if err != nil {
			return "", err
		}
		if again != p {
			return "", errors.New("the two passphrases differ; nothing was made")
		}
	}
	return p, nil
}

type connectJSON struct {
	Node    string `json:"node"`
	OK      bool   `json:"ok"`
	Address string `json:"address"`
}

func (a *app) connectCommand() *cobra.Command {
	var local bool
	var data, invitation string
	cmd := &cobra.Command{
		Use:   "connect",
		Short: "add a node, try it, and publish the passport there",
		Long: `Keeps the node's address and id, tries it, publishes the passport and registers the keys
by which the node recognises your mail; then it sends and takes in what is due. With --local
the node is that of the same user on this machine, which admits this device. With several
nodes mail goes out through the first that answers and comes in from all; "asmtp-cli node"
lists and removes them.`,
		Example: "  asmtp-cli connect --local\n  asmtp-cli connect --remote-address mail.example.org:9800 --remote-id 3d40…",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd.Context(), func(acc *account.Account) error {
				return a.connect(cmd.Context(), acc, local, data, invitation)
			})
		},
	}
	cmd.Flags().BoolVar(&local, "local", false, "the node of this user on this machine")
	cmd.Flags().StringVar(&data, "data", "", "with --local: the node's data folder `DIR`")
	cmd.Flags().StringVar(&invitation, "invitation", "", "use the `LINE` of \"asmtpd user invite\"")
	return cmd
}

func (a *app) connect(ctx context.Context, acc *account.Account, local bool, data, invitation string) error {
	var status account.NodeStatus
	var err error
	switch {
	case invitation != "":
		line, err := userLine(invitation)
		if err != nil {
			return err
		}
		if status, err = redeem(ctx, acc, line); err != nil {
			return withKey(acc, err)
		}
	default:
		var node account.Node
		if local {
			node, err = localNode(ctx, acc, data)
		} else {
			node, err = a.remote()
		}
		if err != nil {
			return err
		}
		if node.Address == "" {
			return usage("which node?", "give --local, or --remote-address HOST:PORT and --remote-id ID")
		}
		if status, err = acc.Connect(ctx, node); err != nil {
			return withKey(acc, err)
		}
	}
	err = a.print(connectJSON{status.Node.Key.String(), true, status.Node.Address}, func(w io.Writer) {
		fmt.Fprintf(w, "connected to node %s at %s\n", status.Node.Key.Short(), status.Node.Address)
	})
	if err != nil {
		return err
	}
	result, err := acc.Sync(ctx, account.SyncOptions{})
	a.noteReceived(result)
	a.noteNodes(result)
	if err != nil {
		a.note("what is due was not exchanged (%v); the next sync does it", err)
	}
	return nil
}

// localNode asks the node of this user on this machine for its id and address, and has it admit
// this device.
func localNode(ctx context.Context, acc *account.Account, data string) (account.Node, error) {
	var n account.Node
	if data == "" {
		data = control.DefaultData()
	}
	c, err := control.Dial(data)
	if err != nil {
		return n, err
	}
	defer c.Close()
	key, listen, err := c.Admit(ctx, acc.Key())
	if err != nil {
		return n, err
	}
	n.Key, n.Address = key, localAddress(listen)
	return n, nil
}

// localAddress turns the address a node listens on into one to dial on the same machine.
func localAddress(listen string) string {
	for _, all := range []string{"[::]:", "0.0.0.0:"} {
		if port, ok := strings.CutPrefix(listen, all); ok {
			return "localhost:" + port
		}
	}
	return listen
}

func (a *app) idCommand() *cobra.Command {
	return &cobra.Command{
		Use: "id", Short: "print passport id, this device's key, and the node", Example: "  asmtp-cli id", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd.Context(), func(acc *account.Account) error {
				o, err := acc.Overview(cmd.Context())
				if err != nil {
					return err
				}
				id := identityJSON{Passport: o.Passport.String(), Key: o.Key.String(), Address: o.Node.Address}
				if !o.Node.Key.IsZero() {
					id.Node = o.Node.Key.String()
				}
				return a.print(id, func(w io.Writer) {
					fmt.Fprintf(w, "name     %s\npassport %s\nkey      %s\n", o.Name, id.Passport, id.Key)
					for _, n := range o.Nodes {
						fmt.Fprintf(w, "node     %s at %s\n", n.Node.Key, n.Node.Address)
					}
					if len(o.Nodes) == 0 {
						fmt.Fprintln(w, `node     none yet; see "asmtp-cli help connect"`)
					}
				})
			})
		},
	}
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "print version, commit and protocol numbers", Example: "  asmtp-cli version", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			v := struct {
				Version   string `json:"version"`
				Commit    string `json:"commit"`
				Protocols string `json:"protocols"`
			}{version.Version, version.Commit, version.Protocols}
			return a.print(v, func(w io.Writer) { fmt.Fprintln(w, "asmtp-cli", version.String()) })
		},
	}
}
