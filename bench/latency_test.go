package bench_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/asmtp/asmtp/internal/clientapi"
	"github.com/asmtp/asmtp/internal/control"
	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/test/programs"
)

// perRound is how many mails, and how many of each of the costs, are timed in a round.
const perRound = 20

// BenchmarkDelivered times "asmtp-cli send --wait delivered" from the start of the process
// to its end, in a mesh of three real nodes with sender and recipient at different ones;
// the recipient follows. Beside it stand the costs that are in it: syncs and handshakes, of
// which strace counts how many there are for one mail, and the start of the process, all
// timed in the same round. What one waits for beyond that is the way over the mesh,
// twice, sealing and opening, and the SQL of four transactions.
func BenchmarkDelivered(b *testing.B) {
	for range b.N {
		d := newDelivery(b)
		syncs, handshakes := d.count(b)
		var all, medians, sums, ratios, syncTimes, shakeTimes, startTimes []float64
		for range rounds {
			mails := d.times(b, func() { d.send() })
			sync := median(d.times(b, d.sync))
			shake := max(0, median(d.times(b, d.shake))-2*sync) // without the syncs of the node's stamp
			start := median(d.times(b, func() { d.w.As("alice", "inbox") }))
			sum := syncs*sync + handshakes*shake + start
			all, medians, sums = append(all, mails...), append(medians, median(mails)), append(sums, sum)
			ratios = append(ratios, median(mails)/sum)
			syncTimes, shakeTimes, startTimes = append(syncTimes, sync), append(shakeTimes, shake), append(startTimes, start)
		}
		slices.Sort(all)
		p50, p99 := all[len(all)/2], all[len(all)*99/100]
		fmt.Printf("\nsend --wait delivered, mesh of three, %d mails: p50 %.1f ms, p99 %.1f ms, smallest %.1f, largest %.1f\n", len(all), p50, p99, all[0], all[len(all)-1])
		fmt.Printf("for a mail %.1f syncs of %s ms, %.1f handshakes of %s ms, a process with its account %s ms\n",
			syncs, spreadText(syncTimes, "%.2f"), handshakes, spreadText(shakeTimes, "%.2f"), spreadText(startTimes, "%.1f"))
		fmt.Printf("median of a round %s ms, sum of these costs %s ms, ratio %s\n", spreadText(medians, "%.1f"), spreadText(sums, "%.1f"), spreadText(ratios, "%.2f"))
		b.ReportMetric(p50, "p50-ms")
		b.ReportMetric(p99, "p99-ms")
		m, _, _ := spread(ratios)
		b.ReportMetric(m, "cost-ratio")
	}
}

// delivery is a mesh with a sender and a recipient who follows.
type delivery struct {
	w        *programs.World
	follower *exec.Cmd
	file     *os.File
	key      *noise.PrivateKey // of a further device that may use the sender's node
	node     noise.PublicKey
	b        *testing.B
}

func newDelivery(b *testing.B) *delivery {
	d := &delivery{w: programs.New(b, ""), b: b}
	d.w.Mesh("n1", "n2", "n3")
	d.w.Person("alice", "n1")
	d.w.Person("bob", "n3")
	d.w.Acquaint("alice", "bob")
	d.w.Meet("alice", "bob")
	ctx, stop := context.WithCancel(context.Background())
	d.follower = d.w.Command(ctx, "asmtp-cli", "--home", d.w.Path("bob"), "sync", "--follow")
	if err := d.follower.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		stop()
		_ = d.follower.Wait() // it was killed
	})
	var err error
	if d.file, err = os.Create(d.w.Path("synced")); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { d.file.Close() })
	if d.key, err = noise.GenerateKey(nil); err != nil {
		b.Fatal(err)
	}
	c, err := control.Dial(d.w.Path("n1"))
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	status, err := c.Status(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	d.node = status.ID
	if _, err := c.UserAdd(b.Context(), control.UserName(d.key.Public().String())); err != nil {
		b.Fatal(err)
	}
	d.send() // the first one takes longer
	return d
}

