package account_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/asmtp/asmtp/internal/account"
	"github.com/asmtp/asmtp/internal/clientapi"
	"github.com/asmtp/asmtp/internal/control"
	"github.com/asmtp/asmtp/internal/node"
	"github.com/asmtp/asmtp/internal/node/nodetest"
	"github.com/asmtp/asmtp/noise"
)

// two makes a mesh of two nodes on one clock, with Alice at the first and Bob at none.
func two(t *testing.T, c *clock) (a, b *nodetest.Node, alice, bob *account.Account) {
	t.Helper()
	a = startNode(t, c)
	b = another(t, c, a)
	alice, bob = create(t, c, "alice"), create(t, c, "bob")
	join(t, a, alice)
	return a, b, alice, bob
}

// another starts a node in the mesh of n and waits until they are connected.
func another(t *testing.T, c *clock, n *nodetest.Node) *nodetest.Node {
	t.Helper()
	line := n.Invite()
	b := nodetest.Start(t, func(o *node.Options) {
		o.Join = line
		if c != nil {
			o.Now = c.Now
		}
	})
	connected(t, b)
	return b
}

// connected waits until n has a peer.
func connected(t *testing.T, n *nodetest.Node) {
	t.Helper()
	n.Await("a peer is connected", func(s *control.Status) bool {
		for _, p := range s.Peers {
			if p.Connected {
				return true
			}
		}
		return false
	})
}

// syncUntil syncs a until ok.
func syncUntil(t *testing.T, a *account.Account, what string, ok func([]account.Summary) bool) []account.Summary {
	t.Helper()
	return syncUntilWithin(t, patience, a, what, ok)
}

