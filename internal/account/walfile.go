package account

import (
	"encoding/binary"
	"errors"
	"io"

	"github.com/ncruces/go-sqlite3/vfs"
	"lukechampine.com/adiantum/hbsh"
)

// Of the log (https://sqlite.org/fileformat2.html#walformat). The page size is SQLite's
// default, which openDB does not change.
const (
	walMagic       = 0x377f0682 // the last bit says how checksums count
	walPage        = 4096
	walHeader      = 32
	walFrameHeader = 24
	walFrame       = walFrameHeader + walPage
)

// walFile is the write-ahead log. It encrypts its header, the header of each frame and each
// page on their own, where they are.
//
// Package adiantum encrypts blocks of 4096 bytes as a whole, and frames begin anywhere in
// them, so whoever appends a frame would write the end of the one before it anew. SQLite
// takes a frame that was committed for unchanging: others read it meanwhile, without a lock,
// and a checkpoint copies it into the database. The kernel does not keep them from seeing
// such a block half old, half new, which decrypts to noise: they would find no row where
// there is one, or a broken database, or write the noise into it.
//
// The header of a new frame is written together with its page, which is what SQLite writes
// next.
type walFile struct {
	vfs.File
	cipher *hbsh.HBSH

	frame [walFrame]byte
	held  bool // frame begins with the encrypted header of the frame at at
	at    int64
	end   int64 // behind what this connection wrote last
}

// unitOf returns the part that the byte at off belongs to: where it begins, and its length.
func unitOf(off int64) (at int64, length int) {
	if off < walHeader {
		return 0, walHeader
	}
	in := (off - walHeader) % walFrame
	if in < walFrameHeader {
		return off - in, walFrameHeader
	}
	return off - in + walFrameHeader, walPage
}

// ReadAt implements vfs.File.
func (w *walFile) ReadAt(p []byte, off int64) (n int, err error) {
	if err := w.flush(); err != nil {
		return 0, err
	}
	for n < len(p) {
		at, length := unitOf(off + int64(n))
		in := int(off + int64(n) - at)
		if in == 0 && len(p)-n >= length { // the most usual case, without a copy
			if err := w.readUnit(p[n:n+length], at); err != nil {
				return n, err
			}
			n += length
			continue
		}
		b := make([]byte, length)
		if err := w.readUnit(b, at); err != nil {
			return n, err
		}
		n += copy(p[n:], b[in:])
	}
	return n, nil
}

// readUnit reads one part. Of one that is cut short there is nothing.
func (w *walFile) readUnit(b []byte, at int64) error {
	if n, err := w.File.ReadAt(b, at); n < len(b) {
		if err == nil {
			err = io.EOF
		}
		return err
	}
	w.cipher.Decrypt(b, tweakOf(at))
	return nil
}

// errPart says that a part of the log would be written in pieces, which SQLite never does.
var errPart = errors.New("the log is written in pieces")

// WriteAt implements vfs.File.
func (w *walFile) WriteAt(p []byte, off int64) (n int, err error) {
	for n < len(p) {
		at, length := unitOf(off + int64(n))
		if at != off+int64(n) || len(p)-n < length {
			return n, errPart
		}
		if err := w.writeUnit(p[n:n+length], at); err != nil {
			return n, err
		}
		n += length
	}
	return n, nil
}

func (w *walFile) writeUnit(p []byte, off int64) error {
	frame := w.frame[:0]
	if w.held && off == w.at+walFrameHeader {
		frame, off, w.held = w.frame[:walFrameHeader], w.at, false
	} else if err := w.flush(); err != nil {
		return err
	}
	n := len(frame)
	frame = append(frame, p...)
	w.cipher.Encrypt(frame[n:], tweakOf(off+int64(n)))
	if len(frame) == walFrameHeader && off >= w.end {
		w.held, w.at = true, off
		return nil
	}
	_, err := w.File.WriteAt(frame, off)
	if w.end = max(w.end, off+int64(len(frame))); off == 0 { // a new log
		w.end = walHeader
	}
	return err
}

// flush writes a header that was held back.
func (w *walFile) flush() error {
	if !w.held {
		return nil
	}
	w.held = false
	_, err := w.File.WriteAt(w.frame[:walFrameHeader], w.at)
	return err
}

// Sync implements vfs.File.
func (w *walFile) Sync(flags vfs.SyncFlag) error {
	if err := w.flush(); err != nil {
		return err
	}
	return w.File.Sync(flags)
}

// Truncate implements vfs.File.
func (w *walFile) Truncate(size int64) error {
	if err := w.flush(); err != nil {
		return err
	}
	return w.File.Truncate(size)
}

// Size implements vfs.File.
func (w *walFile) Size() (int64, error) {
	if err := w.flush(); err != nil {
		return 0, err
	}
	return w.File.Size()
}

// otherLayout reports whether the log was written by a build that encrypted it in blocks.
// Taken for one of these it would be empty, and what was committed in it lost. What is
// neither, a header that a power failure left half written, is none to SQLite either: it goes
// on with an empty log, since what was committed in one is on the disk as its header is.
func (w *walFile) otherLayout() bool {
	var header [walHeader]byte
	if w.readUnit(header[:], 0) != nil || isLog(header[:]) {
		return false
	}
	var block [4096]byte
	return w.readUnit(block[:], 0) == nil && isLog(block[:])
}

func isLog(b []byte) bool { return binary.BigEndian.Uint32(b)&^1 == walMagic }