// times does something perRound times and returns how many milliseconds each took.
func (d *delivery) times(b *testing.B, do func()) (ms []float64) {
	b.Helper()
	for range perRound {
		start := time.Now()
		do()
		ms = append(ms, float64(time.Since(start))/1e6)
	}
	return ms
}

func median(v []float64) float64 {
	m, _, _ := spread(v)
	return m
}

func (d *delivery) send() {
	d.b.Helper()
	mail := d.w.As("alice", "send", "--to", "bob", "--subject", "x", "--wait", "delivered", "--timeout", "60s")
	if mail[0].State != "delivered" {
		d.b.Fatalf("the mail is %s", mail[0].State)
	}
}

// sync makes 4 KiB durable.
func (d *delivery) sync() {
	_, err := d.file.Write(make([]byte, 4096))
	if err := errors.Join(err, d.file.Sync()); err != nil {
		d.b.Fatal(err)
	}
}

// shake connects with the sender's node as its device does.
func (d *delivery) shake() {
	c, err := clientapi.Dial(d.b.Context(), d.w.Nodes["n1"].Listen, d.node, d.key, new(stamps))
	if err != nil {
		d.b.Fatal(err)
	}
	c.Close()
}

// count counts syncs and connections for a mail: in the sender's command, both nodes on
// the way, and the recipient's command. The third node is not waited for.
func (d *delivery) count(b *testing.B) (syncs, handshakes float64) {
	b.Helper()
	strace, err := exec.LookPath("strace")
	if err != nil {
		b.Skip("nothing to count syncs with: ", err)
	}
	const mails = 10
	var traces []string
	var stops []func()
	for i, pid := range []int{d.w.Nodes["n1"].Cmd.Process.Pid, d.w.Nodes["n3"].Cmd.Process.Pid, d.follower.Process.Pid} {
		trace := d.w.Path("trace" + strconv.Itoa(i))
		traces, stops = append(traces, trace), append(stops, attach(b, pid, trace))
	}
	for i := range mails {
		trace := d.w.Path("trace-send" + strconv.Itoa(i))
		traces = append(traces, trace)
		cmd := d.w.Command(b.Context(), "asmtp-cli", "--home", d.w.Path("alice"), "send", "--to", "bob", "--wait", "delivered", "--timeout", "60s")
		cmd.Args = append([]string{"strace", "-f", "-qq", "-e", calls, "-o", trace, cmd.Path}, cmd.Args[1:]...)
		cmd.Path = strace
		cmd.Stdin = strings.NewReader("x")
		if out, err := cmd.CombinedOutput(); err != nil {
			b.Fatalf("%v: %v\n%s", cmd.Args, err, out)
		}
	}
	for _, stop := range stops {
		stop()
	}
	for _, trace := range traces {
		text, err := os.ReadFile(trace)
		if err != nil {
			b.Fatal(err)
		}
		for line := range bytes.Lines(text) {
			switch {
			case bytes.Contains(line, []byte("resumed>")):
			case bytes.Contains(line, []byte("sync(")):
				syncs++
			case bytes.Contains(line, []byte("connect(")) && bytes.Contains(line, []byte("AF_INET")):
				handshakes++
			}
		}
	}
	return syncs / mails, handshakes / mails
}

// calls are the system calls that are counted.
const calls = "trace=fsync,fdatasync,msync,connect"

// attach traces a running process until stop is called.
func attach(b *testing.B, pid int, trace string) (stop func()) {
	b.Helper()
	cmd := exec.Command("strace", "-f", "-e", calls, "-o", trace, "-p", strconv.Itoa(pid))
	said, err := cmd.StderrPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	attached, ended := make(chan bool, 1), make(chan struct{})
	go func() {
		defer close(ended)
		for s := bufio.NewScanner(said); s.Scan(); {
			select {
			case attached <- strings.Contains(s.Text(), "attached"):
			default:
			}
		}
	}()
	stop = func() {
		_ = cmd.Process.Signal(os.Interrupt) // it detaches; it may have ended
		<-ended
		_ = cmd.Wait() // it was interrupted
	}
	b.Cleanup(stop)
	select {
	case ok := <-attached:
		if !ok {
			b.Skip("strace may not attach")
		}
	case <-ended:
		b.Skip("strace may not attach")
	}
	return stop
}
