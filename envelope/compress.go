package envelope

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// maxWindow is the largest window of a frame, which bounds the memory that a reader
// of a stranger's frame needs.
const maxWindow = 8 << 20

// ErrCompressed is wrapped by the errors for a body that is not one whole zstd frame
// within the limits.
var ErrCompressed = errors.New("not one zstd frame")

// maxAtOnce is the largest body that is compressed, or decompressed, in one step.
const maxAtOnce = 1 << 20

// base64Too makes attachments a quarter smaller: in base64 nothing repeats, but only 65 of
// 256 bytes occur.
var base64Too = zstd.WithAllLitEntropyCompression(true)

// coders are what bodies of at most maxAtOnce bytes share: to make them costs more than
// to use them. They keep a megabyte or two for each that is at work at a time.
var coders = sync.OnceValues(func() (*zstd.Encoder, *zstd.Decoder) {
	enc, err := zstd.NewWriter(nil, zstd.WithWindowSize(maxAtOnce), zstd.WithLowerEncoderMem(true), base64Too)
	if err != nil {
		panic(err) // only for a bad option
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		panic(err)
	}
	return enc, dec
})

// Compress returns body as one zstd frame and true, or body itself and false when
// that would not be smaller. It may be called at the same time. For what may be large
// there is [NewCompressor].
//
// Compression shows in the size class how well a body compresses. Attackers learn
// from that only where they can put text of their own beside a secret in one body,
// again and again; people who answer mail with quotes come near it, so the classes
// are few.
func Compress(body []byte) ([]byte, bool) {
	var frame []byte
	if len(body) <= maxAtOnce {
		enc, _ := coders()
		frame = enc.EncodeAll(body, make([]byte, 0, len(body)/2))
	} else {
		var out bytes.Buffer
		c := NewCompressor(&out)
		_, err := c.Write(body)
		if err := errors.Join(err, c.Close()); err != nil {
			return body, false // not reached: a buffer takes everything
		}
		frame = out.Bytes()
	}
	if len(frame) >= len(body) {
		return body, false
	}
	return frame, true
}

// streamWindow is the window of what [NewCompressor] writes. Both sides need a few times
// as much memory.
const streamWindow = 1 << 20

// NewCompressor compresses into w, as one zstd frame that is complete once it is closed.
// At least one byte must be written.
func NewCompressor(w io.Writer) io.WriteCloser {
	enc, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(streamWindow), zstd.WithLowerEncoderMem(true), base64Too)
	if err != nil {
		panic(err) // only for a bad option
	}
	return enc
}

// Decompress returns what body, one zstd frame, holds. A result of more than limit
// bytes is refused with an error that wraps [ErrTooLarge] as soon as it shows, a
// frame that is broken, needs a window of more than 8 MiB or has anything behind it
// with one that wraps [ErrCompressed].
func Decompress(body []byte, limit int64) ([]byte, error) {
	var h zstd.Header
	if err := h.Decode(body); err == nil && h.HasFCS && h.FrameContentSize <= uint64(max(0, min(limit, maxAtOnce))) {
		return decompressAtOnce(body, int(h.FrameContentSize))
	}
	var out bytes.Buffer
	if _, err := DecompressTo(&out, body, limit); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// decompressAtOnce is Decompress of a frame that says that it holds n bytes, few.
func decompressAtOnce(body []byte, n int) ([]byte, error) {
	w := walker{in: bufio.NewReaderSize(bytes.NewReader(body), zstd.HeaderMaxSize)}
	if _, err := io.Copy(io.Discard, &w); err != nil {
		return nil, err
	}
	_, dec := coders()
	out, err := dec.DecodeAll(body, make([]byte, 0, n))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCompressed, err)
	}
	return out, nil
}

// DecompressTo is [Decompress] into a writer, in pieces. If there is an error, w has
// got bytes that must not be used; never more than limit.
func DecompressTo(w io.Writer, body []byte, limit int64) (int64, error) {
	dec, err := NewDecompressor(bytes.NewReader(body), limit)
	if err != nil {
		return 0, err
	}
	defer dec.Close()
	return io.Copy(w, dec)
}

