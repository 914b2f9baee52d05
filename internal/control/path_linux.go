package control

import (
	"fmt"
	"os"
	"path/filepath"
)

// withSocketPath calls use with a name of the socket in dir that fits a socket
// address, which has room for 107 bytes. A longer path is named through an open
// descriptor of its folder.
func withSocketPath(dir string, use func(path string) error) error {
	path := filepath.Join(dir, SocketName)
	if len(path) <= maxSocketPath {
		return use(path)
	}
	folder, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer folder.Close()
	return use(fmt.Sprintf("/proc/self/fd/%d/%s", folder.Fd(), SocketName))
}

const maxSocketPath = 107
