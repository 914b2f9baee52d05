package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/asmtp/asmtp/internal/control"
	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/test/chaos/proxy"
)

func ownerOr(local, remote *net.TCPAddr, pids map[int]string, other string) string {
	if name := proxy.Owner(local, remote, pids); name != "" {
		return name
	}
	return other
}

// makeWorld starts the nodes, makes the mesh, the accounts and their contacts.
func (r *run) makeWorld(ctx context.Context) error {
	if err := r.makeMesh(ctx); err != nil {
		return err
	}
	for i := range r.Accounts {
		if err := r.makeAccount(ctx, i); err != nil {
			return err
		}
	}
	return r.makeContacts()
}

// narrow gives some nodes small quotas and a reserve that fits their disks.
func (r *run) narrow(ctx context.Context) error {
	r.nodes[2].quota = true
	for _, n := range r.nodes {
		if n.disk == nil && !n.quota {
			continue
		}
		n.term()
		if err := n.narrow("6MiB", "6MiB"); err != nil {
			return err
		}
		if err := n.starting(); err != nil {
			return err
		}
	}
	return r.whole(ctx)
}

// makeMesh starts the founder, has it invite, and lets the others join through proxies.
func (r *run) makeMesh(ctx context.Context) error {
	// All are there before the first proxy listens: proxies look up whose a connection is.
	for i := range r.Nodes {
		r.nodes = append(r.nodes, r.newNode(i))
	}
	for i, n := range r.nodes {
		if err := n.place(i); err != nil {
			return err
		}
	}
	line := ""
	founder := r.nodes[0]
	if err := founder.join(ctx, ""); err != nil {
		return err
	}
	err := founder.control(ctx, func(ctx context.Context, c *control.Client) (err error) {
		line, err = c.MeshInvite(ctx, control.Invite{Uses: r.Nodes, Days: 30})
		return err
	})
	if err != nil {
		return err
	}
	g, joining := errgroup.WithContext(ctx)
	for _, n := range r.nodes[1:] {
		g.Go(func() error { return n.join(joining, line) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if err := r.whole(ctx); err != nil {
		return err
	}
	return r.narrow(ctx)
}

// newNode gives a node its name and its files.
func (r *run) newNode(i int) *node {
	name := fmt.Sprintf("n%d", i+1)
	return &node{r: r, name: name, data: filepath.Join(r.dir, name), logFile: filepath.Join(r.dir, name+".log")}
}

// place gives a node its addresses, its clock and maybe a small disk.
func (n *node) place(i int) (err error) {
	r := n.r
	if err := r.clocks.set(n.name, 0); err != nil {
		return err
	}
	if n.listen, err = r.freeAddress(); err != nil {
		return err
	}
	if n.public, err = r.proxies.Listen(n.name, n.listen); err != nil {
		return err
	}
	return r.maybeSmallDisk(n, i)
}

// join starts a node for the first time and waits until it is in its mesh, that of line
// or one of its own.
func (n *node) join(ctx context.Context, line string) error {
	args := []string{"--listen", n.listen, "--public-address", n.public}
	if line != "" {
		args = append(args, "--join", line)
	}
	if err := n.starting(args...); err != nil {
		return err
	}
	return n.until(ctx, 2*time.Minute, func(s *control.Status) bool {
		n.key = s.ID
		return line == "" || s.Members > 1
	})
}

// whole waits until every node is connected to every other.
func (r *run) whole(ctx context.Context) error {
	for _, n := range r.nodes {
		if err := n.until(ctx, 3*time.Minute, func(s *control.Status) bool { return connected(s) >= len(r.nodes)-1 }); err != nil {
			return err
		}
	}
	return nil
}

// freeAddress finds a port below those that the kernel gives to diallers, so that it stays free
// while its node is down.
func (r *run) freeAddress() (string, error) {
	for range 1000 {
		address := fmt.Sprintf("127.0.0.1:%d", 12000+r.rand.IntN(18000))
		if slices.ContainsFunc(r.nodes, func(n *node) bool { return n.listen == address }) {
			continue
		}
		l, err := net.Listen("tcp4", address)
		if err == nil {
			return address, l.Close()
		}
	}
	return "", fmt.Errorf("no port is free")
}

// makeAccount makes an account at one node or, if the client can do that, at two.
func (r *run) makeAccount(ctx context.Context, i int) error {
	a := &account{r: r, name: fmt.Sprintf("a%d", i+1), queue: map[string]bool{}, parts: map[string][]string{}}
	a.home = filepath.Join(r.dir, a.name)
	if err := r.clocks.set(a.name, 0); err != nil {
		return err
	}
	r.accounts = append(r.accounts, a)
	out, err := a.must("init", "--name", a.name, "--no-passphrase")
	if err != nil {
		return err
	}
	var id struct{ Passport, Key string }
	if err := json.Unmarshal(out, &id); err != nil {
		return err
	}
	if a.key, err = noise.ParsePublicKey(id.Key); err != nil {
		return err
	}
	a.nodes = []*node{r.nodes[i%len(r.nodes)]}
	if i%3 == 1 && r.severalNodes() {
		a.nodes = append(a.nodes, r.nodes[(i+1+r.rand.IntN(len(r.nodes)-1))%len(r.nodes)])
	}
	for _, n := range a.nodes {
		err := n.control(ctx, func(ctx context.Context, c *control.Client) error {
			_, err := c.UserAdd(ctx, control.KeyName(a.key))
			return err
		})
		if err != nil {
			return err
		}
		if _, err := a.must("connect", "--remote-address", n.public, "--remote-id", n.key.String()); err != nil {
			return err
		}
	}
	_, err = a.must("passport", "export", a.exported())
	return err
}

// severalNodes reports whether this client knows more than one node.
func (r *run) severalNodes() bool {
	res := r.command(r.accounts[0].name, "asmtp-cli", nil, patience, "help", "node")
	return strings.Contains(string(res.out), "asmtp-cli node remove") || strings.Contains(string(res.out), "node list")
}

// makeContacts gives each account some contacts, both ways.
func (r *run) makeContacts() error {
	var list [][2]*account
	for i, a := range r.accounts {
		for k := 1; k <= 2; k++ { // a ring and its chords: everybody has four
			list = append(list, [2]*account{a, r.accounts[(i+k)%len(r.accounts)]})
		}
	}
	for _, p := range list {
		for _, d := range [][2]*account{p, {p[1], p[0]}} {
			a, b := d[0], d[1]
			if _, err := a.must("contact", "add", b.name, b.exported()); err != nil {
				return err
			}
			a.contacts = append(a.contacts, b.name)
		}
	}
	return nil
}

func (a *account) exported() string { return filepath.Join(a.r.dir, a.name+".passport") }

// live starts what people and probes do, until the run ends.
func (r *run) live() {
	for _, a := range r.accounts {
		r.people.Go(a.keepFollowing)
		r.people.Go(a.watch)
	}
	for i := range senders {
		r.people.Go(func() { r.keepSending(uint64(i)) })
	}
	for i, n := range r.nodes {
		r.people.Go(func() { r.probe(n, uint64(i)) })
	}
}

// copyDir copies a folder of an account of which no process is running.
func copyDir(from, to string) error {
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	return os.CopyFS(to, os.DirFS(from))
}
