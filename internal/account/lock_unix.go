//go:build unix

package account

import (
	"os"

	"golang.org/x/sys/unix"
)

// tryLock takes the advisory lock of f, which ends with the process or when f is closed.
func tryLock(f *os.File) (bool, error) {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == unix.EWOULDBLOCK || err == unix.EINTR {
		return false, nil
	}
	return err == nil, err
}
