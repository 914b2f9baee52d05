package account

import (
	"bytes"
	"encoding/binary"
	"io"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/util/vfsutil"
	"github.com/ncruces/go-sqlite3/vfs"
	"github.com/ncruces/go-sqlite3/vfs/adiantum"
)

// vfsName is the VFS of account databases: adiantum, with the write-ahead log laid out so
// that no block of it is written twice while somebody may read it.
//
// Adiantum encrypts blocks of 4096 bytes as a whole. Frames of the log (24 bytes and a page)
// begin anywhere in them, so whoever appends a frame writes the end of the one before it
// anew. SQLite takes a frame that was committed for unchanging: others read it meanwhile,
// without a lock, and a checkpoint copies it into the database. The kernel does not keep
// them from seeing such a block half old, half new, which decrypts to noise: they would find
// no row where there is one, or a broken database, or write the noise into it.
const vfsName = "asmtp"

func init() {
	vfs.Register(vfsName, &walVFS{adiantum.Wrap(vfs.Find(""), nil).(vfs.VFSFilename)})
}

type walVFS struct{ vfs.VFSFilename }

// OpenFilename implements vfs.VFSFilename.
func (v *walVFS) OpenFilename(name *vfs.Filename, flags vfs.OpenFlag) (vfs.File, vfs.OpenFlag, error) {
	f, out, err := v.VFSFilename.OpenFilename(name, flags)
	if err != nil || flags&vfs.OPEN_WAL == 0 {
		return f, out, err
	}
	w := &walFile{f}
	if w.unaligned() {
		f.Close()
		return nil, out, sqlite3.CANTOPEN
	}
	return w, out, nil
}

// Of the log (https://sqlite.org/fileformat2.html#walformat). The page size is SQLite's
// default, which openDB does not change.
const (
	walMagic       = 0x377f0682 // the last bit says how checksums count
	walBlock       = 4096       // of adiantum, and a page
	walHeader      = 32
	walFrameHeader = 24
	walFrame       = walFrameHeader + walBlock
)

// walFile gives the header of the log, the header of each frame and each page blocks of
// their own: block 0 is the header, frame n is in blocks 1+2n and 2+2n. The log takes twice
// the place for it, and fewer blocks are encrypted than if frames were cut by them.
type walFile struct{ vfs.File }

// place returns where the byte at off is, and how many that follow it are in its block.
func (w *walFile) place(off int64) (at int64, left int) {
	if off < walHeader {
		return off, int(walHeader - off)
	}
	frame, in := (off-walHeader)/walFrame, (off-walHeader)%walFrame
	if in < walFrameHeader {
		return (1+2*frame)*walBlock + in, int(walFrameHeader - in)
	}
	return (2+2*frame)*walBlock + in - walFrameHeader, int(walFrame - in)
}

// each calls fn for the parts of p that are in one block each.
func (w *walFile) each(p []byte, off int64, fn func(p []byte, at int64) (int, error)) (n int, err error) {
	for len(p) > 0 {
		at, left := w.place(off)
		part := p[:min(left, len(p))]
		m, err := fn(part, at)
		n += m
		if err != nil || m < len(part) {
			return n, err
		}
		p, off = p[len(part):], off+int64(len(part))
	}
	return n, nil
}

// ReadAt implements vfs.File.
func (w *walFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := w.each(p, off, w.File.ReadAt)
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return n, err
}

// WriteAt implements vfs.File.
func (w *walFile) WriteAt(p []byte, off int64) (int, error) {
	return w.each(p, off, w.File.WriteAt)
}

// Truncate implements vfs.File.
func (w *walFile) Truncate(size int64) error {
	if size > 0 {
		at, _ := w.place(size - 1)
		size = at - at%walBlock + walBlock
	}
	return w.File.Truncate(size)
}

// SizeHint implements vfs.FileSizeHint.
func (w *walFile) SizeHint(size int64) error {
	at, _ := w.place(size)
	return vfsutil.WrapSizeHint(w.File, at)
}

// Size implements vfs.File.
func (w *walFile) Size() (int64, error) {
	size, err := w.File.Size()
	blocks := size / walBlock
	if err != nil || blocks == 0 {
		return 0, err
	}
	return walHeader + (blocks-1)/2*walFrame + (blocks-1)%2*walFrameHeader, nil
}

// unaligned reports whether the log was written without this layout, by a build that had
// it not: then a frame with the salts of its header follows that in its block. Taken for one
// of these it would be empty, and what was committed in it lost. What is neither, a block
// that a power failure left half written, is no header to SQLite either: it goes on with an
// empty log, since what was committed in one is on the disk as its header is.
func (w *walFile) unaligned() bool {
	var b [walHeader + walFrameHeader]byte
	if n, err := w.File.ReadAt(b[:], 0); err != nil || n < len(b) {
		return false
	}
	magic, salts, frameSalts := binary.BigEndian.Uint32(b[:]), b[16:24], b[walHeader+8:walHeader+16]
	return magic&^1 == walMagic && bytes.Equal(salts, frameSalts)
}