func syncUntilWithin(t *testing.T, patience time.Duration, a *account.Account, what string, ok func([]account.Summary) bool) []account.Summary {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var got []account.Summary
	for {
		got = append(got, sync1(t, a)...)
		if ok(got) {
			return got
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

func knows(t *testing.T, a *account.Account, name string) func([]account.Summary) bool {
	return func([]account.Summary) bool {
		c, err := a.Contact(t.Context(), name)
		return err == nil && !c.Waiting
	}
}

// With two nodes a mail is shown once, acknowledged at both, and the passport and the tag
// keys are at both, under different handles.
func TestTwoNodes(t *testing.T) {
	a, b, alice, bob := two(t, nil)
	join(t, b, bob)
	join(t, a, bob)
	acquaint(t, alice, bob)
	syncUntil(t, bob, "bob knows alice", knows(t, bob, "alice"))
	sync1(t, alice)
	list, err := bob.Nodes(t.Context())
	if err != nil || len(list) != 2 || list[0].Node != nodeOf(b) || !list[0].Primary || list[1].Node != nodeOf(a) || list[1].Primary {
		t.Fatalf("nodes are %+v, %v; want those of the order of connecting", list, err)
	}
	for _, n := range list {
		if n.LastSync.IsZero() || n.Problem != "" {
			t.Errorf("node is %+v, want one that was synced", n)
		}
	}
	send(t, alice, account.Draft{To: []string{"bob"}, Text: "once"})
	sync1(t, alice)
	for _, n := range []*nodetest.Node{a, b} {
		n.Await("the mail is at both nodes", func(s *control.Status) bool { return s.Envelopes > 0 })
	}
	got := syncUntil(t, bob, "the mail comes", func(l []account.Summary) bool { return len(l) > 0 })
	got = append(got, sync1(t, bob)...)
	if len(got) != 1 || len(inboxOf(t, bob)) != 1 {
		t.Errorf("the mail was shown %d times, the inbox has %d", len(got), len(inboxOf(t, bob)))
	}
	count := func(query string, want int) {
		t.Helper()
		if n, err := bob.Count(t.Context(), query); err != nil || n != want {
			t.Errorf("%s: %d (%v), want %d", query, n, err, want)
		}
	}
	count("SELECT count(*) FROM acks", 0)
	count("SELECT count(*) FROM nodes WHERE number > 0", 2)
	count("SELECT count(DISTINCT node) FROM tagkeys WHERE generation <> x''", 2)
	count("SELECT count(*) - count(DISTINCT handle) FROM tagkeys", 0)
	count("SELECT count(*) FROM (SELECT 1 FROM tagkeys GROUP BY peer, own_key, peer_key, epoch HAVING count(*) <> 2)", 0)
}

// With the first node away, mail goes out and comes in through the second; the sync says
// what is wrong with the first.
func TestFirstNodeAway(t *testing.T) {
	a, b, alice, bob := two(t, nil)
	join(t, b, alice)
	join(t, b, bob)
	acquaint(t, alice, bob)
	sync1(t, alice)
	sync1(t, bob)
	a.Stop()
	id := send(t, alice, account.Draft{To: []string{"bob"}, Text: "x"})
	res, err := alice.Sync(deadline(t), account.SyncOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Nodes) != 2 || res.Nodes[0].Err == nil || res.Nodes[1].Err != nil || res.Sent != 1 {
		t.Errorf("sync says %+v", res)
	}
	list, err := alice.Nodes(t.Context())
	if err != nil || list[0].Problem == "" || list[1].Problem != "" {
		t.Errorf("nodes are %+v, %v", list, err)
	}
	if got := sync1(t, bob); len(got) != 1 {
		t.Fatalf("bob got %+v", got)
	}
	sync1(t, alice)
	wantState(t, alice, id, account.Delivered)
	b.Stop()
	if _, err := alice.Sync(deadline(t), account.SyncOptions{}); err == nil {
		t.Error("a sync without any node succeeded")
	}
}

// A node that dies with mail which it accepted and nobody else has: when due, the mail is
// handed to the other node.
func TestAcceptingNodeDies(t *testing.T) {
	c := new(clock)
	a, b, alice, bob := two(t, c)
	join(t, b, alice)
	join(t, b, bob)
	acquaint(t, alice, bob)
	sync1(t, alice)
	sync1(t, bob)
	b.Stop() // so that what a accepts stays there
	id := send(t, alice, account.Draft{To: []string{"bob"}, Text: "x"})
	if _, err := alice.Sync(deadline(t), account.SyncOptions{}); err != nil {
		t.Fatal(err)
	}
	wantState(t, alice, id, account.Accepted)
	a.Stop()
	b.Options.Listen = nodeOf(b).Address
	b.Restart()
	sync1(t, alice)
	if got := sync1(t, bob); len(got) != 0 {
		t.Fatalf("bob got %+v before the mail was due", got)
	}
	c.Add(2 * time.Minute)
	sync1(t, alice)
	if got := sync1(t, bob); len(got) != 1 {
		t.Fatalf("bob got %+v", got)
	}
	sync1(t, alice)
	wantState(t, alice, id, account.Delivered)
}

// Bob loses his only node for good and connects to Alice's: all that the mesh keeps for
// him comes, also what he had never synced, and what he has is not shown again.
func TestOnlyNodeLost(t *testing.T) {
	c := new(clock)
	a, b, alice, bob := two(t, c)
	join(t, b, bob)
	acquaint(t, alice, bob)
	syncUntil(t, bob, "bob knows alice", knows(t, bob, "alice"))
	syncUntil(t, alice, "alice knows bob", knows(t, alice, "bob"))
	send(t, alice, account.Draft{To: []string{"bob"}, Subject: "seen", Attachments: []account.Attachment{attachment("f", randomBytes(t, 100_000))}})
	sync1(t, alice)
	syncUntil(t, bob, "the first mail", func(l []account.Summary) bool { return len(l) == 1 })
	c.Add(10 * 24 * time.Hour)
	want := map[string]bool{}
	for _, subject := range []string{"two", "three", "four"} {
		send(t, alice, account.Draft{To: []string{"bob"}, Subject: subject, Attachments: []account.Attachment{attachment("f", randomBytes(t, 70_000))}})
		want[subject] = true
	}
	sync1(t, alice)
	b.Stop() // with what it had, for ever
	c.Add(13 * 24 * time.Hour)

	join(t, a, bob)
	got := sync1(t, bob)
	for _, s := range got {
		if !want[s.Subject] {
			t.Errorf("%q was shown, want none but the new ones, each once", s.Subject)
		}
		delete(want, s.Subject)
	}
	if len(want) != 0 {
		t.Errorf("these did not come: %v", want)
	}
	res, err := bob.Sync(deadline(t), account.SyncOptions{})
	if err != nil || res.Received != 0 || len(res.Nodes) != 2 || res.Nodes[0].Err == nil {
		t.Errorf("the next sync says %+v, %v", res, err)
	}
	nodes, err := bob.Nodes(t.Context())
	if err != nil || len(nodes) != 2 {
		t.Fatalf("nodes are %v, %v", nodes, err)
	}
	if told, err := bob.RemoveNode(t.Context(), b.ID()); err != nil || told {
		t.Errorf("removed: told %v, %v", told, err)
	}
	sync1(t, bob)
	if nodes, err := bob.Nodes(t.Context()); err != nil || len(nodes) != 1 || !nodes[0].Primary {
		t.Errorf("nodes are %+v, %v", nodes, err)
	}
	// Alice learns that they arrived.
	sync1(t, alice)
	if q, err := alice.Queue(t.Context()); err != nil || len(q) != 0 {
		t.Errorf("%d mails have no receipt (%v)", len(q), err)
	}
}

// A node that is removed is told to recognise the user's mail no more.
func TestRemovedNodeForgets(t *testing.T) {
	n, alice, _ := pair(t, nil)
	sync1(t, alice)
	keys := func(who *account.Account) int {
		key, err := noise.NewPrivateKey(who.Secrets()[0])
		if err != nil {
			t.Fatal(err)
		}
		c, err := clientapi.Dial(deadline(t), n.Addr(), n.ID(), key, who)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		s, err := c.Status(deadline(t))
		if err != nil {
			t.Fatal(err)
		}
		return s.TagKeys
	}
	if keys(alice) == 0 {
		t.Fatal("the node has no tag keys to begin with")
	}
	if told, err := alice.RemoveNode(t.Context(), n.ID()); err != nil || !told {
		t.Errorf("removed: told %v, %v", told, err)
	}
	if k := keys(alice); k != 0 {
		t.Errorf("the node still has %d tag keys", k)
	}
	_, err := alice.Sync(t.Context(), account.SyncOptions{})
	wantError(t, err, account.ErrNoNode)
	_, err = alice.RemoveNode(t.Context(), n.ID())
	wantError(t, err, account.ErrNotFound)
}

// Mail that only waits on a node comes in before the node is removed.
func TestRemovedNodeGivesItsMail(t *testing.T) {
	n, alice, bob := pair(t, nil)
	sync1(t, bob)
	send(t, alice, account.Draft{To: []string{"bob"}, Text: "x"})
	sync1(t, alice)
	if told, err := bob.RemoveNode(t.Context(), n.ID()); err != nil || !told {
		t.Fatalf("removed: told %v, %v", told, err)
	}
	if list := inboxOf(t, bob); len(list) != 1 {
		t.Errorf("the inbox has %d mails, want the one that waited", len(list))
	}
}

// While following, a node that comes back is used again, a node that is added is used
// too, and the other works all the time.
func TestFollowSeveralNodes(t *testing.T) {
	a, b, alice, bob := two(t, nil)
	join(t, b, bob)
	acquaint(t, alice, bob)
	syncUntil(t, bob, "bob knows alice", knows(t, bob, "alice"))
	syncUntil(t, alice, "alice knows bob", knows(t, alice, "bob"))
	ctx, stop := context.WithTimeout(t.Context(), 2*patience)
	defer stop()
	mails := make(chan account.Summary, 16)
	events := make(chan account.Progress, 256)
	ended := make(chan error, 1)
	go func() {
		_, err := bob.Sync(ctx, account.SyncOptions{Follow: true, OnMail: func(s account.Summary) { mails <- s }, OnProgress: func(p account.Progress) {
			select {
			case events <- p:
			default:
			}
		}})
		ended <- err
	}()
	expect := func(subject string) {
		t.Helper()
		send(t, alice, account.Draft{To: []string{"bob"}, Subject: subject})
		sync1(t, alice)
		select {
		case m := <-mails:
			if m.Subject != subject {
				t.Errorf("got %q, want %q", m.Subject, subject)
			}
		case <-ctx.Done():
			t.Fatalf("%q did not come", subject)
		}
	}
	await := func(step string, n *nodetest.Node) {
		t.Helper()
		for {
			select {
			case p := <-events:
				if p.Step == step && p.Node.Key == n.ID() {
					return
				}
			case err := <-ended:
				t.Fatalf("the sync ended: %v", err)
			case <-ctx.Done():
				t.Fatalf("no %q", step)
			}
		}
	}
	expect("one node")
	join(t, a, bob)
	await("caught up", a)
	b.Stop()
	await("disconnected", b)
	expect("first node away")
	b.Options.Listen = nodeOf(b).Address
	b.Restart()
	await("caught up", b)
	a.Options.Listen = nodeOf(a).Address
	expect("both")
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
	if n := len(inboxOf(t, bob)); n != 3 {
		t.Errorf("inbox has %d mails, want 3", n)
	}
}

// A node without room: the mail stays queued and says why, and goes to another node if
// there is one.
func TestFullNode(t *testing.T) {
	full := nodetest.Start(t, func(o *node.Options) { o.SmallQuota, o.LargeQuota = 1, 1 })
	alice := create(t, nil, "alice")
	join(t, full, alice)
	id := send(t, alice, account.Draft{To: []string{"alice"}, Text: "x"})
	sync1(t, alice)
	o := wantState(t, alice, id, account.Queued)
	if !contains(o.Reason, "no room") || o.Next.IsZero() {
		t.Errorf("reason is %q, next try %v", o.Reason, o.Next)
	}
	other := startNode(t, nil)
	join(t, other, alice)
	if got := sync1(t, alice); len(got) != 1 {
		t.Errorf("alice got %+v", got)
	}
	if o := state(t, alice, id); o.State < account.Accepted || o.Reason != "" {
		t.Errorf("mail is %v (%s)", o.State, o.Reason)
	}
}

// A node that refuses mail, here for its clock, does not keep it from another one; nor
// does one that refuses receipts make them forgotten.
func TestRefusingNode(t *testing.T) {
	wrong := new(clock)
	wrong.Add(30 * day)
	refusing, other := startNode(t, wrong), startNode(t, nil)
	alice, bob := create(t, nil, "alice"), create(t, nil, "bob")
	for _, a := range []*account.Account{alice, bob} {
		join(t, refusing, a)
		join(t, other, a)
	}
	acquaint(t, alice, bob)
	sync1(t, alice)
	sync1(t, bob)
	id := send(t, alice, account.Draft{To: []string{"bob"}, Text: "x"})
	sync1(t, alice)
	if o := wantState(t, alice, id, account.Accepted); o.Reason != "" {
		t.Errorf("reason is %q", o.Reason)
	}
	if got := sync1(t, bob); len(got) != 1 {
		t.Fatalf("bob got %+v", got)
	}
	sync1(t, alice)
	wantState(t, alice, id, account.Delivered)
}

// A mail that a node perhaps has, since its answer was lost, cannot be cancelled because
// another node refused it.
func TestCancelAfterLostAnswer(t *testing.T) {
	full := nodetest.Start(t, func(o *node.Options) { o.SmallQuota, o.LargeQuota = 1, 1 })
	alice := create(t, nil, "alice")
	join(t, full, alice)
	id := send(t, alice, account.Draft{To: []string{"alice"}, Text: "x"})
	if err := alice.Exec(t.Context(), "UPDATE outgoing SET offered = 1"); err != nil {
		t.Fatal(err)
	}
	sync1(t, alice)
	wantState(t, alice, id, account.Queued)
	wantError(t, alice.Cancel(t.Context(), id), account.ErrTooLate)
}

// A mail that was written while a node was connected, and refused by it, can be cancelled.
func TestCancelAfterRefusalAtOnce(t *testing.T) {
	full := nodetest.Start(t, func(o *node.Options) { o.SmallQuota, o.LargeQuota = 1, 1 })
	alice := create(t, nil, "alice")
	join(t, full, alice)
	following, stop := context.WithCancel(deadline(t))
	ready, ended := make(chan struct{}, 1), make(chan struct{})
	go func() {
		defer close(ended)
		alice.Sync(following, account.SyncOptions{Follow: true, OnProgress: func(p account.Progress) {
			if p.Step == "caught up" {
				ready <- struct{}{}
			}
		}})
	}()
	defer func() { stop(); <-ended }()
	<-ready
	id := send(t, alice, account.Draft{To: []string{"alice"}, Text: "x"})
	for changed := alice.Changed(); state(t, alice, id).Reason == ""; changed = alice.Changed() {
		select {
		case <-changed:
		case <-following.Done():
			t.Fatal("the node did not answer")
		}
	}
	if err := alice.Cancel(t.Context(), id); err != nil {
		t.Error(err)
	}
	wantState(t, alice, id, account.Cancelled)
}

// A node that does not answer makes a sync wait once; when it answers again, it is used
// again.
func TestAilingNodeIsNotAwaited(t *testing.T) {
	n := startNode(t, nil)
	alice := create(t, nil, "alice")
	join(t, n, alice)
	silent, err := net.Listen("tcp", "127.0.0.1:0") // connects, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	other, err := noise.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	key, gone := n.ID(), other.Public()
	if err := alice.Exec(t.Context(), "INSERT INTO nodes (key, address, position) VALUES (?, ?, 0)", gone[:], silent.Addr().String()); err != nil {
		t.Fatal(err)
	}
	sync := func() (account.SyncResult, time.Duration) {
		t.Helper()
		began := time.Now()
		res, err := alice.Sync(deadline(t), account.SyncOptions{})
		if err != nil || len(res.Nodes) != 2 || res.Nodes[0].Err == nil || res.Nodes[1].Err != nil || res.Nodes[1].Node.Key != key {
			t.Fatalf("sync says %+v, %v", res, err)
		}
		return res, time.Since(began)
	}
	_, first := sync()
	id := send(t, alice, account.Draft{To: []string{"alice"}})
	res, second := sync()
	if first < 7*time.Second || second > first-3*time.Second {
		t.Errorf("the first sync took %v, the second %v; want 8 s, then 2 s", first, second)
	}
	if res.Sent != 1 || state(t, alice, id).State < account.Accepted {
		t.Errorf("the mail was not sent: %+v", res)
	}
	if list, err := alice.Nodes(t.Context()); err != nil || !contains(list[0].Problem, "no answer in time") {
		t.Errorf("nodes are %+v, %v", list, err)
	}
	if _, err := alice.RemoveNode(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	if err := alice.Exec(t.Context(), "UPDATE nodes SET problem = 'was away'"); err != nil {
		t.Fatal(err)
	}
	sync1(t, alice)
	if list, err := alice.Nodes(t.Context()); err != nil || len(list) != 1 || list[0].Problem != "" {
		t.Errorf("nodes are %+v, %v; want that the one that is back has no problem", list, err)
	}
}

func hasEnvelopes(s *control.Status) bool { return s.Envelopes > 0 }
