package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/asmtp/asmtp/config"
	"github.com/asmtp/asmtp/internal/backup"
	"github.com/asmtp/asmtp/internal/clock"
	"github.com/asmtp/asmtp/internal/control"
	"github.com/asmtp/asmtp/internal/node"
)

type restoreOptions struct {
	client
	identity     string
	passwordFile string
}

func newRestoreCommand() *cobra.Command {
	var o restoreOptions
	cmd := &cobra.Command{
		Use: "restore FILE", Short: "make a node's data folder from a backup",
		Long: `Makes the data folder of a node from what "asmtpd backup" wrote. The folder must be empty
or missing. A file that was altered or is not whole is refused, and leaves nothing.

The node that the backup was made of must never run again: two nodes with one key take
each other's connections, and mail would seem to be kept where it is not.`,
		Example: "  asmtpd restore node.age\n  asmtpd restore --identity key.txt --data /var/lib/asmtpd node.age", Args: one("the backup's file"),
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd, args[0]) },
	}
	cmd.Flags().StringVar(&o.data, "data", "", "make the data folder `DIR` (default: "+control.DefaultData()+")")
	cmd.Flags().BoolVar(&o.json, "json", false, "print JSON for scripts")
	cmd.Flags().StringVar(&o.identity, "identity", "", "open the backup with the age identities of `FILE`")
	cmd.Flags().StringVar(&o.passwordFile, "password-file", "", "take the backup's password from `FILE`")
	return cmd
}

// restoreResult is what "restore --json" prints.
type restoreResult struct {
	backup.Manifest
	Data string `json:"data"`
}

func (o *restoreOptions) run(cmd *cobra.Command, path string) error {
	dir, err := o.folder()
	if err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	key, err := o.key()
	if err != nil {
		return err
	}
	b, err := backup.Open(f, key)
	if err != nil {
		return err
	}
	if err := b.Restore(cmd.Context(), dir, beside, restoreStore); err != nil {
		return err
	}
	result := restoreResult{Manifest: b.Manifest, Data: dir}
	if o.json {
		return o.print(cmd, result, nil)
	}
	printRestored(cmd.OutOrStdout(), result)
	return nil
}

func (o *restoreOptions) key() (backup.Key, error) {
	if o.identity != "" {
		if o.passwordFile != "" {
			return backup.Key{}, usageError{errors.New("give --identity or --password-file, not both")}
		}
		f, err := os.Open(o.identity)
		if err != nil {
			return backup.Key{}, err
		}
		defer f.Close()
		return backup.Identities(f)
	}
	password, ok, err := backupPassword(o.passwordFile)
	if err == nil && !ok {
		password, err = ask("password of the backup: ")
	}
	if err != nil {
		return backup.Key{}, err
	}
	return backup.OpenPassword(password)
}

// beside makes the configuration look for the node's files beside it.
func beside(files map[string][]byte) (err error) {
	to := config.Places{Entropy: backup.EntropyName, Data: "."}
	if files[backup.PasswordName] != nil {
		to.PasswordFile = backup.PasswordName
	}
	files[backup.ConfigName], err = config.Relocate(files[backup.ConfigName], to)
	return err
}

func restoreStore(ctx context.Context, dir string, r io.Reader) error {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	return node.RestoreStore(ctx, dir, r, log, clock.Now)
}

// printRestored says what there is now, and what an operator must know about it.
func printRestored(w io.Writer, r restoreResult) {
	flag := ""
	if r.Data != control.DefaultData() {
		flag = " --data " + r.Data
	}
	fmt.Fprintf(w, `restored node %s of mesh %s
as it was at %s, into %s

The old node must never run again: there may be one node with this key.
Mail that came after the backup comes again from the mesh, as far as it has not ended.
Users, and addresses of peers, are as they were at the time of the backup.
Invitations that were given out before are used up: make new ones.

next:
  asmtpd up%s
`, r.Node, r.Mesh, r.Made.Local().Format(time.DateTime), r.Data, flag)
}
