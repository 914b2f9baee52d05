package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/asmtp/asmtp/internal/account"
	"github.com/asmtp/asmtp/internal/mailfile"
	"github.com/asmtp/asmtp/internal/transfer"
)

// transferFlags are those of "export" and "import".
type transferFlags struct {
	files  transfer.Files
	folder string
}

func (f *transferFlags) add(cmd *cobra.Command, folder string) {
	cmd.Flags().StringVar(&f.files.Maildir, "maildir", "", "a Maildir, the directory `DIR`")
	cmd.Flags().StringVar(&f.files.Mbox, "mbox", "", "an mbox, the file `FILE`")
	cmd.Flags().StringVar(&f.folder, "folder", "", folder)
}

func (f *transferFlags) check() error {
	if (f.files.Maildir == "") == (f.files.Mbox == "") {
		return usage("give either --maildir DIR or --mbox FILE")
	}
	return nil
}

func (a *app) exportCommand() *cobra.Command {
	var f transferFlags
	cmd := &cobra.Command{
		Use:   "export --maildir DIR | --mbox FILE",
		Short: "write mail into a Maildir or an mbox",
		Long: `Writes all folders into a Maildir, which is made if it is missing, with flags and keywords; or
one folder into an mbox. Done again it adds what is new, and in a Maildir brings the flags
up to date. It removes nothing. The files are not encrypted.`,
		Example: `  asmtp-cli export --maildir ~/Mail
  asmtp-cli export --mbox work.mbox --folder Work`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.transfer(cmd.Context(), f, "exported", transfer.Export)
		},
	}
	f.add(cmd, "only this `FOLDER` (with --mbox: INBOX, if none is given)")
	return cmd
}

func (a *app) importCommand() *cobra.Command {
	var f transferFlags
	cmd := &cobra.Command{
		Use:   "import --maildir DIR | --mbox FILE",
		Short: "take mail in from a Maildir or an mbox",
		Long: `Files the mail of a Maildir, with its folders, or of an mbox, with flags and keywords. What
is there already, by its bytes, is left as it is, so an import may be repeated, also one that
broke off. Nobody's seal is claimed for mail that is taken in. The files are not changed.`,
		Example: `  asmtp-cli import --maildir ~/Maildir
  asmtp-cli import --mbox old.mbox --folder Old`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.transfer(cmd.Context(), f, "imported", transfer.Import)
		},
	}
	f.add(cmd, "take the mail into this `FOLDER` and, of a Maildir, the folders below it")
	return cmd
}

type transferFunc func(context.Context, *account.Account, transfer.Files, string, transfer.Progress) (transfer.Result, error)

func (a *app) transfer(ctx context.Context, f transferFlags, done string, run transferFunc) error {
	if err := f.check(); err != nil {
		return err
	}
	return a.with(ctx, func(acc *account.Account) error {
		p := a.progress()
		r, err := run(ctx, acc, f.files, f.folder, p.count)
		p.done()
		for _, n := range r.Notes {
			a.note("%s", n)
		}
		if err == nil || r.Added > 0 {
			err = errors.Join(err, a.print(transferJSON{r.Added, r.Known, r.Changed, r.Failed}, func(w io.Writer) {
				fmt.Fprintf(w, "%d mails %s, %d were there", r.Added, done, r.Known)
				if r.Changed > 0 {
					fmt.Fprintf(w, " (%d with other flags)", r.Changed)
				}
				fmt.Fprintln(w)
			}))
		}
		if err == nil && r.Failed > 0 {
			err = fmt.Errorf("%d were left out, for the reasons above", r.Failed)
		}
		return withTransferHints(err)
	})
}

type transferJSON struct {
	Added   int `json:"added"`
	Known   int `json:"known"`
	Changed int `json:"changed"`
	Failed  int `json:"failed"`
}

func withTransferHints(err error) error {
	switch {
	case errors.Is(err, mailfile.ErrNoMbox):
		return hintError{err, []string{"name another file: this one is not touched", "a Maildir is a directory: --maildir DIR"}}
	case errors.Is(err, mailfile.ErrNoMaildir):
		return hintError{err, []string{"name the directory that has the folders cur and new in it", "a single file of mail is an mbox: --mbox FILE"}}
	}
	return err
}
