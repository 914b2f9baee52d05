package chaos

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"sort"
	"syscall"
	"time"

	"github.com/asmtp/asmtp/internal/control"
	"github.com/asmtp/asmtp/test/chaos/proxy"
)

// deferred is something that ends a fault.
type deferred struct {
	at time.Duration
	do func()
}

// after has the event loop do something later, or at the end of the chaos.
func (r *run) after(d time.Duration, do func()) {
	r.later = append(r.later, deferred{r.now() + d, do})
	sort.SliceStable(r.later, func(i, j int) bool { return r.later[i].at < r.later[j].at })
}

// events breaks things until the duration is over or a violation was found.
func (r *run) events(ctx context.Context) error {
	every := 60 * time.Second
	if r.Break != "" || r.Duration < 2*time.Minute {
		every = 15 * time.Second
	}
	end, checkpoint := r.began+r.Duration, r.began+every/2
	next := r.now() + time.Second
	for r.now() < end {
		wake := next
		if len(r.later) > 0 {
			wake = min(wake, r.later[0].at)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-r.found:
			return nil
		case <-time.After(max(0, wake-r.now())):
		}
		for len(r.later) > 0 && r.later[0].at <= r.now() {
			do := r.later[0].do
			r.later = r.later[1:]
			do()
		}
		if r.now() >= next {
			if r.now() >= checkpoint {
				if err := r.checkpoint(ctx); err != nil {
					return err
				}
				checkpoint = r.now() + every + time.Duration(r.rand.IntN(int(every/2)))
			}
			r.event(ctx)
			next = r.now() + time.Duration(300+r.rand.IntN(2200))*time.Millisecond
		}
	}
	return nil
}

// event does one of the things that can be done to the world.
func (r *run) event(ctx context.Context) {
	kinds := []struct {
		weight int
		do     func()
	}{
		{20, r.killNode}, {8, func() { r.termNode() }}, {2, r.killAll}, {5, r.partition}, {8, r.cutLink}, {8, r.slowLink},
		{5, r.resetNode}, {5, r.cutClients}, {6, r.skewOne}, {5, r.jump}, {12, r.killFollower}, {4, func() { r.replay(ctx) }},
		{3, r.backUp}, {4, func() { r.putBack(ctx) }}, {5, r.fillDisk},
	}
	sum := 0
	for _, k := range kinds {
		sum += k.weight
	}
	at := r.rand.IntN(sum)
	for _, k := range kinds {
		if at -= k.weight; at < 0 {
			k.do()
			return
		}
	}
}

func (r *run) anyNode() *node       { return r.nodes[r.rand.IntN(len(r.nodes))] }
func (r *run) anyAccount() *account { return r.accounts[r.rand.IntN(len(r.accounts))] }

// twoNodes draws two that are not the same.
func (r *run) twoNodes() (a, b *node) {
	i := r.rand.IntN(len(r.nodes))
	return r.nodes[i], r.nodes[(i+1+r.rand.IntN(len(r.nodes)-1))%len(r.nodes)]
}

// longest is how long a fault may last.
func (r *run) longest() time.Duration { return min(2*time.Minute, r.Duration/6) }

// span draws how long a fault lasts: mostly short.
func (r *run) span() time.Duration {
	switch r.rand.IntN(10) {
	case 0:
		return r.between(r.longest()/4, r.longest())
	case 1, 2, 3:
		return r.between(3*time.Second, 15*time.Second)
	}
	return r.between(100*time.Millisecond, 3*time.Second)
}

func (r *run) between(a, b time.Duration) time.Duration {
	return a + time.Duration(r.rand.Int64N(int64(max(1, b-a))))
}

// restart starts a node that was ended.
func (r *run) restart(n *node) {
	if err := n.starting(); err != nil {
		r.fault("harness", "start %s: %v", n.name, err)
	}
}

func (r *run) killNode() {
	n := r.anyNode()
	if n.pid() == 0 {
		return
	}
	n.kill()
	down := r.span()
	r.note("SIGKILL %s, down for %v", n.name, down)
	r.counts.add("nodes killed", 1)
	r.after(down, func() { r.restart(n) })
}

func (r *run) termNode() {
	n := r.anyNode()
	if n.pid() == 0 {
		return
	}
	r.note("SIGTERM %s", n.name)
	n.term()
	r.counts.add("nodes stopped", 1)
	r.after(r.between(0, 2*time.Second), func() { r.restart(n) })
}

