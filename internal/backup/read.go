package backup

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"slices"
)

// Reader is an open backup.
type Reader struct {
	Manifest Manifest

	plain io.Reader
	tar   *tar.Reader
	next  *tar.Header // read, and its content not yet; nil: the archive's end
}

// Open reads the manifest of a backup.
func Open(r io.Reader, k Key) (*Reader, error) {
	plain, err := k.decrypt(r)
	if err != nil {
		return nil, fmt.Errorf("open the backup: %w", err)
	}
	b := &Reader{plain: plain, tar: tar.NewReader(plain)}
	if err := b.advance(); err != nil {
		return nil, fmt.Errorf("open the backup: %w", err)
	}
	if b.next == nil || b.next.Name != manifestName {
		return nil, fmt.Errorf("open the backup: %w: it does not begin with a manifest", ErrNotBackup)
	}
	manifest, err := b.content(maxFile)
	if err != nil {
		return nil, fmt.Errorf("open the backup: %w", err)
	}
	if b.Manifest, err = parseManifest(manifest); err != nil {
		return nil, fmt.Errorf("open the backup: %w", err)
	}
	return b, nil
}

// advance reads the next header. At the archive's end it makes sure that the file ends
// there as well, since age tells only then that nothing was cut off.
func (b *Reader) advance() error {
	h, err := b.tar.Next()
	if errors.Is(err, io.EOF) {
		b.next = nil
		switch n, err := io.ReadFull(b.plain, make([]byte, 1)); {
		case n > 0:
			return fmt.Errorf("%w: something follows its end", ErrDamaged)
		case !errors.Is(err, io.EOF):
			return err
		}
		return nil
	}
	switch {
	case errors.Is(err, ErrDamaged):
		return err
	case err != nil:
		return fmt.Errorf("%w: %w", ErrNotBackup, err)
	case h.Typeflag != tar.TypeReg || h.Size < 0:
		return fmt.Errorf("%w: %q is no file", ErrNotBackup, h.Name)
	}
	b.next = h
	return nil
}

// content reads the file whose header is next, and the header after it.
func (b *Reader) content(limit int64) ([]byte, error) {
	if b.next.Size > limit {
		return nil, fmt.Errorf("%w: %q has %d bytes, at most %d", ErrNotBackup, b.next.Name, b.next.Size, limit)
	}
	content := make([]byte, b.next.Size)
	if _, err := io.ReadFull(b.tar, content); err != nil {
		return nil, damagedAs(err)
	}
	return content, b.advance()
}

// damagedAs names the cause of an error of package tar, which replaces that of age
// by its own if the archive ends early.
func damagedAs(err error) error {
	if errors.Is(err, ErrDamaged) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrDamaged, err)
}

// files reads the files before the store.
func (b *Reader) files() (map[string][]byte, error) {
	files := map[string][]byte{}
	last := -1
	for b.next != nil {
		i := slices.Index(fileNames, b.next.Name)
		if i < 0 {
			break // the store, or what storeReader refuses
		}
		if i <= last {
			return nil, fmt.Errorf("%w: %s is out of order", ErrNotBackup, b.next.Name)
		}
		last = i
		content, err := b.content(maxFile)
		if err != nil {
			return nil, err
		}
		files[fileNames[i]] = content
	}
	if err := checkFiles(files); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotBackup, err)
	}
	return files, nil
}

// storeReader puts the pieces of the store's stream together again. It returns io.EOF
// only once the whole backup was found to be good.
type storeReader struct {
	b      *Reader
	pieces int
	rest   []byte
	err    error
}

func (s *storeReader) Read(p []byte) (int, error) {
	for len(s.rest) == 0 {
		if s.err == nil {
			s.rest, s.err = s.piece()
		}
		if len(s.rest) == 0 && s.err != nil {
			return 0, s.err
		}
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

func (s *storeReader) piece() ([]byte, error) {
	switch {
	case s.b.next == nil:
		return nil, io.EOF
	case s.b.next.Name != pieceName(s.pieces) || s.b.next.Size == 0:
		return nil, fmt.Errorf("%w: %q stands where %s should", ErrNotBackup, s.b.next.Name, pieceName(s.pieces))
	}
	s.pieces++
	return s.b.content(maxPiece)
}
