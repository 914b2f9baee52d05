package store

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/dgraph-io/badger/v4"
)

// The format of a backup, integers big-endian:
//
//	"asmtp store\n" | version u32, 1 | schema u32
//	records, keys ascending: key length u16, not 0 | value length u32 | key | value
//	0 u16 | number of records u64 | SHA-256 of all before it, 32
//
// Keys and values are those of keys.go. Nothing may come after the end. The checksum is
// against accidents: who may alter a backup can compute it anew, so keep it encrypted.
const (
	backupMagic   = "asmtp store\n"
	backupVersion = 1
	backupBuffer  = 1 << 16
)

// ErrBackup is wrapped when a backup cannot be read: it is damaged, cut off, or none.
var ErrBackup = errors.New("not a whole backup of a store")

// Backup writes one consistent state of the store to w; other calls go on meanwhile, and
// what they write is not in it. It holds the secrets of the store in clear.
func (s *Store) Backup(ctx context.Context, w io.Writer) error {
	out := newBackupWriter(w)
	err := s.view(func(txn *badger.Txn) error {
		return scan(txn, nil, nil, true, func(k, v []byte) (bool, error) {
			if bytes.Equal(k, keyMarker) {
				return true, nil
			}
			return true, errors.Join(out.record(k, v), ctx.Err())
		})
	})
	if err == nil {
		err = out.end()
	}
	if err != nil {
		return fmt.Errorf("back up the store: %w", err)
	}
	return nil
}

// backupWriter writes a backup. The errors of its buffer stay until end.
type backupWriter struct {
	w     io.Writer
	out   *bufio.Writer
	sum   hash.Hash
	count uint64
}

func newBackupWriter(w io.Writer) *backupWriter {
	b := &backupWriter{w: w, sum: sha256.New()}
	b.out = bufio.NewWriterSize(io.MultiWriter(w, b.sum), backupBuffer)
	b.out.WriteString(backupMagic)
	b.out.Write(append(be32(backupVersion), be32(schema)...))
	return b
}

func (b *backupWriter) record(k, v []byte) error {
	if err := checkShape(k, len(v)); err != nil {
		return err
	}
	b.count++
	b.out.Write(binary.BigEndian.AppendUint16(nil, uint16(len(k))))
	b.out.Write(be32(uint32(len(v))))
	b.out.Write(k)
	_, err := b.out.Write(v)
	return err
}

func (b *backupWriter) end() error {
	b.out.Write(append([]byte{0, 0}, be64(b.count)...))
	if err := b.out.Flush(); err != nil {
		return err
	}
	_, err := b.w.Write(b.sum.Sum(nil))
	return err
}

// backupReader reads a backup.
type backupReader struct {
	r     *bufio.Reader
	sum   hash.Hash
	count uint64
	last  []byte // key
}

// newBackupReader reads the head. A backup of a later program is ErrNewer.
func newBackupReader(r io.Reader) (*backupReader, error) {
	b := &backupReader{r: bufio.NewReaderSize(r, backupBuffer), sum: sha256.New()}
	head, err := b.read(len(backupMagic) + 8)
	if err != nil {
		return nil, err
	}
	numbers := head[len(backupMagic):]
	if string(head[:len(backupMagic)]) != backupMagic {
		return nil, ErrBackup
	}
	if v := binary.BigEndian.Uint32(numbers); v != backupVersion {
		return nil, fmt.Errorf("%w: backup of version %d, this program knows %d", ErrNewer, v, backupVersion)
	}
	if v := binary.BigEndian.Uint32(numbers[4:]); v != schema {
		return nil, fmt.Errorf("%w: backup of a store of format %d, this program knows %d", ErrNewer, v, schema)
	}
	return b, nil
}

// read returns the next n bytes, and counts them into the checksum.
func (b *backupReader) read(n int) ([]byte, error) {
	p := make([]byte, n)
	if _, err := io.ReadFull(b.r, p); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, fmt.Errorf("%w: it is cut off", ErrBackup)
		}
		return nil, err
	}
	b.sum.Write(p)
	return p, nil
}

// next returns the next record, or io.EOF after the last if the end is as it must be.
func (b *backupReader) next() (k, v []byte, err error) {
	n, err := b.read(2)
	if err != nil {
		return nil, nil, err
	}
	klen := int(binary.BigEndian.Uint16(n))
	if klen == 0 {
		return nil, nil, b.end()
	}
	if n, err = b.read(4); err != nil {
		return nil, nil, err
	}
	vlen := binary.BigEndian.Uint32(n)
	if klen > maxKey || vlen > maxValue {
		return nil, nil, fmt.Errorf("%w: record of %d and %d bytes", ErrBackup, klen, vlen)
	}
	if k, err = b.read(klen); err != nil {
		return nil, nil, err
	}
	if err := checkShape(k, int(vlen)); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrBackup, err)
	}
	if bytes.Compare(k, b.last) <= 0 {
		return nil, nil, fmt.Errorf("%w: records are out of order", ErrBackup)
	}
	if v, err = b.read(int(vlen)); err != nil {
		return nil, nil, err
	}
	b.last = k
	b.count++
	return k, v, nil
}

func (b *backupReader) end() error {
	n, err := b.read(8)
	if err != nil {
		return err
	}
	want := b.sum.Sum(nil)
	sum, err := b.read(len(want))
	if err != nil {
		return err
	}
	if binary.BigEndian.Uint64(n) != b.count || !bytes.Equal(sum, want) {
		return fmt.Errorf("%w: its checksum is wrong", ErrBackup)
	}
	switch _, err := b.r.ReadByte(); {
	case err == nil:
		return fmt.Errorf("%w: more bytes come after its end", ErrBackup)
	case !errors.Is(err, io.EOF):
		return err
	}
	return io.EOF
}