func (r *run) killAll() {
	r.note("SIGKILL all nodes")
	r.stopAll(syscall.SIGKILL)
	r.counts.add("whole mesh killed", 1)
	for _, n := range r.nodes {
		r.after(r.between(0, 4*time.Second), func() { r.restart(n) })
	}
}

// stopAll ends all nodes at the same time.
func (r *run) stopAll(s syscall.Signal) {
	done := make(chan struct{})
	for _, n := range r.nodes {
		go func() {
			if s == syscall.SIGKILL {
				n.kill()
			} else {
				n.term()
			}
			done <- struct{}{}
		}()
	}
	for range r.nodes {
		<-done
	}
}

// partition cuts the mesh in two.
func (r *run) partition() {
	order := r.rand.Perm(len(r.nodes))
	cut := 1 + r.rand.IntN(len(r.nodes)-1)
	lasts := r.between(r.longest()/8, r.longest())
	r.note("partition of %d and %d nodes for %v", cut, len(r.nodes)-cut, lasts)
	r.counts.add("partitions", 1)
	for _, i := range order[:cut] {
		for _, j := range order[cut:] {
			r.link(r.nodes[i].name, r.nodes[j].name, proxy.Link{Cut: true}, lasts)
			r.link(r.nodes[j].name, r.nodes[i].name, proxy.Link{Cut: true}, lasts)
		}
	}
}

// link breaks a link for a while.
func (r *run) link(from, to string, l proxy.Link, lasts time.Duration) {
	r.proxies.Set(from, to, l)
	r.after(lasts, func() { r.proxies.Set(from, to, proxy.Link{}) })
}

func (r *run) cutLink() {
	a, b := r.twoNodes()
	lasts := 3 * r.span()
	r.note("%s to %s cut for %v", a.name, b.name, lasts)
	r.counts.add("links cut in one direction", 1)
	r.link(a.name, b.name, proxy.Link{Cut: true}, lasts)
}

func (r *run) slowLink() {
	a, b := r.twoNodes()
	l := proxy.Link{Delay: r.between(10*time.Millisecond, 800*time.Millisecond)}
	if r.rand.IntN(2) == 0 {
		l = proxy.Link{Rate: 2000 + r.rand.IntN(50_000)}
	}
	lasts := 5 * r.span()
	r.note("%s to %s %+v for %v", a.name, b.name, l, lasts)
	r.counts.add("links slowed", 1)
	r.link(a.name, b.name, l, lasts)
}

func (r *run) resetNode() {
	n := r.anyNode()
	k := r.proxies.Reset(func(from, to string) bool { return from == n.name || to == n.name })
	r.note("%d connections of %s reset", k, n.name)
	r.counts.add("connections reset", k)
}

func (r *run) cutClients() {
	n := r.anyNode()
	from, to := clients, n.name
	if r.rand.IntN(2) == 0 {
		from, to = to, from
	}
	lasts := 2 * r.span()
	r.note("%s to %s cut for %v", from, to, lasts)
	r.counts.add("links of clients cut", 1)
	r.link(from, to, proxy.Link{Cut: true}, lasts)
}

func (r *run) skewOne() {
	name := r.anyNode().name
	if r.rand.IntN(2) == 0 {
		name = r.anyAccount().name
	}
	skew := r.between(-2*time.Hour, 2*time.Hour)
	if r.rand.IntN(3) == 0 {
		skew = 0
	}
	r.note("clock of %s off by %v", name, skew)
	r.counts.add("clocks skewed", 1)
	for _, a := range r.accounts {
		if a.name == name { // not while a mail is written: its end is known from its beginning
			a.clock.Lock()
			defer a.clock.Unlock()
		}
	}
	if err := r.clocks.set(name, skew); err != nil {
		r.fault("harness", "%v", err)
	}
}

// jump moves the world forward, less if it has come far already.
func (r *run) jump() {
	by := r.between(time.Minute, 3*time.Hour)
	if r.rand.IntN(8) == 0 {
		by = r.between(6*time.Hour, 18*time.Hour)
	}
	if most := 20 * 24 * time.Hour; r.clocks.advanced() > most {
		by = r.between(time.Minute, 10*time.Minute)
	}
	r.note("the world jumps %v forward", by)
	r.counts.add("clock jumps", 1)
	if err := r.clocks.jump(by); err != nil {
		r.fault("harness", "%v", err)
	}
}

func (r *run) killFollower() {
	a := r.anyAccount()
	s := syscall.SIGKILL
	if r.rand.IntN(4) == 0 {
		s = syscall.SIGTERM
	}
	if a.endFollow(s) {
		r.note("%v to the follower of %s", s, a.name)
		r.counts.add("followers killed", 1)
	}
}

