package backup

import (
	"archive/tar"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"

	"filippo.io/age"
)

// Write writes a backup to w. files are by their names in this package; ConfigName and
// EntropyName must be among them. store writes the stream of the store.
//
// A backup is whole if, and only if, the error is nil: the caller throws away what was
// written otherwise.
func Write(ctx context.Context, w io.Writer, l Lock, m Manifest, files map[string][]byte, store func(context.Context, io.Writer) error) error {
	if err := checkFiles(files); err != nil {
		return err
	}
	sealed, err := age.Encrypt(w, l.recipients...)
	if err != nil {
		return fmt.Errorf("seal the backup: %w", err)
	}
	a := &archive{tar: tar.NewWriter(sealed), made: m.Made}
	if err := a.all(ctx, m, files, store); err != nil {
		return err // sealed is not closed: age would end it like a whole file
	}
	if err := a.tar.Close(); err != nil {
		return fmt.Errorf("write the backup: %w", err)
	}
	if err := sealed.Close(); err != nil {
		return fmt.Errorf("write the backup: %w", err)
	}
	return nil
}

func checkFiles(files map[string][]byte) error {
	for name, b := range files {
		if !slices.Contains(fileNames, name) {
			return fmt.Errorf("a backup holds no file %q", name)
		}
		if len(b) > maxFile {
			return fmt.Errorf("%s has more than %d bytes", name, maxFile)
		}
	}
	for _, name := range []string{ConfigName, EntropyName} {
		if files[name] == nil {
			return fmt.Errorf("a backup needs %s", name)
		}
	}
	return nil
}

// archive is the tar file inside a backup.
type archive struct {
	tar    *tar.Writer
	made   time.Time
	piece  []byte
	pieces int
}

func (a *archive) all(ctx context.Context, m Manifest, files map[string][]byte, store func(context.Context, io.Writer) error) error {
	m.Format = Format
	manifest, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("write the manifest: %w", err)
	}
	if err := a.file(manifestName, append(manifest, '\n')); err != nil {
		return err
	}
	for _, name := range fileNames {
		if b := files[name]; b != nil {
			if err := a.file(name, b); err != nil {
				return err
			}
		}
	}
	a.piece = make([]byte, 0, piece)
	if err := store(ctx, (*pieces)(a)); err != nil {
		return fmt.Errorf("back up the store: %w", err)
	}
	return a.flush()
}

func (a *archive) file(name string, b []byte) error {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(b)), Mode: 0o600, ModTime: a.made.Truncate(time.Second), Format: tar.FormatUSTAR}
	err := a.tar.WriteHeader(h)
	if err == nil {
		_, err = a.tar.Write(b)
	}
	if err != nil {
		return fmt.Errorf("write %s into the backup: %w", name, err)
	}
	return nil
}

// pieces cuts a stream, whose length nobody knows before, into files.
type pieces archive

func (p *pieces) Write(b []byte) (int, error) {
	n := len(b)
	for len(b) > 0 {
		room := min(len(b), cap(p.piece)-len(p.piece))
		p.piece = append(p.piece, b[:room]...)
		b = b[room:]
		if len(p.piece) == cap(p.piece) {
			if err := (*archive)(p).flush(); err != nil {
				return n - len(b), err
			}
		}
	}
	return n, nil
}

// flush writes the piece that is being filled, if anything is in it.
func (a *archive) flush() error {
	if len(a.piece) == 0 {
		return nil
	}
	err := a.file(pieceName(a.pieces), a.piece)
	a.pieces++
	a.piece = a.piece[:0]
	return err
}

func pieceName(n int) string { return fmt.Sprintf("%s%08d", storePrefix, n) }