// NewDecompressor reads what the one frame that r holds contains, as it is asked for. The
// errors are those of [Decompress], and those of r as they are. Never are more than limit
// bytes read of it. Close frees its memory.
func NewDecompressor(r io.Reader, limit int64) (io.ReadCloser, error) {
	d := &decompressor{walker: walker{in: bufio.NewReader(r), limit: max(limit, 0), limited: true}, left: limit}
	// One goroutine, the reader's, does all the work when concurrency is 1.
	var err error
	d.dec, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCompressed, err)
	}
	// The decoder hides the errors of what it reads and would take a whole small body at
	// once; so the walker keeps them, and is no bytes.Buffer.
	if err := d.dec.Reset(&d.walker); err != nil {
		return nil, d.cause(err)
	}
	return d, nil
}

type decompressor struct {
	walker walker
	dec    *zstd.Decoder
	left   int64
}

// Read returns ErrTooLarge beyond the limit.
func (d *decompressor) Read(p []byte) (int, error) {
	if int64(len(p)) > d.left+1 {
		p = p[:d.left+1]
	}
	n, err := d.dec.Read(p)
	if d.left -= int64(n); d.left < 0 {
		d.left = 0
		return n - 1, fmt.Errorf("decompress: more than %d bytes: %w", d.walker.limit, ErrTooLarge)
	}
	return n, d.cause(err)
}

// cause returns an error as what it comes from: the source, or the frame.
func (d *decompressor) cause(err error) error {
	switch {
	case err == nil:
		return nil
	case d.walker.err != nil && d.walker.err != io.EOF:
		return d.walker.err
	case err == io.EOF:
		return io.EOF
	}
	return fmt.Errorf("%w: %w", ErrCompressed, err)
}

// Close ends reading.
func (d *decompressor) Close() error {
	d.dec.Close()
	return nil
}

// walker passes on what it reads and walks through the blocks of it (RFC 8878 section
// 3.1.1): it is an error if that is not exactly one frame, or one that says that it holds
// more than the limit. A decoder would also take several, or ones that hold nothing and
// are skipped; it refuses too large a window by itself.
type walker struct {
	in      *bufio.Reader
	limit   int64
	limited bool
	pass    int // bytes to be passed on before the next look
	begun   bool
	last    bool // the last block was seen
	sum     bool // a checksum follows it
	err     error
}

// Read passes bytes on.
func (w *walker) Read(p []byte) (n int, err error) {
	if w.err == nil && w.pass == 0 {
		w.err = w.look()
	}
	if w.err != nil {
		return 0, w.err
	}
	n, err = w.in.Read(p[:min(len(p), w.pass)])
	w.pass -= n
	if err == io.EOF {
		err = fmt.Errorf("%w: cut", ErrCompressed)
	}
	w.err = err
	return n, err
}

// look finds out what comes next, and how long that is.
func (w *walker) look() error {
	switch {
	case !w.begun:
		w.begun = true
		return w.header()
	case !w.last:
		return w.block()
	case w.sum:
		w.sum, w.pass = false, 4
		return nil
	}
	_, err := w.in.Peek(1)
	if err == nil {
		return fmt.Errorf("%w: something behind it", ErrCompressed)
	}
	return err
}

func (w *walker) header() error {
	b, err := w.in.Peek(zstd.HeaderMaxSize)
	if err != nil && err != io.EOF {
		return err
	}
	var h zstd.Header
	if err := h.Decode(b); err != nil {
		return fmt.Errorf("%w: %w", ErrCompressed, err)
	}
	switch {
	case h.Skippable:
		return fmt.Errorf("%w: skippable", ErrCompressed)
	case h.DictionaryID != 0:
		return fmt.Errorf("%w: needs a dictionary", ErrCompressed)
	case w.limited && h.HasFCS && h.FrameContentSize > uint64(w.limit):
		return fmt.Errorf("decompress: %d bytes, at most %d: %w", h.FrameContentSize, w.limit, ErrTooLarge)
	}
	w.pass, w.sum = h.HeaderSize, h.HasCheckSum
	return nil
}

func (w *walker) block() error {
	const blockHeader, typeRLE = 3, 1
	b, err := w.in.Peek(blockHeader)
	if err == io.EOF {
		return fmt.Errorf("%w: cut", ErrCompressed)
	}
	if err != nil {
		return err
	}
	head := uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16
	size := int(head >> 3)
	if head>>1&3 == typeRLE {
		size = 1 // the byte that is repeated
	}
	w.pass, w.last = blockHeader+size, head&1 == 1
	return nil
}
