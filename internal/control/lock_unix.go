//go:build unix && !solaris && !illumos && !aix

package control

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// lock takes the file at path for this process, or fails with ErrRunning. The
// kernel lets go of it when the process ends, however it ends, so a lock that is
// held tells a live node from a socket that a killed one left.
func lock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, ErrRunning
		}
		return nil, os.NewSyscallError("flock", err)
	}
	return f, nil
}
