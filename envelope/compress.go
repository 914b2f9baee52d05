package envelope

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

// maxWindow is the largest window of a frame, which bounds the memory that a reader
// of a stranger's frame needs.
const maxWindow = 8 << 20

// ErrCompressed is wrapped by the errors for a body that is not one whole zstd frame
// within the limits.
var ErrCompressed = errors.New("not one zstd frame")

// Compress returns body as one zstd frame and true, or body itself and false when
// that would not be smaller. It may be called at the same time.
//
// Compression shows in the size class how well a body compresses. Attackers learn
// from that only where they can put text of their own beside a secret in one body,
// again and again; people who answer mail with quotes come near it, so the classes
// are few.
func Compress(body []byte) ([]byte, bool) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(encodeWindow(len(body))),
		zstd.WithLowerEncoderMem(true))
	if err != nil {
		return body, false // only for a bad option
	}
	defer enc.Close()
	frame := enc.EncodeAll(body, make([]byte, 0, len(body)/2))
	if len(frame) >= len(body) {
		return body, false
	}
	return frame, true
}

// encodeWindow returns the smallest window that covers n bytes, at most maxWindow:
// the encoder's memory follows it, and so does the reader's.
func encodeWindow(n int) int {
	w := zstd.MinWindowSize
	for w < n && w < maxWindow {
		w *= 2
	}
	return w
}

// Decompress returns what body, one zstd frame, holds. A result of more than limit
// bytes is refused with an error that wraps [ErrTooLarge] as soon as it shows, a
// frame that is broken, needs a window of more than 8 MiB or has anything behind it
// with one that wraps [ErrCompressed].
func Decompress(body []byte, limit int64) ([]byte, error) {
	var out bytes.Buffer
	if _, err := DecompressTo(&out, body, limit); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// DecompressTo is [Decompress] into a writer, in pieces. If there is an error, w has
// got bytes that must not be used; never more than limit.
func DecompressTo(w io.Writer, body []byte, limit int64) (int64, error) {
	if err := checkFrame(body, limit); err != nil {
		return 0, err
	}
	// One goroutine, this one, does all the work when concurrency is 1.
	dec, err := zstd.NewReader(bytes.NewReader(body), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrCompressed, err)
	}
	defer dec.Close()
	n, err := io.Copy(w, &io.LimitedReader{R: reader{dec}, N: limit})
	if err != nil {
		return n, err
	}
	if n == limit {
		var one [1]byte
		switch _, err := io.ReadFull(reader{dec}, one[:]); {
		case err == nil:
			return n, fmt.Errorf("decompress: more than %d bytes: %w", limit, ErrTooLarge)
		case err != io.EOF:
			return n, err
		}
	}
	return n, nil
}

// reader marks the errors of a decoder, so that those of the writer stay apart, and
// hides its WriteTo, which would take a loop of its own.
type reader struct{ dec *zstd.Decoder }

func (r reader) Read(p []byte) (int, error) {
	n, err := r.dec.Read(p)
	if err != nil && err != io.EOF {
		err = fmt.Errorf("%w: %w", ErrCompressed, err)
	}
	return n, err
}

// checkFrame walks through the blocks of body (RFC 8878 section 3.1.1) and reports
// whether it is exactly one frame, of at most limit bytes if it tells that. A
// decoder would also take several, or ones that hold nothing and are skipped; it
// refuses too large a window by itself.
func checkFrame(body []byte, limit int64) error {
	var h zstd.Header
	if err := h.Decode(body); err != nil {
		return fmt.Errorf("%w: %w", ErrCompressed, err)
	}
	switch {
	case h.Skippable:
		return fmt.Errorf("%w: skippable", ErrCompressed)
	case h.DictionaryID != 0:
		return fmt.Errorf("%w: needs a dictionary", ErrCompressed)
	case h.HasFCS && h.FrameContentSize > uint64(max(limit, 0)):
		return fmt.Errorf("decompress: %d bytes, at most %d: %w", h.FrameContentSize, limit, ErrTooLarge)
	}
	rest := body[h.HeaderSize:]
	for last := false; !last; {
		var err error
		if rest, last, err = skipBlock(rest); err != nil {
			return err
		}
	}
	if h.HasCheckSum {
		if len(rest) < 4 {
			return fmt.Errorf("%w: cut", ErrCompressed)
		}
		rest = rest[4:]
	}
	if len(rest) != 0 {
		return fmt.Errorf("%w: %d bytes behind it", ErrCompressed, len(rest))
	}
	return nil
}

// skipBlock returns what stands behind the first block of b, and whether that block
// says that it is the last one of its frame.
func skipBlock(b []byte) (rest []byte, last bool, err error) {
	const blockHeader, typeRLE = 3, 1
	if len(b) < blockHeader {
		return nil, false, fmt.Errorf("%w: cut", ErrCompressed)
	}
	head := uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16
	size := int(head >> 3)
	if head>>1&3 == typeRLE {
		size = 1 // the byte that is repeated
	}
	if b = b[blockHeader:]; len(b) < size {
		return nil, false, fmt.Errorf("%w: cut", ErrCompressed)
	}
	return b[size:], head&1 == 1, nil
}

// NewDecompressor reads what a frame of r holds, as it is asked for, and gives an error
// beyond limit bytes. It is for frames that [Decompress] has taken before: it does not
// notice what stands behind the frame. Close frees its memory.
func NewDecompressor(r io.Reader, limit int64) (io.ReadCloser, error) {
	dec, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCompressed, err)
	}
	return &decompressor{reader{dec}, limit}, nil
}

type decompressor struct {
	reader
	left int64
}

// Read gives ErrTooLarge beyond the limit.
func (d *decompressor) Read(p []byte) (int, error) {
	if int64(len(p)) > d.left+1 {
		p = p[:d.left+1]
	}
	n, err := d.reader.Read(p)
	if d.left -= int64(n); d.left < 0 {
		return n - 1, fmt.Errorf("decompress: %w", ErrTooLarge)
	}
	return n, err
}

// Close ends reading.
func (d *decompressor) Close() error {
	d.dec.Close()
	return nil
}
