package bridge

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
)

// fillFolder files n messages of some 2 KB.
func fillFolder(b testing.TB, c *imapClient, n int) {
	text := strings.Repeat("some words of a line that nobody reads\r\n", 45)
	for i := range n {
		c.append("INBOX", "", fmt.Sprintf("From: Alice <alice@asmtp>\r\nTo: bob@asmtp\r\nSubject: mail %d\r\nDate: Thu, 05 Feb 2026 10:00:00 +0000\r\nMessage-ID: <%d@bench>\r\n\r\n%s", i, i, text))
	}
}

// BenchmarkFetchAll reads a whole folder of 2 KB mails; one operation is one mail.
func BenchmarkFetchAll(b *testing.B) {
	for _, items := range []string{"(UID BODY.PEEK[])", "(UID FLAGS)", "(UID FLAGS ENVELOPE)", "(UID FLAGS BODYSTRUCTURE)", "BODY.PEEK[HEADER.FIELDS (FROM SUBJECT DATE)]"} {
		b.Run(items, func(b *testing.B) {
			e := newIMAPEnv(b, nil)
			c := e.login()
			const n = 5000
			fillFolder(b, c, n)
			c.ok("SELECT INBOX")
			b.ReportAllocs()
			b.ResetTimer()
			for done := 0; done < b.N; done += n {
				c.send("f FETCH 1:* " + items + "\r\n")
				readUntil(b, c.in, []byte("f OK "))
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "mails/s")
		})
	}
}

// readUntil reads to the line that begins so, as fast as it can.
func readUntil(b testing.TB, in io.Reader, end []byte) {
	buf := make([]byte, 256<<10)
	kept := 0
	for {
		n, err := in.Read(buf[kept:])
		if err != nil {
			b.Fatal(err)
		}
		kept += n
		if i := bytes.LastIndex(buf[:kept], end); i >= 0 && bytes.HasSuffix(buf[:kept], []byte("\r\n")) && i > kept-64 {
			return
		}
		keep := min(kept, 64)
		copy(buf, buf[kept-keep:kept])
		kept = keep
	}
}

// BenchmarkPoll is what a program costs that asks every few milliseconds: NOOP and
// UID FETCH of what is new, which always means the newest message.
func BenchmarkPoll(b *testing.B) {
	e := newIMAPEnv(b, nil)
	c := e.login()
	fillFolder(b, c, 2000)
	c.ok("SELECT INBOX")
	b.ResetTimer()
	for range b.N {
		c.ok("NOOP")
		if got := c.ok("UID FETCH 2001:* (UID BODY.PEEK[])"); len(got) != 1 {
			b.Fatal(got)
		}
	}
}

// BenchmarkIdleConnection reports what an idle connection with a selected folder costs.
func BenchmarkIdleConnection(b *testing.B) {
	e := newIMAPEnv(b, nil)
	fillFolder(b, e.login(), 100)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	const n = maxAccountConns - 1
	for range n {
		c := e.login()
		c.ok("SELECT INBOX")
		c.send("i IDLE\r\n")
		c.line()
		c.in = nil // the buffer is the test's
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.HeapAlloc+after.StackInuse-before.HeapAlloc-before.StackInuse)/n, "B/connection")
}

// BenchmarkAppend files mails of 2 KB as programs do: in one piece, or as Python's imaplib
// does, which waits to be asked for the literal and writes the end of the command on its own.
// On Linux neither takes much longer than the other; without acknowledge the second one
// takes 40 ms more.
func BenchmarkAppend(b *testing.B) {
	msg := "Subject: a mail\r\n\r\n" + strings.Repeat("some words of a line that nobody reads\r\n", 50)
	b.Run("at once", func(b *testing.B) {
		c := newIMAPEnv(b, nil).login()
		for b.Loop() {
			c.append("INBOX", "", msg)
		}
	})
	b.Run("in pieces", func(b *testing.B) {
		c := newIMAPEnv(b, nil).login()
		if err := c.conn.(*net.TCPConn).SetNoDelay(false); err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			c.send(fmt.Sprintf("a APPEND INBOX () {%d}\r\n", len(msg)))
			if got := c.line(); !strings.HasPrefix(got, "+") {
				b.Fatal(got)
			}
			c.send(msg)
			c.send("\r\n")
			if got := c.line(); !strings.HasPrefix(got, "a OK") {
				b.Fatal(got)
			}
		}
	})
}
