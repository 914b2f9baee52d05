// Command asmtpd is a node of ASMTP: it serves its users, keeps and carries the mail of
// its mesh, and never holds a user's secret key.
//
//	asmtpd up                      make what is missing, then run
//	asmtpd --config FILE           run from a configuration
//	asmtpd status | user … | mesh … | peer …   talk to the running node
//	asmtpd store verify | backup | restore     look after its store, running or not
//
// It logs to stderr. SIGINT and SIGTERM stop it cleanly, SIGHUP reads users and peers
// of the configuration again. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no node
// runs there, 4 not allowed.
//
// The commands are thin: what runs a node is in internal/node, what talks to a running
// one in internal/control.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/asmtp/asmtp/config"
	"github.com/asmtp/asmtp/internal/cli"
	"github.com/asmtp/asmtp/internal/version"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal has its default effect
	ran, err := cli.Execute(ctx, newRootCommand())
	if err != nil && !ran {
		err = usageError{err}
	}
	if err != nil {
		report(os.Stderr, err)
	}
	os.Exit(exitCode(err))
}

// hintError is an error with what the user can do about it.
type hintError struct {
	error
	hint string
}

func (e hintError) Unwrap() error { return e.error }

// usageError is a command line that cannot be meant.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// report prints err, a line for each problem, and its hints.
func report(w io.Writer, err error) {
	if p, ok := config.AsProblems(err); ok {
		for _, line := range strings.Split(p.Error(), "\n") {
			fmt.Fprintln(w, "asmtpd: error:", line)
		}
		return
	}
	fmt.Fprintln(w, "asmtpd: error:", err)
	for _, h := range hints(err) {
		fmt.Fprintln(w, "asmtpd: hint:", h)
	}
}

func newRootCommand() *cobra.Command {
	var configFile string
	root := &cobra.Command{
		Use:           "asmtpd",
		Short:         "a node of ASMTP, mail without any third party",
		Long:          "asmtpd serves its users, and keeps and carries the mail of its mesh.\n\nFor a first start: asmtpd up",
		Example:       "  asmtpd up\n  asmtpd --config config.yaml",
		Args:          cobra.NoArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       version.String(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if configFile == "" {
				return usageError{hintError{errors.New("nothing to do"), `run "asmtpd up", or "asmtpd --config FILE"; "asmtpd help" lists the commands`}}
			}
			return runConfig(cmd.Context(), configFile)
		},
	}
	root.Flags().StringVar(&configFile, "config", "", "run the node of this configuration `FILE`")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(newDefaultConfigCommand(), newGenerateKeyCommand(), newCheckCommand(), newUpCommand(),
		newStatusCommand(), newUserCommand(), newPeerCommand(), newMeshCommand(),
		newStoreCommand(), newBackupCommand(), newRestoreCommand(), newVersionCommand())
	cli.AddManuals(root, "ASMTPD")
	return root
}

func newVersionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "print version, commit and protocol numbers", Example: "  asmtpd version", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "asmtpd", version.String())
			return err
		},
	}
}

func newDefaultConfigCommand() *cobra.Command {
	return &cobra.Command{
		Use: "default-config", Short: "print the default configuration, with comments",
		Example: "  asmtpd default-config > config.yaml", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := io.WriteString(cmd.OutOrStdout(), config.Default)
			return err
		},
	}
}

func newCheckCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "check", Short: "say all that is wrong with a configuration, with line numbers",
		Example: "  asmtpd check --config config.yaml", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := config.Load(file)
			if err != nil {
				return err
			}
			for _, key := range c.Ignored() {
				fmt.Fprintf(cmd.ErrOrStderr(), "asmtpd: note: %s has no effect here; only the original ASMTP knew it\n", key)
			}
			fmt.Fprintln(cmd.OutOrStdout(), file, "is good")
			return nil
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "the configuration `FILE`")
	_ = cmd.MarkFlagRequired("config") // fails only for a flag that does not exist
	return cmd
}
