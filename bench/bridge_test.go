package bench_test

import (
	"bufio"
	"fmt"
	"net"
	"net/smtp"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/asmtp/asmtp/test/programs"
)

// BenchmarkBridge sends mails of 2 KB by SMTP to the bridge of a sender at one node and waits
// until IMAP shows them at the bridge of a recipient at another one, in a mesh of three. Beside
// it 2 KB are appended to a file and synced, in the same round: what a mail costs at the
// least at each of the five places that make it durable.
func BenchmarkBridge(b *testing.B) {
	for range b.N {
		w := newBridges(b)
		// First of all, while no mail waits to be indexed for searches.
		var alone, ratios []float64
		for range rounds {
			var ms []float64
			for range perRound {
				time.Sleep(100 * time.Millisecond) // nothing is on its way
				took, err := w.send(1, 1)
				if err != nil {
					b.Fatal(err)
				}
				ms = append(ms, float64(took)/1e6)
			}
			took, err := w.append(perRound)
			if err != nil {
				b.Fatal(err)
			}
			alone, ratios = append(alone, ms...), append(ratios, median(ms)/(float64(took)/1e6/perRound))
		}
		slices.Sort(alone)
		fmt.Printf("one mail alone: p50 %.1f ms, p99 %.1f ms; %s times append + fsync\n", alone[len(alone)/2], alone[len(alone)*99/100], spreadText(ratios, "%.0f"))
		disk := &contender{name: "append 2 KB + fsync", n: 500, do: w.append}
		one := &contender{name: "bridge to bridge, 1 connection", n: 200, do: func(n int) (time.Duration, error) { return w.send(n, 1) }}
		eight := &contender{name: "bridge to bridge, 8 connections", n: 400, do: func(n int) (time.Duration, error) { return w.send(n, 8) }}
		all := []*contender{disk, one, eight}
		takeTurns(b, all)
		table("mails of 2 KB, SMTP in, IMAP out", "mails/s", all, disk)
		b.ReportMetric(median(one.rate), "mails/s-1")
		b.ReportMetric(median(eight.rate), "mails/s-8")
		b.ReportMetric(alone[len(alone)/2], "p50-ms")
	}
}

// bridges are a sender's and a recipient's, with connections of mail programs.
type bridges struct {
	w    *programs.World
	out  []*smtp.Client
	in   net.Conn
	read *bufio.Reader
	file *os.File
	have int // mails in the recipient's inbox
}

func newBridges(b *testing.B) *bridges {
	w := &bridges{w: programs.New(b, "")}
	w.w.Mesh("n1", "n2", "n3")
	w.w.Person("alice", "n1")
	w.w.Person("bob", "n3")
	w.w.Acquaint("alice", "bob")
	w.w.Meet("alice", "bob")
	var err error
	if w.file, err = os.Create(w.w.Path("synced")); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { w.file.Close() })
	alice := w.w.Bridge(b, "alice")
	user, password := alice.Login(b, "bench")
	for range 8 {
		c, err := smtp.Dial(alice.SMTP)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { c.Close() })
		if err := c.Auth(smtp.PlainAuth("", user, password, "127.0.0.1")); err != nil {
			b.Fatal(err)
		}
		w.out = append(w.out, c)
	}
	bob := w.w.Bridge(b, "bob")
	user, password = bob.Login(b, "bench")
	if w.in, err = net.Dial("tcp", bob.IMAP); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { w.in.Close() })
	w.read = bufio.NewReader(w.in)
	if _, err := w.command(fmt.Sprintf("LOGIN %q %q", user, password)); err != nil {
		b.Fatal(err)
	}
	if w.have, err = w.count(); err != nil {
		b.Fatal(err)
	}
	return w
}

// append makes n times 2 KB durable.
func (w *bridges) append(n int) (time.Duration, error) {
	start := time.Now()
	for range n {
		if _, err := w.file.Write(make([]byte, 2048)); err != nil {
			return 0, err
		}
		if err := w.file.Sync(); err != nil {
			return 0, err
		}
	}
	return time.Since(start), nil
}

// send sends n mails over some connections and returns after how long the last is there.
func (w *bridges) send(n, connections int) (time.Duration, error) {
	text := strings.Repeat("a line of a letter that says very little and is here for its length\r\n", 2048/70)
	start := time.Now()
	var g errgroup.Group
	for i, c := range w.out[:connections] {
		g.Go(func() error {
			for k := i; k < n; k += connections {
				if err := letter(c, fmt.Sprintf("From: alice@asmtp\r\nTo: bob@asmtp\r\nSubject: mail %d\r\n\r\n%s", k, text)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return 0, err
	}
	for end := time.Now().Add(time.Minute); ; {
		have, err := w.count()
		if err != nil {
			return 0, err
		}
		if have >= w.have+n {
			w.have = have
			return time.Since(start), nil
		}
		if time.Now().After(end) {
			return 0, fmt.Errorf("%d of %d mails arrived within a minute", have-w.have, n)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func letter(c *smtp.Client, text string) error {
	if err := c.Mail("alice@asmtp"); err != nil {
		return err
	}
	if err := c.Rcpt("bob@asmtp"); err != nil {
		return err
	}
	in, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := in.Write([]byte(text)); err != nil {
		return err
	}
	return in.Close()
}

// count asks how many mails are in the inbox.
func (w *bridges) count() (int, error) {
	untagged, err := w.command("STATUS INBOX (MESSAGES)")
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(untagged, "(MESSAGES ")
	return strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(rest), ")"))
}

// command sends an IMAP command and returns its last untagged response.
func (w *bridges) command(text string) (untagged string, err error) {
	w.in.SetDeadline(time.Now().Add(time.Minute))
	if _, err := fmt.Fprintf(w.in, "a %s\r\n", text); err != nil {
		return "", err
	}
	for {
		line, err := w.read.ReadString('\n')
		switch {
		case err != nil:
			return "", err
		case strings.HasPrefix(line, "a OK"):
			return untagged, nil
		case strings.HasPrefix(line, "a "):
			return "", fmt.Errorf("%s: %s", text[:min(len(text), 10)], strings.TrimSpace(line))
		}
		untagged = line
	}
}
