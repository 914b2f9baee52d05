// Package durable writes small files so that a crash or a power loss leaves either the
// old state or the new one, never half of a file: start with [WriteNew] and [Replace].
//
// What a function wrote is on the disk, with its name, when it returns without an error.
// Files get mode 0600.
package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// WriteNew writes a file that must not exist; if it does, the error is [fs.ErrExist].
func WriteNew(path string, b []byte) error {
	tmp, err := temporary(path, b)
	if err != nil {
		return err
	}
	defer os.Remove(tmp)
	if err := Publish(tmp, path); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// Replace writes a file, instead of the one that may be there.
func Replace(path string, b []byte) error {
	tmp, err := temporary(path, b)
	if err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	return SyncDir(filepath.Dir(path))
}

// temporary writes b into a new file beside path and syncs it.
func temporary(path string, b []byte) (name string, err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-") // mode 0600
	if err != nil {
		return "", err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), nil
}

// Publish gives the file tmp the name path unless something has it already: then the
// error is [fs.ErrExist]. The name tmp may remain. Sync the folder afterwards.
func Publish(tmp, path string) error {
	err := os.Link(tmp, path) // unlike a rename, a link does not replace
	if err == nil || errors.Is(err, fs.ErrExist) {
		return err
	}
	// A file system without hard links, such as FAT: here two writers at the same moment
	// would not notice each other.
	if _, err := os.Lstat(path); err == nil {
		return &fs.PathError{Op: "make", Path: path, Err: fs.ErrExist}
	}
	return os.Rename(tmp, path)
}

// SyncDir makes the names in a folder durable. Some file systems cannot; that is no error.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, fs.ErrInvalid) {
		return err
	}
	return nil
}
