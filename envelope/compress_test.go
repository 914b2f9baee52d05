package envelope_test

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"io"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/zstd"
	"go.uber.org/goleak"

	"github.com/asmtp/asmtp/envelope"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestDecompressUndoesCompress(t *testing.T) {
	for name, body := range map[string][]byte{
		"letter":         []byte(strings.Repeat("Dear Bob, all is well here. ", 20)),
		"one byte often": bytes.Repeat([]byte{0}, 100_000),
		"20 MiB":         text(20 << 20), // more than the largest window
	} {
		frame, ok := envelope.Compress(body)
		if !ok || len(frame) >= len(body) {
			t.Errorf("%s: %d bytes are not made smaller", name, len(body))
			continue
		}
		got, err := envelope.Decompress(frame, int64(len(body)))
		if err != nil || !bytes.Equal(got, body) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
}

// Bytes of every kind after one another: a body larger than the window that refers
// back as far as it can.
func TestDecompressOfFarReferences(t *testing.T) {
	block := make([]byte, 1<<20)
	rand.Read(block)
	var body []byte
	for range 12 {
		body = append(body, block...)
		body = append(body, text(300_000)...)
	}
	frame, ok := envelope.Compress(body)
	if !ok {
		t.Fatal("not made smaller")
	}
	got, err := envelope.Decompress(frame, limit)
	if err != nil || !bytes.Equal(got, body) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func TestCompressLeavesWhatDoesNotShrink(t *testing.T) {
	noise := make([]byte, 10_000)
	rand.Read(noise)
	for name, body := range map[string][]byte{"nothing": nil, "a byte": {1}, "random": noise} {
		if got, ok := envelope.Compress(body); ok || !bytes.Equal(got, body) {
			t.Errorf("%s: %d bytes, %v", name, len(got), ok)
		}
	}
}

// Most of what is large in mail is in base64: random bytes as a quarter more of them.
func TestCompressBase64(t *testing.T) {
	content := make([]byte, 150_000)
	rand.Read(content)
	body := []byte(base64.StdEncoding.EncodeToString(content))
	if frame, ok := envelope.Compress(body); !ok || len(frame) > len(content)*103/100 {
		t.Errorf("%d bytes as base64 become %d, want about %d", len(body), len(frame), len(content))
	}
}

func TestDecompressRefuses(t *testing.T) {
	body := text(100_000)
	frame, _ := envelope.Compress(body)
	skippable := append([]byte{0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0}, "data"...)
	for name, tt := range map[string]struct {
		frame []byte
		limit int64
		want  error
	}{
		"nothing":            {nil, limit, envelope.ErrCompressed},
		"plain text":         {body, limit, envelope.ErrCompressed},
		"two frames":         {append(bytes.Clone(frame), frame...), limit, envelope.ErrCompressed},
		"a byte behind":      {append(bytes.Clone(frame), 0), limit, envelope.ErrCompressed},
		"skippable":          {skippable, limit, envelope.ErrCompressed},
		"skippable behind":   {append(bytes.Clone(frame), skippable...), limit, envelope.ErrCompressed},
		"cut":                {frame[:len(frame)-1], limit, envelope.ErrCompressed},
		"checksum changed":   {with(frame, len(frame)-1, frame[len(frame)-1]^1), limit, envelope.ErrCompressed},
		"one byte too large": {frame, int64(len(body)) - 1, envelope.ErrTooLarge},
		"limit 0":            {frame, 0, envelope.ErrTooLarge},
		"size not told":      {streamed(t, body, 1<<20), int64(len(body)) - 1, envelope.ErrTooLarge},
		"window of 16 MiB":   {streamed(t, text(20<<20), 16<<20), limit, envelope.ErrCompressed},
		"single segment":     {single(t, text(20<<20)), limit, envelope.ErrCompressed},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			n, err := envelope.DecompressTo(&out, tt.frame, tt.limit)
			if !errors.Is(err, tt.want) {
				t.Errorf("error = %v, want %v", err, tt.want)
			}
			if n != int64(out.Len()) || n > tt.limit {
				t.Errorf("%d bytes written, %d told, limit %d", out.Len(), n, tt.limit)
			}
			if _, err := envelope.Decompress(tt.frame, tt.limit); !errors.Is(err, tt.want) {
				t.Errorf("at once: error = %v, want %v", err, tt.want)
			}
		})
	}
	if _, err := envelope.Decompress(streamed(t, body, 1<<20), int64(len(body))); err != nil {
		t.Errorf("frame without its size told: %v", err)
	}
}

