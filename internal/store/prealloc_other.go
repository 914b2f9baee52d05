//go:build !linux

package store

import (
	"errors"
	"os"
)

// allocate is possible on Linux only; elsewhere the margin of the free space must do.
func allocate(*os.File, int64, int64) error { return errors.ErrUnsupported }

const aheadStep, batchAhead = 0, 0

type logFiles struct {
	dir, name string
	next      int
	off       bool
}

func (l *logFiles) close()                                                {}
func (l *logFiles) missing(int64) (missing int64, turned bool, err error) { return 0, false, nil }
func (l *logFiles) ahead(int64) error                                     { return nil }

func inMemory(string) bool { return false }
