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
	had       int64 // of its blocks when it was found; where they are is not known
	allocated int64 // from its beginning
	off       bool  // the file system cannot do it
}

// close ends it.
func (l *logFiles) close() {
	if l.f != nil {
		l.f.Close()
		l.f = nil
	}
}

// missing returns how many bytes ahead would allocate now, at most; turned says that another
// file is being written than the last time.
func (l *logFiles) missing(bytes int64) (missing int64, turned bool, err error) {
	if l.off {
		return 0, false, nil
	}
	if turned, err = l.follow(); err != nil || l.f == nil {
		return 0, turned, err
	}
	return max(0, l.goal(bytes)-max(l.allocated, l.had)), turned, nil
}

// goal is up to where the file must be allocated to have so many bytes behind what is
// written.
func (l *logFiles) goal(bytes int64) int64 {
	to := l.allocated
	for to < l.size && !l.empty(to-bytes) {
		to = min(to+aheadStep, l.size)
	}
	return to
}

// ahead makes sure that behind what is written so many bytes are allocated, in the file that
// missing found.
func (l *logFiles) ahead(bytes int64) error {
	if l.off || l.f == nil {
		return nil
	}
	for to := l.goal(bytes); l.allocated < to; {
		step := min(aheadStep, to-l.allocated)
		err := allocate(l.f, l.allocated, step)
		if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
			l.off = true
			return nil
		}
		if err != nil {
			return fmt.Errorf("allocate %d bytes of %s: %w", step, l.f.Name(), err)
		}
		l.allocated += step
	}
	return nil
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
		var st unix.Stat_t
		if err := unix.Fstat(int(f.Fd()), &st); err != nil {
			return turned, errors.Join(err, f.Close())
		}
		l.close()
		l.f, l.size, l.had, l.allocated = f, st.Size, st.Blocks*512, 0
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
