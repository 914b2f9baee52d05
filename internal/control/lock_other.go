//go:build !unix || solaris || illumos || aix

package control

import (
	"errors"
	"os"
)

func lock(string) (*os.File, error) {
	return nil, errors.New("a node cannot run on this system")
}
