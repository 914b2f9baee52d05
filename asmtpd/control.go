package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/asmtp/asmtp/config"
	"github.com/asmtp/asmtp/internal/control"
	"github.com/asmtp/asmtp/noise"
)

// client is a command that talks to the running node.
type client struct {
	data, config string
	json         bool
}

// flags adds the flags by which a command finds the node, and --json.
func (c *client) flags(cmd *cobra.Command) {
	f := cmd.PersistentFlags()
	f.StringVar(&c.data, "data", "", "the node's data folder `DIR` (default: "+control.DefaultData()+")")
	f.StringVar(&c.config, "config", "", "the node's configuration `FILE`, instead of --data")
	f.BoolVar(&c.json, "json", false, "print JSON for scripts")
}

// folder returns the node's data folder.
func (c *client) folder() (string, error) {
	if c.config != "" {
		cfg, err := config.Load(c.config)
		if err != nil {
			return "", err
		}
		return cfg.Storage.Path, nil
	}
	if c.data != "" {
		return c.data, nil
	}
	return control.DefaultData(), nil
}

// do connects to the node and calls f.
func (c *client) do(cmd *cobra.Command, f func(context.Context, *control.Client) error) error {
	dir, err := c.folder()
	if err != nil {
		return err
	}
	conn, err := control.Dial(dir)
	if err != nil {
		return err
	}
	return errors.Join(f(cmd.Context(), conn), conn.Close())
}

// print writes v as one JSON document, or calls text.
func (c *client) print(cmd *cobra.Command, v any, text func(w io.Writer)) error {
	if c.json {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(v)
	}
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 4, 2, ' ', 0)
	text(w)
	return w.Flush()
}

// group makes a command that only holds others.
func group(use, short string) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usageError{hintError{errors.New("which " + use + " command?"), `"asmtpd help ` + use + `" lists them`}}
		},
	}
}

// one is cobra.ExactArgs(1) as a usage error.
func one(what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != 1 {
			return usageError{fmt.Errorf("want one argument: %s", what)}
		}
		return nil
	}
}

func printPeer(w io.Writer, p control.Peer) {
	state := "not connected"
	if p.Connected {
		state = "connected"
	}
	if !p.Since.IsZero() {
		state += " since " + p.Since.Local().Format(time.DateTime)
	}
	fmt.Fprintf(w, "peer\t%s %v %s %s\n", p.ID, p.Addresses, state, p.Version)
}

func newUserCommand() *cobra.Command {
	c := new(client)
	cmd := group("user", "who may use the node")
	cmd.Long = "A user is a passport id (32 hex digits) or a device key (64), as \"asmtp-cli id\" prints them."
	name := func(cmd *cobra.Command, text string, f func(context.Context, *control.Client, control.UserName) error) error {
		u, err := control.ParseUserName(text)
		if err != nil {
			return usageError{err}
		}
		return c.do(cmd, func(ctx context.Context, node *control.Client) error { return f(ctx, node, u) })
	}
	add := &cobra.Command{
		Use: "add KEY|PASSPORT", Short: "admit a device or a passport", Example: "  asmtpd user add 0123456789abcdef0123456789abcdef", Args: one("a device key or a passport id"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return name(cmd, args[0], func(ctx context.Context, node *control.Client, u control.UserName) error {
				added, err := node.UserAdd(ctx, u)
				if err != nil {
					return err
				}
				return c.print(cmd, map[string]any{"name": u, "added": added}, func(w io.Writer) {
					if added {
						fmt.Fprintln(w, "admitted", u)
					} else {
						fmt.Fprintln(w, u, "is a user already")
					}
				})
			})
		},
	}
	remove := &cobra.Command{
		Use: "remove KEY|PASSPORT", Short: "admit it no more", Example: "  asmtpd user remove 0123456789abcdef0123456789abcdef", Args: one("a device key or a passport id"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return name(cmd, args[0], func(ctx context.Context, node *control.Client, u control.UserName) error {
				return node.UserRemove(ctx, u)
			})
		},
	}
	reset := &cobra.Command{
		Use: "reset KEY", Short: "admit a device again whose clock or state went back",
		Long:    "A device whose clock or state went back is refused, since its calls look like replays. This makes the node forget its stamps.",
		Example: "  asmtpd user reset KEY", Args: one("a device key"),
		RunE: func(cmd *cobra.Command, args []string) error {
			key, err := noise.ParsePublicKey(args[0])
			if err != nil {
				return usageError{err}
			}
			return c.do(cmd, func(ctx context.Context, node *control.Client) error { return node.UserReset(ctx, key) })
		},
	}
	list := &cobra.Command{
		Use: "list", Short: "who is admitted, and which keys knocked in vain", Example: "  asmtpd user list --json", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.do(cmd, func(ctx context.Context, node *control.Client) error {
				users, err := node.UserList(ctx)
				if err != nil {
					return err
				}
				return c.print(cmd, users, func(w io.Writer) { printUsers(w, users) })
			})
		},
	}
	cmd.AddCommand(add, remove, reset, list, newInviteCommand(c, "let a friend without a node use this one", "asmtp-cli init --name NAME --invitation 'LINE'", (*control.Client).UserInvite))
	c.flags(cmd)
	return cmd
}

