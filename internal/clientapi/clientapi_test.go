package clientapi_test

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/clientapi"
	"github.com/asmtp/asmtp/internal/port"
	"github.com/asmtp/asmtp/mesh"
	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// hold is when a port resets who is not let in, and how long a handshake may take.
const hold = time.Second

func newKey(t testing.TB) *noise.PrivateKey {
	t.Helper()
	k, err := noise.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// anyStamp takes every stamp: replays are port's matter.
type anyStamp struct{}

func (anyStamp) FreshStamp(context.Context, byte, noise.PublicKey, uint64) (bool, error) {
	return true, nil
}

// running is a node that listens on loopback.
type running struct {
	key  *noise.PrivateKey
	addr string
	api  *clientapi.Server
	stop func() // ends it and waits
}

// serve runs n behind a real port until the test ends.
func serve(t testing.TB, n *node) *running {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &running{key: newKey(t), addr: ln.Addr().String(), api: clientapi.NewServer(clientapi.Options{Backend: n})}
	p := port.New(ln, port.Options{
		Key: r.key, Stamps: anyStamp{}, HoldMin: hold, HoldMax: hold,
		Gates: map[port.Version]port.Gate{port.Client: {
			Params: func([]byte) (noise.Params, bool) { return port.ClientParams(), true },
			Admit: func(key noise.PublicKey, _ []byte) ([]byte, error) {
				if !n.Admitted(key) {
					return nil, errors.New("not admitted")
				}
				return nil, nil
			},
		}},
	})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := r.api.Serve(ctx, p.Listener(port.Client)); err != nil {
			t.Error(err)
		}
	})
	wg.Go(func() {
		if err := p.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	r.stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(r.stop)
	return r
}

func (r *running) dial(t testing.TB, device *noise.PrivateKey) *clientapi.Client {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := clientapi.Dial(ctx, r.addr, r.key.Public(), device, port.NewClockStamps(time.Now))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// start runs a node with one user and connects a device of that user.
func start(t testing.TB) (*node, *running, *clientapi.Client, *noise.PrivateKey) {
	t.Helper()
	device := newKey(t)
	n := newNode(device.Public())
	n.user[device.Public()] = passport.ID{1}
	r := serve(t, n)
	return n, r, r.dial(t, device), device
}

// patient is a context for a call that ends only if something happens.
func patient(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func within(t *testing.T, c <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		t.Fatalf("waited in vain: %s", what)
	}
}

// seal makes an envelope of a size class that differs from others by i.
func seal(class, i int) *envelope.Envelope {
	sealed := make([]byte, envelope.Sizes[class])
	binary.BigEndian.PutUint64(sealed, uint64(i))
	return &envelope.Envelope{Expires: envelope.ExpiresStep, Sealed: sealed}
}

func TestStatus(t *testing.T) {
	n, r, c, _ := start(t)
	n.status = clientapi.Status{
		Node: r.key.Public(), Version: "1.2", LastNumber: 3, Mesh: mesh.ID{4}, MailLimit: 5, Retention: 6 * time.Hour,
		Members: 7, Peers: 8, Envelopes: 9, Bytes: 10, TagKeys: 11, Addresses: []string{"a:1", "b:2"},
	}
	got, err := c.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if since := time.Since(got.Time); since < -2*time.Second || since > time.Minute {
		t.Errorf("the node's clock is %v", got.Time)
	}
	want := n.status
	want.Protocol, want.Generation, want.Passport, want.Time = clientapi.Protocol, 7, passport.ID{1}, got.Time
	if !reflect.DeepEqual(*got, want) {
		t.Errorf("got %+v\nwant %+v", *got, want)
	}
	if c.Node() != r.key.Public() {
		t.Errorf("node %v", c.Node())
	}
}

func TestTagKeysComeInBatchesAndWhole(t *testing.T) {
	n, _, c, _ := start(t)
	keys := make([]envelope.TagKey, clientapi.TagKeyBatch+10)
	var handles []envelope.Handle
	for i := range keys {
		keys[i].Epoch = uint32(i) << 16
		binary.BigEndian.PutUint32(keys[i].Handle[:], uint32(i))
		for j := range keys[i].Key {
			keys[i].Key[j] = byte(i + j)
		}
		handles = append(handles, keys[i].Handle)
	}
	if err := c.RegisterTagKeys(t.Context(), keys); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(n.keys, keys) || n.calls != 2 {
		t.Errorf("%d keys in %d calls", len(n.keys), n.calls)
	}
	if err := c.DeregisterTagKeys(t.Context(), handles[3:]); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(n.keys, keys[:3]) {
		t.Errorf("%d keys left", len(n.keys))
	}
	if err := c.Acknowledge(t.Context(), []uint64{1, 1<<64 - 1}); err != nil || !slices.Equal(n.acked, []uint64{1, 1<<64 - 1}) {
		t.Errorf("acknowledged %v, %v", n.acked, err)
	}
}

// chainOf makes a passport of device with n blocks.
func chainOf(t *testing.T, device *noise.PrivateKey, n int) *passport.Passport {
	t.Helper()
	p, _, err := passport.Create(nil, device, 1000)
	if err != nil {
		t.Fatal(err)
	}
	return extend(t, p, device, n)
}

func extend(t *testing.T, p *passport.Passport, device *noise.PrivateKey, n int) *passport.Passport {
	t.Helper()
	for p.Len() < n {
		next, _, err := p.Change(nil, device, 1000, passport.Change{Rotate: true})
		if err != nil {
			t.Fatal(err)
		}
		p = next
	}
	return p
}

func TestPassportsArePutAndComeBackWhole(t *testing.T) {
	device := newKey(t)
	n := newNode(device.Public())
	r := serve(t, n)
	c, ctx := r.dial(t, device), t.Context()

	none := func(clientapi.Item) error { return nil }
	if err := c.Sync(ctx, clientapi.Position{}, false, none); !errors.Is(err, clientapi.ErrNoPassport) {
		t.Errorf("before the passport: got %v, want %v", err, clientapi.ErrNoPassport)
	}
	long, other := chainOf(t, device, 70), chainOf(t, newKey(t), 1)
	for _, p := range []*passport.Passport{long, other} {
		if err := c.PutPassport(ctx, p); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Sync(ctx, clientapi.Position{}, false, none); err != nil {
		t.Errorf("after the passport: %v", err)
	}
	var got []clientapi.PassportChange
	err := c.PassportsChanged(ctx, 0, 0, false, func(p clientapi.PassportChange) error {
		got = append(got, p)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 3 || got[0].Passport.Tip() != long.Tip() || got[0].Number != 1 || got[0].ID != long.ID() ||
		got[1].Passport.Tip() != other.Tip() || got[1].Number != 2 || !got[2].CaughtUp || got[2].Number != 2 || got[2].Generation != 7 {
		t.Errorf("got %+v", got)
	}

	again := 0
	err = c.PassportsChanged(ctx, 7, 2, false, func(clientapi.PassportChange) error { again++; return nil })
	if err != nil || again != 1 {
		t.Errorf("after the last number: %d messages, %v", again, err)
	}
}

func TestPassportsAreFollowed(t *testing.T) {
	n, _, c, device := start(t)
	want := chainOf(t, device, 2)
	stop := errors.New("seen")
	err := c.PassportsChanged(patient(t), 0, 0, true, func(p clientapi.PassportChange) error {
		if p.CaughtUp {
			return n.PutPassport(t.Context(), device.Public(), want)
		}
		if p.Passport.Tip() != want.Tip() {
			t.Errorf("got %v", p)
		}
		return stop
	})
	if err != stop {
		t.Errorf("got %v", err)
	}
}

func TestForkIsNamedAsSuch(t *testing.T) {
	_, _, c, device := start(t)
	first := chainOf(t, device, 1)
	if err := c.PutPassport(t.Context(), extend(t, first, device, 2)); err != nil {
		t.Fatal(err)
	}
	if err := c.PutPassport(t.Context(), extend(t, first, device, 2)); !errors.Is(err, clientapi.ErrFork) {
		t.Errorf("got %v, want %v", err, clientapi.ErrFork)
	}
}

func numbers(items []clientapi.Item) (list []uint64) {
	for _, i := range items {
		list = append(list, i.Number)
	}
	return list
}

func TestMailboxComesInOrderThenCaughtUpThenLive(t *testing.T) {
	n, _, c, _ := start(t)
	for i := range 40 {
		n.deliver(envelope.Delivery{Number: uint64(i + 1), Handle: envelope.Handle{byte(i)}, Envelope: seal(0, i).Bytes()})
	}
	stop := errors.New("enough")
	var got []clientapi.Item
	err := c.Sync(patient(t), clientapi.Position{Generation: 7, Large: 30, Small: 30}, true, func(i clientapi.Item) error {
		got = append(got, i)
		if i.CaughtUp {
			n.deliver(envelope.Delivery{Number: 50, Envelope: seal(3, 50).Bytes()})
		}
		if i.Number == 50 {
			return stop
		}
		return nil
	})
	if err != stop {
		t.Fatalf("got %v", err)
	}
	if want := []uint64{31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 40, 50}; !slices.Equal(numbers(got), want) {
		t.Fatalf("numbers %v, want %v", numbers(got), want)
	}
	if !got[10].CaughtUp || got[9].CaughtUp || got[11].CaughtUp {
		t.Error("the marker is in the wrong place")
	}
	if got[0].Handle != (envelope.Handle{30}) || !slices.Equal(got[0].Envelope, seal(0, 30).Bytes()) || got[0].Generation != 7 {
		t.Errorf("got %+v", got[0])
	}
}

// What comes before it is stored has no number; with its number it does not come again as a
// whole. Of much that never gets a number there is an end, and the rest still comes.
func TestEarlyEnvelopesComeOnce(t *testing.T) {
	n, _, c, _ := start(t)
	n.early = make(chan envelope.Early)
	e := seal(0, 1)
	id := e.ID()
	stop := errors.New("enough")
	var got []clientapi.Item
	err := c.Sync(patient(t), clientapi.Position{Generation: 7}, true, func(i clientapi.Item) error {
		got = append(got, i)
		switch {
		case i.CaughtUp:
			for range 2 { // two keys of the user match
				n.early <- envelope.Early{ID: id, Handle: envelope.Handle{9}, Envelope: e.Bytes()}
			}
		case i.Number == 0:
			n.deliver(envelope.Delivery{Number: 1, ID: id, Handle: envelope.Handle{9}, Envelope: e.Bytes()})
			n.deliver(envelope.Delivery{Number: 2, ID: seal(1, 2).ID(), Envelope: seal(1, 2).Bytes()})
		case i.Number == 2:
			return stop
		}
		return nil
	})
	if err != stop || !slices.Equal(numbers(got), []uint64{0, 0, 1, 2}) {
		t.Fatalf("got %v, %v", numbers(got), err)
	}
	if i := got[1]; i.ID != id || i.Handle != (envelope.Handle{9}) || !slices.Equal(i.Envelope, e.Bytes()) || i.CaughtUp {
		t.Errorf("came early as %+v", i)
	}
	if i := got[2]; i.ID != id || len(i.Envelope) != 0 {
		t.Errorf("came again as %+v", i)
	}
	if i := got[3]; !slices.Equal(i.Envelope, seal(1, 2).Bytes()) {
		t.Errorf("another came as %+v", i)
	}

	early := 0
	err = c.Sync(patient(t), clientapi.Position{Generation: 7, Large: 2, Small: 2}, true, func(i clientapi.Item) error {
		switch {
		case i.CaughtUp:
			go func() {
				for k := range 10_000 {
					select {
					case n.early <- envelope.Early{ID: envelope.ID{1, byte(k), byte(k >> 8)}, Envelope: e.Bytes()}:
					case <-time.After(100 * time.Millisecond):
						n.deliver(envelope.Delivery{Number: 3, ID: id, Envelope: e.Bytes()})
						return
					}
				}
			}()
		case i.Number == 0:
			early++
		case i.Number == 3:
			if len(i.Envelope) == 0 {
				t.Error("what this call never sent came by its id alone")
			}
			return stop
		}
		return nil
	})
	if err != stop || early == 0 || early > 1000 {
		t.Errorf("%d came early, %v", early, err)
	}
}

func TestOtherGenerationStartsAtTheBeginning(t *testing.T) {
	n, _, c, _ := start(t)
	n.deliver(envelope.Delivery{Number: 1, Envelope: seal(0, 1).Bytes()})
	var got []clientapi.Item
	err := c.Sync(t.Context(), clientapi.Position{Generation: 6, Large: 1000, Small: 1000}, false, func(i clientapi.Item) error { got = append(got, i); return nil })
	if err != nil || !slices.Equal(numbers(got), []uint64{1, 1}) || got[0].Generation != 7 {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestCustodyIsToldOnceAndWhenItChanges(t *testing.T) {
	n, _, c, _ := start(t)
	a, b := envelope.ID{1}, envelope.ID{2}
	n.setCustody(a, 2)
	got := map[envelope.ID]int{}
	err := c.WatchCustody(t.Context(), []envelope.ID{a, b, a}, false, func(id envelope.ID, count int) error {
		if _, twice := got[id]; twice {
			t.Errorf("%v was told twice", id)
		}
		got[id] = count
		return nil
	})
	if err != nil || !reflect.DeepEqual(got, map[envelope.ID]int{a: 2, b: 0}) {
		t.Errorf("got %v, %v", got, err)
	}
	stop := errors.New("enough")
	var told []int
	err = c.WatchCustody(patient(t), []envelope.ID{b}, true, func(id envelope.ID, count int) error {
		told = append(told, count)
		if count == 0 {
			n.setCustody(a, 9) // of no interest here
			n.setCustody(b, 3)
			return nil
		}
		return stop
	})
	if err != stop || !slices.Equal(told, []int{0, 3}) {
		t.Errorf("got %v, %v", told, err)
	}
}

// Small envelopes come before those of the largest class, also one that arrives while they
// are sent; a position of both kinds leaves out what was read, and no more.
func TestSmallEnvelopesOvertake(t *testing.T) {
	n, _, c, _ := start(t)
	for i := range 40 {
		class := 3
		if i%10 == 9 {
			class = i / 10 % 3
		}
		n.deliver(envelope.Delivery{Number: uint64(i + 1), Envelope: seal(class, i).Bytes()})
	}
	var got []clientapi.Item
	read := func(at clientapi.Position) []uint64 {
		got = nil
		err := c.Sync(patient(t), at, false, func(i clientapi.Item) error {
			if got = append(got, i); len(got) == 5 && at == (clientapi.Position{}) {
				n.deliver(envelope.Delivery{Number: 41, Envelope: seal(1, 41).Bytes()})
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return numbers(got)
	}
	all := read(clientapi.Position{})
	if !slices.Equal(all[:4], []uint64{10, 20, 30, 40}) || !got[len(got)-1].CaughtUp {
		t.Fatalf("read %v", all)
	}
	if at := slices.Index(all, 41); at < 4 || at > 30 {
		t.Errorf("the one that came meanwhile is at %d of %v", at, all)
	}
	if sorted := slices.Sorted(slices.Values(all[:len(all)-1])); len(slices.Compact(sorted)) != 41 {
		t.Errorf("read %v", all)
	}
	if part := read(clientapi.Position{Generation: 7, Large: 35, Small: 20}); !slices.Equal(part, []uint64{30, 40, 41, 36, 37, 38, 39, 41}) {
		t.Errorf("read %v", part)
	}
}
