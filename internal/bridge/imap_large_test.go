package bridge

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"runtime"
	"strings"
	"testing"
)

// pattern is a reader of n bytes that do not repeat soon and are hard to compress.
type pattern struct {
	n     int64
	state uint64
}

func (p *pattern) Read(b []byte) (int, error) {
	if p.n == 0 {
		return 0, io.EOF
	}
	b = b[:min(int64(len(b)), p.n)]
	for i := range b {
		p.state = p.state*6364136223846793005 + 1442695040888963407
		if b[i] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"[p.state>>58]; p.state>>40&63 == 0 {
			b[i] = '\n'
		}
	}
	p.n -= int64(len(b))
	return len(b), nil
}

const largeHeader = "Subject: large\r\nMessage-ID: <large@test>\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nsmall\r\n--b\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n"
const largeEnd = "\r\n--b--\r\n"

func largeMessage(size int64) (io.Reader, int64) {
	return io.MultiReader(strings.NewReader(largeHeader), &pattern{n: size, state: 7}, strings.NewReader(largeEnd)),
		int64(len(largeHeader)+len(largeEnd)) + size
}

// heapWatch reads on and keeps the highest heap that it saw.
type heapWatch struct {
	in  io.Reader
	n   int64
	top *uint64
}

func (h *heapWatch) Read(p []byte) (int, error) {
	n, err := h.in.Read(p)
	if h.n += int64(n); h.n > 4<<20 {
		h.n = 0
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		*h.top = max(*h.top, m.HeapAlloc)
	}
	return n, err
}

// A message of nearly the limit is filed and read, whole, in pieces and by its parts,
// without ever being in memory.
func TestLargeMessageIsStreamed(t *testing.T) {
	e := newIMAPEnv(t, nil)
	c := e.login()
	var base, top uint64
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	base = m.HeapAlloc
	body, size := largeMessage(imapTestLimit - 1000)
	c.send(fmt.Sprintf("a APPEND INBOX {%d}\r\n", size))
	if got := c.line(); !strings.HasPrefix(got, "+") {
		t.Fatal(got)
	}
	want := sha256.New()
	if _, err := io.Copy(c.conn, &heapWatch{io.TeeReader(body, want), 0, &top}); err != nil {
		t.Fatal(err)
	}
	c.send("\r\n")
	if _, tagged := c.until("a"); !strings.HasPrefix(tagged, "OK") {
		t.Fatal(tagged)
	}
	c.ok("SELECT INBOX")
	c.in = bufio.NewReaderSize(&heapWatch{c.conn, 0, &top}, 64<<10)
	got := sha256.New()
	c.hashLiteral(got, "BODY.PEEK[]", size)
	if string(got.Sum(nil)) != string(want.Sum(nil)) {
		t.Error("the message came back changed")
	}
	got.Reset()
	for at := int64(0); at < size; at += 1 << 20 {
		c.hashLiteral(got, fmt.Sprintf("BODY.PEEK[]<%d.%d>", at, 1<<20), min(1<<20, size-at))
	}
	if string(got.Sum(nil)) != string(want.Sum(nil)) {
		t.Error("the message came back changed in pieces")
	}
	got.Reset()
	c.hashLiteral(got, "BODY.PEEK[2]", imapTestLimit-1000)
	inner := sha256.New()
	io.Copy(inner, &pattern{n: imapTestLimit - 1000, state: 7})
	if string(got.Sum(nil)) != string(inner.Sum(nil)) {
		t.Error("the part came back changed")
	}
	if got := c.ok("FETCH 1 BODYSTRUCTURE")[0]; !strings.Contains(got, fmt.Sprint(imapTestLimit-1000)) {
		t.Error(got)
	}
	c.ok("FETCH 1 BINARY.SIZE[2]")
	const limit = 32 << 20
	if top > base+limit {
		t.Errorf("the heap grew by %d MiB", (top-base)>>20)
	}
	t.Logf("the heap grew by %d KiB", (int64(top)-int64(base))>>10)
}

// hashLiteral fetches an item and hashes its literal as it comes.
func (c *imapClient) hashLiteral(h hash.Hash, items string, want int64) {
	c.t.Helper()
	c.send("h FETCH 1 " + items + "\r\n")
	line, err := c.in.ReadString('\n')
	if err != nil {
		c.t.Fatal(err)
	}
	var n int64
	if _, err := fmt.Sscanf(line[strings.LastIndexByte(line, '{'):], "{%d}\r\n", &n); err != nil || n != want {
		c.t.Fatalf("%q: %v, want %d bytes", line, err, want)
	}
	if _, err := io.CopyN(h, c.in, n); err != nil {
		c.t.Fatal(err)
	}
	if line := c.line(); line != ")" {
		c.t.Fatal(line)
	}
	if _, tagged := c.until("h"); !strings.HasPrefix(tagged, "OK") {
		c.t.Fatal(tagged)
	}
}
