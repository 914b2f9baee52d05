package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// allocate gives a part of a file its blocks, so that writing there needs no more of them.
func allocate(f *os.File, from, size int64) error {
	return unix.Fallocate(int(f.Fd()), 0, from, size)
}

// aheadStep is how much of a log is allocated at a time. batchAhead is what must be there
// before a transaction: its bytes, and what Badger adds to each record.
const (
	aheadStep  = 2 * mib
	batchAhead = maxBatchBytes + 1*mib
)

// logFiles follows the log of Badger that is being written: files with rising numbers, each
// longer than it will ever be filled. Badger makes the next one when it sees fit.
type logFiles struct {
	dir, name string // name is a format, with the number
	next      int    // number of the file after the one that is open
	f         *os.File
	size      int64 // of f
	allocated int64
	off       bool // the file system cannot do it
}

// close ends it.
func (l *logFiles) close() {
	if l.f != nil {
		l.f.Close()
		l.f = nil
	}
}

// ahead makes sure that behind what is written so many bytes are allocated; turned says that
// another file is being written than the last time.
func (l *logFiles) ahead(bytes int64) (turned bool, err error) {
	if l.off {
		return false, nil
	}
	if turned, err = l.follow(); err != nil || l.f == nil {
		return turned, err
	}
	for l.allocated < l.size && !l.empty(l.allocated-bytes) {
		step := min(aheadStep, l.size-l.allocated)
		err := allocate(l.f, l.allocated, step)
		if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
			l.off = true
			return turned, nil
		}
		if err != nil {
			return turned, fmt.Errorf("allocate %d bytes of %s: %w", step, l.f.Name(), err)
		}
		l.allocated += step
	}
	return turned, nil
}

// empty reports whether nothing is written at or after an offset of what is allocated. What
// is allocated and not written is a hole to SEEK_DATA. Where that is not known, it ends.
func (l *logFiles) empty(from int64) bool {
	if from < 0 {
		return false
	}
	_, err := unix.Seek(int(l.f.Fd()), from, unix.SEEK_DATA)
	return errors.Is(err, unix.ENXIO)
}

// follow opens the newest file.
func (l *logFiles) follow() (turned bool, err error) {
	for {
		path := filepath.Join(l.dir, fmt.Sprintf(l.name, l.next))
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if errors.Is(err, os.ErrNotExist) {
			return turned, nil
		}
		if err != nil {
			return turned, err
		}
		info, err := f.Stat()
		if err != nil {
			return turned, errors.Join(err, f.Close())
		}
		l.close()
		l.f, l.size, l.allocated = f, info.Size(), 0
		l.next++
		turned = true
	}
}

// inMemory reports whether the file system of dir keeps its files in memory, where nothing
// should be allocated that is not used.
func inMemory(dir string) bool {
	var st unix.Statfs_t
	return unix.Statfs(dir, &st) == nil && st.Type == unix.TMPFS_MAGIC
}
