package large

import (
	"bytes"
	"context"
	crand "crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/asmtp/asmtp/test/chaos/proxy"
	"github.com/asmtp/asmtp/test/programs"
)

// attached is the size of an attachment that makes, as base64, a mail of nearly 50 MiB, the
// largest there may be.
const attached = 36 << 20

// hops are the three ways that a mail goes, each through a proxy that counts and cuts.
type hops struct {
	*programs.World
	t                *testing.T
	out, between, in *proxy.Net
	clientPeak       map[string]int64 // bytes, by command
}

// newHops makes alice at n1 and bob at n2.
func newHops(t *testing.T) *hops {
	h := &hops{World: programs.New(t, ""), t: t, clientPeak: map[string]int64{}}
	for _, n := range []**proxy.Net{&h.out, &h.between, &h.in} {
		*n = proxy.New(func(_, _ *net.TCPAddr) string { return "" })
		t.Cleanup((*n).Close)
	}
	listen := func(n *proxy.Net, node string) string {
		address, err := n.Listen(node, h.Node(node).Listen)
		if err != nil {
			t.Fatal(err)
		}
		return address
	}
	h.Start("n1", "--public-address", listen(h.between, "n1"))
	line := h.Run("asmtpd", "mesh", "invite", "--data", h.Path("n1"))
	h.Start("n2", "--public-address", listen(h.between, "n2"), "--join", strings.TrimSpace(line))
	h.Connected("n1", 1)
	h.person("alice", "n1", listen(h.out, "n1"))
	h.person("bob", "n2", listen(h.in, "n2"))
	h.Acquaint("alice", "bob")
	h.Meet("alice", "bob")
	return h
}

// person is [programs.World.Person] with an address of the node that is a proxy's.
func (h *hops) person(name, node, address string) {
	h.t.Helper()
	h.Person(name, node)
	id := h.status(node).ID
	h.As(name, "connect", "--remote-address", address, "--remote-id", id)
}

type status struct {
	ID        string `json:"id"`
	Envelopes int    `json:"envelopes"`
}

func (h *hops) status(node string) (s status) {
	h.t.Helper()
	if err := json.Unmarshal([]byte(h.Run("asmtpd", "status", "--json", "--data", h.Path(node))), &s); err != nil {
		h.t.Fatal(err)
	}
	return s
}

// client runs asmtp-cli and notes how much memory it took.
func (h *hops) client(name string, args ...string) (string, error) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := h.Command(ctx, "asmtp-cli", append([]string{"--home", h.Path(name), "--json"}, args...)...)
	out, err := cmd.Output()
	if cmd.ProcessState != nil {
		peak := cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss << 10
		h.clientPeak[args[0]] = max(h.clientPeak[args[0]], peak)
	}
	return string(out), err
}

// file writes random bytes, which nothing makes smaller. They are never in memory as a whole:
// what the kernel tells of a program that was run begins with what its parent takes.
func (h *hops) file(size int64) (path string, sum []byte) {
	h.t.Helper()
	path = h.Path("attachment.bin")
	f, err := os.Create(path)
	if err != nil {
		h.t.Fatal(err)
	}
	defer f.Close()
	hash := sha256.New()
	if _, err := io.CopyN(io.MultiWriter(f, hash), crand.Reader, size); err != nil {
		h.t.Fatal(err)
	}
	return path, hash.Sum(nil)
}

// deliver sends a file from alice to bob, who takes it in when all of it is at his node, and
// returns what each hop carried.
func (h *hops) deliver(path, subject string) (carried [3]int64) {
	h.t.Helper()
	nets := [3]*proxy.Net{h.out, h.between, h.in}
	for i, n := range nets {
		carried[i] = -n.Carried()
	}
	had := h.status("n2").Envelopes
	out, _ := h.client("alice", "send", "--to", "bob", "--subject", subject, "--attach", path) // queued, if it is cut
	id := programs.Parse(h.t, out)[0].ID
	h.Await("n1 has the mail", func() bool {
		if h.As("alice", "status", id)[0].State != "queued" {
			return true
		}
		h.client("alice", "sync")
		return false
	})
	h.Await("n2 has what n1 has", func() bool {
		has := h.status("n2").Envelopes
		return has > had && has == h.status("n1").Envelopes
	})
	h.Await("the mail is there", func() bool {
		out, _ := h.client("bob", "sync") // a cut connection is an error, and the next one goes on
		return strings.Contains(out, subject)
	})
	for i, n := range nets {
		carried[i] += n.Carried()
	}
	return carried
}

// checkSaved saves the newest attachment that bob got and compares it.
func (h *hops) checkSaved(subject string, want []byte) {
	h.t.Helper()
	for _, l := range h.As("bob", "inbox", "--all") {
		if l.Subject != subject {
			continue
		}
		dir := h.Path("saved")
		if out, err := h.client("bob", "read", l.ID, "--save-attachments", dir); err != nil {
			h.t.Fatalf("read: %v\n%s", err, out)
		}
		f, err := os.Open(filepath.Join(dir, "attachment.bin"))
		if err != nil {
			h.t.Fatal(err)
		}
		defer f.Close()
		got := sha256.New()
		if _, err := io.Copy(got, f); err != nil {
			h.t.Fatal(err)
		}
		if !bytes.Equal(got.Sum(nil), want) {
			h.t.Error("the attachment is another than the one that was sent")
		}
		return
	}
	h.t.Errorf("no mail %q", subject)
}

// A mail of the largest size to somebody who is away, cut in the middle of each of its three
// hops, arrives; no hop carries it again, and no process needs much memory for it.
func TestLargestMailCutAtEveryHop(t *testing.T) {
	if testing.Short() {
		t.Skip("starts whole nodes")
	}
	h := newHops(t)
	m := newMeter(t, h.World)
	path, _ := h.file(1000)
	h.deliver(path, "small")
	clients, nodes := h.clientPeak, m.peaks()
	h.clientPeak = map[string]int64{}

	path, sum := h.file(attached)
	for _, n := range []*proxy.Net{h.out, h.between, h.in} {
		n.ResetAt(n.Carried() + attached/2)
	}
	began := time.Now()
	carried := h.deliver(path, "large")
	t.Logf("took %.1f s", time.Since(began).Seconds())
	for i, name := range []string{"alice to n1", "n1 to n2", "n2 to bob"} {
		t.Logf("%s: %.3f times the attachment", name, float64(carried[i])/attached)
		if carried[i] > attached*110/100 {
			t.Errorf("%s carried %d bytes for an attachment of %d", name, carried[i], attached)
		}
	}
	h.checkSaved("large", sum)
	m.check(nodes, m.peaks())
	for name, peak := range h.clientPeak {
		checkMemory(t, name, peak-clients["sync"])
	}
}

// maxMore is what a mail of the largest size may add to the memory of a process.
const maxMore = 64 << 20

func checkMemory(t *testing.T, name string, more int64) {
	t.Helper()
	t.Logf("%s: %d MiB more", name, more>>20)
	if more > maxMore {
		t.Errorf("%s took %d MiB more", name, more>>20)
	}
}