func printUsers(w io.Writer, users *control.Users) {
	for _, u := range users.Users {
		fmt.Fprintf(w, "user\t%s\tby %s\t", u.Name, u.Source)
		for _, k := range u.Keys {
			fmt.Fprintf(w, "%s ", k)
		}
		fmt.Fprintln(w)
	}
	for _, k := range users.Knocked {
		fmt.Fprintf(w, "knocked\t%s\tfrom %s, %s\tasmtpd user add %s\n", k.Key, k.Address, k.Time.Local().Format(time.DateTime), k.Key)
	}
}

// newInviteCommand makes "user invite" or "mesh invite": one line on stdout.
func newInviteCommand(c *client, short, use string, call func(*control.Client, context.Context, control.Invite) (string, error)) *cobra.Command {
	var o control.Invite
	cmd := &cobra.Command{
		Use: "invite", Short: "print a line to " + short,
		Long:    "Prints one line. Whoever has it can use it until its end, so give it to nobody else. It is used as: " + use,
		Example: "  asmtpd mesh invite --days 2", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.do(cmd, func(ctx context.Context, node *control.Client) error {
				line, err := call(node, ctx, o)
				if err != nil {
					return err
				}
				if !c.json {
					drawQR(line)
				}
				return c.print(cmd, map[string]string{"line": line}, func(w io.Writer) { fmt.Fprintln(w, line) })
			})
		},
	}
	cmd.Flags().IntVar(&o.Uses, "uses", 1, "how often the line can be used")
	cmd.Flags().IntVar(&o.Days, "days", 7, "how many days it is good")
	return cmd
}

func newPeerCommand() *cobra.Command {
	c := new(client)
	cmd := group("peer", "the nodes that this one calls")
	add := &cobra.Command{
		Use: "add ID HOST:PORT…", Short: "call a node of the mesh", Example: "  asmtpd peer add ID friend.example.net:9800", Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := noise.ParsePublicKey(args[0])
			if err != nil {
				return usageError{fmt.Errorf("peer's id: %w", err)}
			}
			for _, a := range args[1:] {
				if err := config.CheckAddress(a); err != nil {
					return usageError{err}
				}
			}
			return c.do(cmd, func(ctx context.Context, node *control.Client) error { return node.PeerAdd(ctx, id, args[1:]) })
		},
	}
	list := &cobra.Command{
		Use: "list", Short: "list the nodes that this one knows", Example: "  asmtpd peer list", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.do(cmd, func(ctx context.Context, node *control.Client) error {
				peers, err := node.PeerList(ctx)
				if err != nil {
					return err
				}
				return c.print(cmd, peers, func(w io.Writer) {
					for _, p := range peers {
						printPeer(w, p)
					}
				})
			})
		},
	}
	cmd.AddCommand(add, list)
	c.flags(cmd)
	return cmd
}

func newMeshCommand() *cobra.Command {
	c := new(client)
	cmd := group("mesh", "the mesh that the node belongs to")
	members := &cobra.Command{
		Use: "members", Short: "list the nodes with a certificate", Example: "  asmtpd mesh members", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.do(cmd, func(ctx context.Context, node *control.Client) error {
				list, err := node.MeshMembers(ctx)
				if err != nil {
					return err
				}
				return c.print(cmd, list, func(w io.Writer) {
					for _, m := range list {
						note := ""
						if m.Self {
							note = "this node"
						} else if m.Connected {
							note = "connected"
						}
						fmt.Fprintf(w, "%s\tuntil %s\t%s\n", m.ID, m.Until.Local().Format(time.DateOnly), note)
					}
				})
			})
		},
	}
	join := &cobra.Command{
		Use: "join LINE", Short: "join the mesh of an invitation, like up --join", Example: "  asmtpd mesh join 'asmtp-mesh1…'", Args: one("the line of an invitation"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.do(cmd, func(ctx context.Context, node *control.Client) error { return node.Join(ctx, args[0]) })
		},
	}
	cmd.AddCommand(members, join, newInviteCommand(c, "let a friend's node join", "asmtpd up --join 'LINE'", (*control.Client).MeshInvite))
	c.flags(cmd)
	return cmd
}
