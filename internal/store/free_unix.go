//go:build unix

package store

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// diskSpace returns what a user who is not root may still write to the file system of
// dir, and how large that is.
func diskSpace(dir string) (free, size int64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, 0, err
	}
	unit := int64(st.Bsize)
	return int64(st.Bavail) * unit, int64(st.Blocks) * unit, nil
}

// syncDir makes durable what was renamed in a folder.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