// streamed returns a frame that does not tell its size.
func streamed(tb testing.TB, body []byte, window int) []byte {
	tb.Helper()
	var out bytes.Buffer
	enc, err := zstd.NewWriter(&out, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(window))
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := io.Copy(enc, struct{ io.Reader }{bytes.NewReader(body)}); err != nil {
		tb.Fatal(err)
	}
	if err := errors.Join(enc.Flush(), enc.Close()); err != nil { // without Flush a short body is told
		tb.Fatal(err)
	}
	var h zstd.Header
	if err := h.Decode(out.Bytes()); err != nil || h.HasFCS {
		tb.Fatalf("size told %v, %v", h.HasFCS, err)
	}
	return out.Bytes()
}

// single returns a frame whose window is its size.
func single(tb testing.TB, body []byte) []byte {
	tb.Helper()
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithSingleSegment(true))
	if err != nil {
		tb.Fatal(err)
	}
	defer enc.Close()
	return enc.EncodeAll(body, nil)
}

// What fails to be read is not taken for a broken frame: that would be for good.
func TestDecompressorKeepsTheErrorOfItsSource(t *testing.T) {
	frame, _ := envelope.Compress(text(100_000))
	torn := errors.New("disk torn out")
	for _, n := range []int{0, 3, 10, len(frame) / 2, len(frame) - 1, len(frame)} {
		dec, err := envelope.NewDecompressor(io.MultiReader(bytes.NewReader(frame[:n]), iotest.ErrReader(torn)), limit)
		if err == nil {
			_, err = io.Copy(io.Discard, dec)
			dec.Close()
		}
		if !errors.Is(err, torn) || errors.Is(err, envelope.ErrCompressed) {
			t.Errorf("after %d bytes: error = %v, want that of the source", n, err)
		}
	}
}

// A frame that was written in pieces is one frame, and read in pieces gives the same.
func TestCompressorUndone(t *testing.T) {
	body := append(text(3<<20), make([]byte, 1<<20)...)
	rand.Read(body[3<<20:])
	var frame bytes.Buffer
	c := envelope.NewCompressor(&frame)
	if _, err := io.Copy(c, iotest.HalfReader(bytes.NewReader(body))); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	dec, err := envelope.NewDecompressor(iotest.OneByteReader(bytes.NewReader(frame.Bytes())), int64(len(body)))
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Close()
	if got, err := io.ReadAll(iotest.HalfReader(dec)); err != nil || !bytes.Equal(got, body) {
		t.Errorf("%d bytes, %v; want %d", len(got), err, len(body))
	}
}

func TestDecompressStopsWhenTheWriterFails(t *testing.T) {
	frame, _ := envelope.Compress(text(1 << 20))
	r, w := io.Pipe()
	full := errors.New("disk full")
	r.CloseWithError(full)
	if _, err := envelope.DecompressTo(w, frame, limit); !errors.Is(err, full) || errors.Is(err, envelope.ErrCompressed) {
		t.Errorf("error = %v, want the writer's", err)
	}
}

func TestCompressIsSafeForConcurrentUse(t *testing.T) {
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			frame, _ := envelope.Compress(text(100_000))
			if got, err := envelope.Decompress(frame, limit); err != nil || !bytes.Equal(got, text(100_000)) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		})
	}
	wg.Wait()
}

// A frame of a few bytes that asks for the largest window makes a reader allocate
// little more than that.
func TestDecompressAllocatesNoMoreThanTheWindow(t *testing.T) {
	frame := []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 13 << 3, 0x03, 0x01, 0x00, 0x00} // 8 MiB, 32 zero bytes
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	got, err := envelope.Decompress(frame, limit)
	runtime.ReadMemStats(&after)
	if err != nil || len(got) != 32 {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > 10<<20 {
		t.Errorf("%d bytes allocated", n)
	} else {
		t.Logf("%d bytes allocated", n)
	}
}

func BenchmarkCompress(b *testing.B) {
	for name, n := range map[string]int{"4KiB": 4 << 10, "1MiB": 1 << 20} {
		body := text(n)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(n))
			for b.Loop() {
				envelope.Compress(body)
			}
		})
	}
}

func BenchmarkDecompress(b *testing.B) {
	frame, _ := envelope.Compress(text(1 << 20))
	b.ReportAllocs()
	b.SetBytes(1 << 20)
	for b.Loop() {
		if _, err := envelope.Decompress(frame, limit); err != nil {
			b.Fatal(err)
		}
	}
}
