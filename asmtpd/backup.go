package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/asmtp/asmtp/config"
	"github.com/asmtp/asmtp/internal/backup"
	"github.com/asmtp/asmtp/internal/cli"
	"github.com/asmtp/asmtp/internal/clock"
	"github.com/asmtp/asmtp/internal/control"
	"github.com/asmtp/asmtp/internal/durable"
	"github.com/asmtp/asmtp/internal/version"
	"github.com/asmtp/asmtp/noise"
)

// backupEnv is the variable that holds the password of backups.
const backupEnv = "ASMTPD_BACKUP_PASSWORD"

// maxSmall bounds the files that go into a backup beside the store.
const maxSmall = 1 << 20

type backupOptions struct {
	client
	recipients   []string
	passwordFile string
	force        bool
}

func newBackupCommand() *cobra.Command {
	var o backupOptions
	cmd := &cobra.Command{
		Use: "backup FILE", Short: "write all that makes this node this node into one file",
		Long: `Writes the configuration, what the node's key is made of, and the store into one file in
age's format, sealed with a password or to age recipients. The node may run meanwhile. The
key's own password is in it only if the configuration names a file that holds it.

The password comes from --password-file, ASMTPD_BACKUP_PASSWORD, or is asked for. With
--recipient none is needed here, and "asmtpd restore --identity" opens the file.`,
		Example: "  asmtpd backup node.age\n  asmtpd backup --recipient age1… /mnt/node.age", Args: one("the file to write"),
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd, args[0]) },
	}
	o.flags(cmd)
	cmd.Flags().StringArrayVar(&o.recipients, "recipient", nil, "seal to this age `RECIPIENT` instead of a password; may be repeated")
	cmd.Flags().StringVar(&o.passwordFile, "password-file", "", "take the backup's password from `FILE`")
	cmd.Flags().BoolVar(&o.force, "force", false, "replace FILE if it is there")
	return cmd
}

// backupResult is what "backup --json" prints.
type backupResult struct {
	backup.Manifest
	File  string `json:"file"`
	Bytes int64  `json:"bytes"`
}