// replay sends a first flight that was answered before to the node once more: no answer.
func (r *run) replay(ctx context.Context) {
	random := rand.New(rand.NewPCG(r.rand.Uint64(), 0))
	r.people.Go(func() {
		r.replays.RLock()
		defer r.replays.RUnlock()
		f, ok := r.proxies.Flight(random)
		for _, n := range r.nodes {
			if ok && n.name == f.To && n.pid() != 0 {
				r.counts.add("first flights replayed", 1)
				r.replayOne(ctx, n, f)
			}
		}
	})
}

func (r *run) replayOne(ctx context.Context, n *node, f proxy.Flight) {
	c, err := net.DialTimeout("tcp4", n.listen, 5*time.Second)
	if err != nil {
		return // it went down
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	if _, err := c.Write(f.Bytes); err != nil {
		return
	}
	_ = c.SetReadDeadline(time.Now().Add(12 * time.Second))
	got, _ := io.ReadAll(io.LimitReader(c, 4096))
	if len(got) > 0 {
		r.fault("replay answered", "%s answered %d bytes to a first flight of %s (version %d) that it had answered before", n.name, len(got), f.From, f.Bytes[0])
	}
}

// alone calls f while nothing uses the folder of an account, in a goroutine of its own
// since commands that are under way may take a while.
func (r *run) alone(a *account, f func()) {
	r.people.Go(func() {
		for !a.folder.TryLock() {
			a.endFollow(syscall.SIGKILL)
			select {
			case <-r.quit:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
		defer a.folder.Unlock()
		f()
	})
}

// careless draws one of the accounts that are put back to backups: every third, since what
// such a client said before says little of what its next life knows.
func (r *run) careless() *account { return r.accounts[3*r.rand.IntN((len(r.accounts)+2)/3)] }

// backUp copies an account's folder.
func (r *run) backUp() {
	a := r.careless()
	r.alone(a, func() {
		to := filepath.Join(r.dir, a.name+".backup")
		if err := copyDir(a.home, to); err != nil {
			r.fault("harness", "copy %s: %v", a.name, err)
			return
		}
		a.backup = to
		r.note("backup of %s", a.name)
	})
}

// putBack puts an account back to its backup. Its nodes are told, as the manual says for
// a device whose state went back.
func (r *run) putBack(ctx context.Context) {
	a := r.careless()
	r.alone(a, func() {
		if a.backup == "" {
			return
		}
		if err := copyDir(a.backup, a.home); err != nil {
			r.fault("harness", "restore %s: %v", a.name, err)
			return
		}
		a.mu.Lock()
		a.lineage++
		clear(a.queue)
		clear(a.parts)
		a.mu.Unlock()
		r.note("%s is put back to its backup: life %d", a.name, a.lineage)
		r.counts.add("old backups restored", 1)
		for _, n := range a.nodes {
			r.people.Go(func() { r.resetStamps(ctx, a, n) })
		}
	})
}

// resetStamps has a node forget the stamps of an account's key, as soon as the node runs.
// From then on it may answer what it answered before.
func (r *run) resetStamps(ctx context.Context, a *account, n *node) {
	r.replays.Lock()
	defer r.replays.Unlock()
	defer r.proxies.ForgetFlights(func(from, to string) bool { return from == clients && to == n.name })
	for {
		err := n.control(ctx, func(ctx context.Context, c *control.Client) error { return c.UserReset(ctx, a.key) })
		if err == nil || ctx.Err() != nil {
			return
		}
		select {
		case <-r.settled: // all nodes run then, so it was done
			return
		case <-time.After(300 * time.Millisecond):
		}
	}
}

// fillDisk fills a small disk for a while.
func (r *run) fillDisk() {
	for _, i := range r.rand.Perm(len(r.nodes)) {
		n := r.nodes[i]
		if n.disk == nil || n.disk.isFull() {
			continue
		}
		leave := r.between(1<<20, diskReserve)
		if err := n.disk.fill(int64(leave)); err != nil {
			r.note("fill the disk of %s: %v", n.name, err)
		}
		lasts := r.between(r.longest()/4, r.longest())
		r.note("the disk of %s is full but for %d bytes, for %v", n.name, int64(leave), lasts)
		r.counts.add("disks filled", 1)
		r.after(lasts, func() {
			n.disk.free()
			r.restart(n)
		})
		return
	}
}
