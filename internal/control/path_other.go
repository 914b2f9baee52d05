//go:build !linux

package control

import (
	"fmt"
	"path/filepath"
)

// withSocketPath calls use with the path of the socket in dir, or fails if it does
// not fit a socket address, which has room for 103 bytes on macOS.
func withSocketPath(dir string, use func(path string) error) error {
	path := filepath.Join(dir, SocketName)
	if len(path) > maxSocketPath {
		return fmt.Errorf("the path %s has %d bytes, and this system takes %d at most: choose a shorter data folder", path, len(path), maxSocketPath)
	}
	return use(path)
}

const maxSocketPath = 103