func (o *backupOptions) run(cmd *cobra.Command, path string) (err error) {
	if _, err := os.Lstat(path); err == nil && !o.force {
		return hintError{&fs.PathError{Op: "make", Path: path, Err: fs.ErrExist}, "choose another name, or give --force to replace it"}
	}
	dir, err := o.folder()
	if err != nil {
		return err
	}
	a, err := openAccess(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	source, err := o.source(cmd.Context(), a, dir)
	if err != nil {
		return err
	}
	lock, err := o.lock()
	if err != nil {
		return err
	}
	result := backupResult{Manifest: source.manifest, File: path}
	if result.Bytes, err = o.write(cmd.Context(), path, lock, source); err != nil {
		return err
	}
	if source.needsPassword {
		fmt.Fprintln(cmd.ErrOrStderr(), "asmtpd: note: the password of the node's key is not in the backup; keep it as well")
	}
	return o.print(cmd, result, func(w io.Writer) {
		fmt.Fprintf(w, "backed up node %s of mesh %s into %s, %s\n", result.Node, result.Mesh, path, control.Bytes(result.Bytes))
	})
}

// backupSource is all that goes into a backup.
type backupSource struct {
	manifest      backup.Manifest
	files         map[string][]byte
	store         func(context.Context, io.Writer) error
	needsPassword bool // the key has a password that is in none of the files
}

func (o *backupOptions) source(ctx context.Context, a *storeAccess, dir string) (*backupSource, error) {
	s := &backupSource{manifest: backup.Manifest{Format: backup.Format, Made: clock.Now().UTC(), Program: version.Version}}
	file := o.config
	var id noise.PublicKey
	if a.running != nil {
		status, err := a.running.Status(ctx)
		if err != nil {
			return nil, err
		}
		id, s.manifest.Mesh, s.store = status.ID, status.Mesh, a.running.StoreBackup
		if file == "" {
			file = status.Config
		}
	} else {
		s.store = a.stopped.Backup
	}
	if file == "" {
		file = filepath.Join(dir, configName)
	}
	c, err := config.Load(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, hintError{err, "give --config FILE, the configuration that the node is started with"}
	}
	if err != nil {
		return nil, err
	}
	if s.files, err = smallFiles(c); err != nil {
		return nil, err
	}
	if a.running != nil {
		s.manifest.Node = id
		return s, s.checkRunning(c)
	}
	return s, s.checkStopped(c, a)
}

// smallFiles reads what goes into a backup beside the store.
func smallFiles(c *config.Config) (map[string][]byte, error) {
	files := map[string][]byte{}
	for name, path := range map[string]string{
		backup.ConfigName: c.Path(), backup.EntropyName: c.Secret.Entropy,
		backup.PasswordName: c.Secret.PasswordFile, backup.JoinName: filepath.Join(c.Storage.Path, backup.JoinName),
	} {
		if path == "" {
			continue
		}
		b, err := cli.ReadFile(path, maxSmall)
		if errors.Is(err, fs.ErrNotExist) && name == backup.JoinName {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("back up: %w", err)
		}
		files[name] = b
	}
	return files, nil
}

// errOtherKey is for files that do not make the key of the node that is backed up.
var errOtherKey = errors.New("the entropy file and its password do not make this node's key")

// checkRunning makes sure, as far as that can be without asking for the key's password,
// that the files are those of the node that runs.
func (s *backupSource) checkRunning(c *config.Config) error {
	password := ""
	if c.Secret.PasswordFile != "" {
		var err error
		if password, err = passwordFromFile(c.Secret.PasswordFile); err != nil {
			return err
		}
	}
	key, err := loadKey(c.Secret.Entropy, password)
	if err != nil {
		return err
	}
	if key.Public() == s.manifest.Node {
		return nil
	}
	if c.Secret.PasswordFile != "" {
		return fmt.Errorf("back up: %w", errOtherKey)
	}
	s.needsPassword = true
	return nil
}

// checkStopped finds out which node this is: by its key, which the mesh has certified.
func (s *backupSource) checkStopped(c *config.Config, a *storeAccess) error {
	password, err := keyPassword(c.Secret.PasswordFile)
	if err != nil {
		return err
	}
	key, err := loadKey(c.Secret.Entropy, password)
	if err != nil {
		return err
	}
	id, certified, err := a.stopped.Mesh(key.Public())
	if err != nil {
		return err
	}
	if !certified {
		return hintError{fmt.Errorf("back up: %w", errOtherKey), "give the key's password in " + passwordEnv + ", or back up while the node runs"}
	}
	s.manifest.Node, s.manifest.Mesh = key.Public(), id
	s.needsPassword = password != "" && c.Secret.PasswordFile == ""
	return nil
}

// lock finds the recipients or the password.
func (o *backupOptions) lock() (backup.Lock, error) {
	if len(o.recipients) > 0 {
		if o.passwordFile != "" {
			return backup.Lock{}, usageError{errors.New("a backup has recipients or a password, not both")}
		}
		l, err := backup.Recipients(o.recipients)
		if err != nil {
			return l, usageError{err}
		}
		return l, nil
	}
	password, ok, err := backupPassword(o.passwordFile)
	if err != nil {
		return backup.Lock{}, err
	}
	if !ok {
		if password, err = askTwice("password for the backup: "); err != nil {
			return backup.Lock{}, err
		}
	}
	if password == "" {
		return backup.Lock{}, hintError{errors.New("the backup's password is empty; nothing was made"), "the file holds the node's key: give it a password, or --recipient"}
	}
	return backup.Password(password)
}

// backupPassword finds the password of a backup; ok is false if it must be asked for.
func backupPassword(file string) (password string, ok bool, err error) {
	if file != "" {
		password, err = passwordFromFile(file)
		return password, true, err
	}
	if p, ok := os.LookupEnv(backupEnv); ok {
		return p, true, nil
	}
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return "", false, hintError{errors.New("there is no terminal to ask for the backup's password"), "give --password-file FILE or set " + backupEnv}
	}
	return "", false, nil
}

// write makes the file, whole or not at all.
func (o *backupOptions) write(ctx context.Context, path string, lock backup.Lock, s *backupSource) (size int64, err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-") // mode 0600
	if err != nil {
		return 0, err
	}
	defer os.Remove(f.Name()) // unless it was renamed
	w := &countingWriter{w: f, progress: newProgress()}
	err = backup.Write(ctx, w, lock, s.manifest, s.files, s.store)
	w.progress.clear()
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return 0, err
	}
	if o.force {
		err = os.Rename(f.Name(), path)
	} else {
		err = durable.Publish(f.Name(), path)
	}
	if err != nil {
		return 0, err
	}
	return w.n, durable.SyncDir(filepath.Dir(path))
}

type countingWriter struct {
	w        io.Writer
	n        int64
	progress *progress
}

func (c *countingWriter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	c.progress.show(func() string { return control.Bytes(c.n) + " written" })
	return n, err
}
