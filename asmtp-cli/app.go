package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/asmtp/asmtp/internal/account"
	"github.com/asmtp/asmtp/internal/cli"
	"github.com/asmtp/asmtp/internal/clock"
	"github.com/asmtp/asmtp/internal/version"
	"github.com/asmtp/asmtp/noise"
)

// app is what all commands share: the global flags and the three streams.
type app struct {
	in       io.Reader
	out, err io.Writer

	home           string
	passphraseFile string
	remoteAddress  string
	remoteID       string
	json           bool
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "asmtp-cli",
		Short:         "mail without any third party",
		Long:          "asmtp-cli writes, seals, opens and reads mail on this device.\n\nTo begin: asmtp-cli init --name NAME, then asmtp-cli connect --local",
		Example:       "  asmtp-cli send --to bob --subject Hello letter.txt",
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       version.String(),
		Args:          cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usage("which command?", `"asmtp-cli help" lists the commands`)
		},
	}
	root.SetOut(a.out)
	root.SetErr(a.err)
	f := root.PersistentFlags()
	f.StringVar(&a.home, "home", "", "the account's folder `DIR` (default: ASMTP_HOME, else by XDG)")
	f.StringVar(&a.passphraseFile, "passphrase-file", "", "take the passphrase from `FILE` (else ASMTP_PASSPHRASE, else asked for)")
	f.StringVar(&a.remoteAddress, "remote-address", "", "use the node at `HOST:PORT` and no other; connect keeps it")
	f.StringVar(&a.remoteID, "remote-id", "", "the node's id, 64 `HEX` digits; connect keeps it")
	f.BoolVar(&a.json, "json", false, "print JSON for scripts, and nothing else, on stdout")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(
		a.initCommand(), a.connectCommand(), a.nodeCommand(), a.idCommand(), a.passportCommand(), a.contactCommand(),
		a.sendCommand(), a.syncCommand(), a.inboxCommand(), a.readCommand(), a.replyCommand(), a.deleteCommand(),
		a.queueCommand(), a.statusCommand(), a.bridgeCommand(), a.exportCommand(), a.importCommand(), a.doctorCommand(), a.versionCommand(),
	)
	cli.AddManuals(root, "ASMTP-CLI")
	return root
}

// dir is the account's folder: flag, environment, then the XDG base directory rules.
func (a *app) dir() (string, error) {
	if a.home != "" {
		return filepath.Abs(a.home)
	}
	if d := os.Getenv("ASMTP_HOME"); d != "" {
		return filepath.Abs(d)
	}
	if d := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(d) {
		return filepath.Join(d, "asmtp"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", hintError{err, []string{"give --home DIR or set ASMTP_HOME"}}
	}
	return filepath.Join(home, ".local", "share", "asmtp"), nil
}

// options are those of the account package by flags and environment.
func (a *app) options() (account.Options, error) {
	o := account.Options{Now: clock.Now}
	// Tests of whole meshes do without the random wait before a receipt.
	if s := os.Getenv("ASMTP_RECEIPT_DELAY"); s != "" {
		d, err := time.ParseDuration(s)
		if err != nil {
			return o, usage("ASMTP_RECEIPT_DELAY: "+err.Error(), "give a duration such as 2s, or 0")
		}
		if o.ReceiptDelay = d; d == 0 {
			o.ReceiptDelay = -1
		}
	}
	node, err := a.remote()
	o.Node = node
	return o, err
}

// remote is the node of the flags, zero if there are none.
func (a *app) remote() (n account.Node, err error) {
	if a.remoteAddress == "" && a.remoteID == "" {
		return n, nil
	}
	if a.remoteAddress == "" || a.remoteID == "" {
		return n, usage("--remote-address and --remote-id belong together", `"asmtpd status" at the node prints both`)
	}
	n.Address = a.remoteAddress
	if n.Key, err = noise.ParsePublicKey(a.remoteID); err != nil {
		return n, usage("--remote-id: "+err.Error(), `"asmtpd status" at the node prints its id`)
	}
	return n, nil
}

// open opens the account for a command.
func (a *app) open(ctx context.Context) (*account.Account, error) {
	dir, err := a.dir()
	if err != nil {
		return nil, err
	}
	o, err := a.options()
	if err != nil {
		return nil, err
	}
	if !account.Exists(dir) {
		return nil, fmt.Errorf("%s: %w", dir, account.ErrNoAccount)
	}
	needed, err := account.NeedsPassphrase(dir)
	if err != nil {
		return nil, err
	}
	if needed {
		if o.Passphrase, err = a.passphrase("passphrase: "); err != nil {
			return nil, err
		}
	}
	return account.Open(ctx, dir, o)
}

// with opens the account, runs f, and closes it again.
func (a *app) with(ctx context.Context, f func(*account.Account) error) error {
	acc, err := a.open(ctx)
	if err != nil {
		return err
	}
	return errors.Join(f(acc), acc.Close())
}

// maxPassphrase bounds what is read from a passphrase file.
const maxPassphrase = 4096

// passphrase finds the passphrase: a file, the environment, systemd, a terminal.
func (a *app) passphrase(prompt string) (string, error) {
	file := a.passphraseFile
	if file == "" {
		if p, ok := os.LookupEnv("ASMTP_PASSPHRASE"); ok && p != "" {
			return p, nil
		}
		if dir := os.Getenv("CREDENTIALS_DIRECTORY"); dir != "" {
			if credential := filepath.Join(dir, "asmtp-passphrase"); exists(credential) {
				file = credential
			}
		}
	}
	if file != "" {
		b, err := cli.ReadFile(file, maxPassphrase)
		if err != nil {
			return "", fmt.Errorf("read the passphrase: %w", err)
		}
		return strings.TrimRight(string(b), "\r\n"), nil
	}
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return "", account.ErrNeedPassphrase
	}
	fmt.Fprint(a.err, prompt)
	b, err := term.ReadPassword(int(os.Stdin.Fd()))
	fmt.Fprintln(a.err)
	return string(b), err
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// print writes v as one line of JSON, or calls text for people.
func (a *app) print(v any, text func(io.Writer)) error {
	if !a.json {
		text(a.out)
		return nil
	}
	return json.NewEncoder(a.out).Encode(v)
}

// note tells a person something that is no result.
func (a *app) note(format string, args ...any) {
	fmt.Fprintf(a.err, "asmtp-cli: "+format+"\n", args...)
}

// errTerminal reports whether stderr is a terminal: only then progress is shown.
func (a *app) errTerminal() bool {
	f, ok := a.err.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
