package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/asmtp/asmtp/config"
	"github.com/asmtp/asmtp/internal/backup"
	"github.com/asmtp/asmtp/internal/clock"
	"github.com/asmtp/asmtp/internal/control"
	"github.com/asmtp/asmtp/internal/durable"
	"github.com/asmtp/asmtp/mesh"
)

// Names of what "up" makes in its data folder.
const (
	configName  = "config.yaml"
	entropyName = "entropy.txt"
)

type upOptions struct {
	data   string
	listen string
	public []string
	join   string
}

func newUpCommand() *cobra.Command {
	var o upOptions
	cmd := &cobra.Command{
		Use:   "up",
		Short: "make what is missing for a node, then run it",
		Long: `Makes the node's key, its configuration and a new mesh in the data folder if they are
missing, and runs the node in the foreground. With --join it joins the mesh of an
invitation instead, and tries again until the inviter answers, also after a restart.
Started again it changes nothing; --listen and --public-address count for the first
start only, later the configuration in the data folder does.

The key has the password ASMTPD_KEY_PASSWORD, else none.`,
		Example: "  asmtpd up --public-address mail.example.org:9800\n  asmtpd up --join 'asmtp-mesh1…'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, made, err := prepare(cmd, &o)
			if err != nil {
				return err
			}
			return runNode(cmd.Context(), c, os.Getenv(passwordEnv), o.join, func(id, addr string) {
				printNext(cmd, o.data, made, id, addr)
			})
		},
	}
	cmd.Flags().StringVar(&o.data, "data", control.DefaultData(), "the data folder `DIR`")
	cmd.Flags().StringVar(&o.listen, "listen", ":9800", "listen on `ADDR` (first start only)")
	cmd.Flags().StringArrayVar(&o.public, "public-address", nil, "`HOST:PORT` under which others reach the node; may be repeated (first start only)")
	cmd.Flags().StringVar(&o.join, "join", "", "join the mesh of this `INVITATION`")
	return cmd
}

// prepare makes the folder, the key and the configuration where they are missing.
// A bad invitation or address is refused before anything is made.
func prepare(cmd *cobra.Command, o *upOptions) (c *config.Config, made bool, err error) {
	if o.join != "" {
		line, err := mesh.ParseLine(o.join, mesh.LineMesh)
		if err != nil {
			return nil, false, err
		}
		if err := line.CheckEnd(clock.Now()); err != nil {
			return nil, false, err
		}
	}
	if err := checkAddresses(o); err != nil {
		return nil, false, err
	}
	if err := backup.Unfinished(o.data); err != nil {
		return nil, false, err
	}
	if err := os.MkdirAll(o.data, 0o700); err != nil {
		return nil, false, err
	}
	file := filepath.Join(o.data, configName)
	if _, err := os.Stat(file); err == nil {
		for _, flag := range []string{"listen", "public-address"} {
			if cmd.Flags().Changed(flag) {
				fmt.Fprintf(cmd.ErrOrStderr(), "asmtpd: note: %s stays as it is; --%s counts for the first start only\n", file, flag)
			}
		}
		c, err := config.Load(file)
		return c, false, err
	} else if !errors.Is(err, os.ErrNotExist) {
		return nil, false, err
	}
	if err := makeKeyIfMissing(filepath.Join(o.data, entropyName)); err != nil {
		return nil, false, err
	}
	if err := durable.WriteNew(file, []byte(upConfig(o))); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, false, err
	}
	c, err = config.Load(file)
	return c, true, err
}

// checkAddresses looks at the addresses among the flags.
func checkAddresses(o *upOptions) error {
	if err := config.CheckListen(o.listen); err != nil {
		return usageError{fmt.Errorf("--listen: %w", err)}
	}
	for _, a := range o.public {
		if err := config.CheckAddress(a); err != nil {
			return usageError{fmt.Errorf("--public-address: %w", err)}
		}
	}
	return nil
}

func makeKeyIfMissing(path string) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	if _, err := makeEntropy(path, os.Getenv(passwordEnv)); !errors.Is(err, os.ErrExist) {
		return err
	}
	return nil // another process was faster
}

// upConfig is the configuration that "up" writes: the default with the flags' values.
func upConfig(o *upOptions) string {
	text := strings.Replace(config.Default, `listen_address: ":9800"`, fmt.Sprintf("listen_address: %q", o.listen), 1)
	text = strings.Replace(text, "  path: data\n", "  path: .\n", 1)
	if len(o.public) > 0 {
		text = strings.Replace(text, "#public_address: mail.example.org:9800", fmt.Sprintf("public_address: %q", o.public[0]), 1)
	}
	if len(o.public) > 1 {
		quoted := make([]string, len(o.public)-1)
		for i, a := range o.public[1:] {
			quoted[i] = fmt.Sprintf("%q", a)
		}
		text = strings.Replace(text, "#public_addresses: []", "public_addresses: ["+strings.Join(quoted, ", ")+"]", 1)
	}
	return text
}

// printNext says which node this is and what to type next.
func printNext(cmd *cobra.Command, data string, made bool, id, addr string) {
	w := cmd.OutOrStdout()
	flag := ""
	if data != control.DefaultData() {
		flag = " --data " + data
	}
	fmt.Fprintf(w, "node %s\naddress %s\n", id, addr)
	if !made {
		return
	}
	fmt.Fprintf(w, `next, for yourself on this machine:
  asmtp-cli init --name NAME
  asmtp-cli connect --local%[1]s
for a friend's node:
  asmtpd mesh invite%[1]s
for a friend without a node:
  asmtpd user invite%[1]s
`, flag)
}
