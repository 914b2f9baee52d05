package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/asmtp/asmtp/internal/durable"
)

const (
	// unfinishedName is the folder inside the target in which a restore is made. While it
	// is there no node may start on the target.
	unfinishedName = ".restoring"
	// storeName is the folder of the store in a node's folder.
	storeName = "store"
)

// Unfinished returns ErrUnfinished if a restore into dir was cut short by a crash, so
// that what is there may be half a node.
func Unfinished(dir string) error {
	if _, err := os.Lstat(filepath.Join(dir, unfinishedName)); err == nil {
		return fmt.Errorf("%w: %s", ErrUnfinished, dir)
	}
	return nil
}

// Restore makes the folder dir of the backup. dir must be empty or missing. relocate
// changes the files so that they are right in dir; store makes the store in a folder that
// does not exist, from a stream that it must read to its end.
//
// If it fails, the folder is as it was before. Call it once.
func (b *Reader) Restore(ctx context.Context, dir string, relocate func(files map[string][]byte) error, store func(ctx context.Context, dir string, r io.Reader) error) (err error) {
	made, err := prepare(dir)
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	work := filepath.Join(dir, unfinishedName)
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("restore: %w", err), undo(dir, made))
		}
	}()
	if err := os.Mkdir(work, 0o700); err != nil {
		return err
	}
	files, err := b.files()
	if err != nil {
		return err
	}
	if err := relocate(files); err != nil {
		return err
	}
	r := &storeReader{b: b}
	if err := store(ctx, filepath.Join(work, storeName), r); err != nil {
		return err
	}
	if n, err := io.Copy(io.Discard, r); err != nil {
		return err
	} else if n > 0 {
		return fmt.Errorf("%w: the store left %d bytes of its stream", ErrNotBackup, n)
	}
	return b.finish(dir, work, files)
}

// prepare makes sure that dir is there and empty. What a restore that was cut short has
// left is removed, if nothing else is there. made says that dir was missing.
func prepare(dir string) (made bool, err error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return true, os.MkdirAll(dir, 0o700)
	}
	if err != nil {
		return false, err
	}
	for _, e := range entries {
		switch e.Name() {
		case unfinishedName, "lost+found": // of a crash, and of a file system's root
		default:
			return false, fmt.Errorf("%w: %s holds %s", ErrNotEmpty, dir, e.Name())
		}
	}
	if err := os.RemoveAll(filepath.Join(dir, unfinishedName)); err != nil {
		return false, err
	}
	return false, os.Chmod(dir, 0o700)
}

// undo removes all that Restore may have made in dir, which was empty before.
func undo(dir string, made bool) error {
	if made {
		return os.RemoveAll(dir)
	}
	var errs []error
	for _, name := range append([]string{unfinishedName, storeName}, fileNames...) {
		errs = append(errs, os.RemoveAll(filepath.Join(dir, name)))
	}
	return errors.Join(errs...)
}

// finish moves what is complete to where a node looks for it.
func (b *Reader) finish(dir, work string, files map[string][]byte) error {
	names := []string{storeName}
	for _, name := range fileNames {
		content, ok := files[name]
		if !ok {
			continue
		}
		if err := durable.WriteNew(filepath.Join(work, name), content); err != nil {
			return err
		}
		names = append(names, name)
	}
	for _, name := range names {
		if err := os.Rename(filepath.Join(work, name), filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	if err := durable.SyncDir(dir); err != nil { // before the mark that it is half a node goes
		return err
	}
	if err := os.Remove(work); err != nil {
		return err
	}
	return errors.Join(durable.SyncDir(dir), durable.SyncDir(filepath.Dir(filepath.Clean(dir))))
}
