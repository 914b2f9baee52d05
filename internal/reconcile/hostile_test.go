package reconcile_test

import (
	"errors"
	"math"
	"testing"

	"github.com/asmtp/asmtp/internal/reconcile"
)

func view(items []reconcile.Item) *reconcile.View {
	return reconcile.NewView(reconcile.SetOf(items), 0, math.MaxUint32, secret)
}

// mustFrame returns the next frame, which there is.
func mustFrame(t *testing.T, i *reconcile.Initiator) []byte {
	t.Helper()
	frame, err := i.Frame()
	if err != nil || frame == nil {
		t.Fatalf("frame %v, %v", frame, err)
	}
	return frame
}

// range0 is a range up to the end of everything.
func range0(mode byte, payload ...byte) []byte { return append([]byte{0, 0, mode}, payload...) }

// What no honest side answers is an error, and the initiator counts nothing as confirmed.
func TestWrongAnswers(t *testing.T) {
	all := items(random(6), 1000)
	few := all[:10]
	own, answer := view(all).Print()
	id := make([]byte, 32)
	cases := map[string]struct {
		items []reconcile.Item
		frame []byte
	}{
		"nothing":                         {all, nil},
		"only a gap":                      {all, range0(0)},
		"the own fingerprint as proof":    {all, range0(3, own[:]...)},
		"a fingerprint of all once more":  {few, range0(1, answer[:]...)},
		"agreed to what was listed":       {few, range0(3, answer[:]...)},
		"a difference to a fingerprint":   {all, range0(4, 0)},
		"bits beyond the ids":             {few, range0(4, 0, 0xfc, 0)},
		"an id twice":                     {all, range0(2, append([]byte{2}, append(id, id...)...)...)},
		"more ids than there are bytes":   {all, range0(2, 0x87, 0xff, 0xff, 0xff, 0x7f)},
		"an unknown mode":                 {all, range0(5)},
		"something behind the end":        {few, append(range0(4, 0xff, 3, 0), range0(0)...)},
		"a bound that does not go on":     {all, []byte{1, 0, 0}},
		"a bound with a zero at its end":  {all, []byte{1, 1, 0, 0}},
		"a bound that is too long":        {all, []byte{1, 33, 0}},
		"a number with a leading zero":    {all, []byte{0x80, 1, 0, 0}},
		"a number without an end":         {all, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}},
		"an end beyond 2^32":              {all, []byte{0x90, 0x80, 0x80, 0x80, 0x01, 0, 0}},
		"half a fingerprint":              {all, range0(1, own[:8]...)},
		"a frame larger than the limit":   {all, make([]byte, reconcile.DefaultFrame+1)},
		"a fingerprint of what is listed": {few, []byte{2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}},
	}
	for name, c := range cases {
		i := reconcile.NewInitiator(view(c.items), reconcile.Limits{})
		mustFrame(t, i)
		if err := i.Take(c.frame); !errors.Is(err, reconcile.ErrPeer) {
			t.Errorf("%s: %v", name, err)
		}
		for _, it := range c.items {
			if i.Confirmed(it) {
				t.Fatalf("%s: an item is confirmed", name)
			}
		}
	}
}

// The responder refuses what no honest initiator asks.
func TestWrongQuestions(t *testing.T) {
	_, answer := view(items(random(7), 1000)).Print()
	for name, frame := range map[string][]byte{
		"a proof":                       range0(3, answer[:]...),
		"a difference":                  range0(4, 0, 0),
		"an id twice":                   range0(2, append([]byte{2}, make([]byte, 64)...)...),
		"a frame larger than the limit": make([]byte, reconcile.DefaultFrame+1),
		"half a bound":                  {1},
	} {
		r := reconcile.NewResponder(view(items(random(7), 1000)), reconcile.Limits{})
		if _, err := r.Answer(frame); !errors.Is(err, reconcile.ErrPeer) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A side whose fingerprints never agree ends at a limit, with bounded memory, and what
// it says to have is bounded too.
func TestEndlessDifferencesEnd(t *testing.T) {
	r := random(8)
	own := items(r, 20_000)
	l := reconcile.Limits{Rounds: 50, Pending: 1000, Found: 500}
	i := reconcile.NewInitiator(view(own), l)
	for rounds := 0; ; rounds++ {
		frame, err := i.Frame()
		if err != nil {
			if !errors.Is(err, reconcile.ErrLimit) {
				t.Fatal(err)
			}
			break
		}
		if frame == nil {
			break
		}
		if rounds > l.Rounds {
			t.Fatal("more rounds than allowed")
		}
		// The responder has another set each time, and another key: nothing ever fits.
		lie := reconcile.NewView(reconcile.SetOf(items(r, 20_000)), 0, math.MaxUint32, [reconcile.KeySize]byte{byte(rounds), 77})
		answer, err := reconcile.NewResponder(lie, l).Answer(frame)
		if err != nil {
			t.Fatal(err)
		}
		if err := i.Take(answer); err != nil {
			if !errors.Is(err, reconcile.ErrLimit) {
				t.Fatal(err)
			}
			break
		}
	}
	if !i.Incomplete() || i.Open() > l.Pending || len(i.Missing()) > l.Found || len(i.Lacking()) > l.Found {
		t.Errorf("incomplete %v, %d open, %d missing, %d lacking", i.Incomplete(), i.Open(), len(i.Missing()), len(i.Lacking()))
	}
	for _, it := range own {
		if i.Confirmed(it) {
			t.Fatal("a lie confirms an item")
		}
	}
}

// Both sides stop after so many rounds, however well it goes.
func TestRoundsAreBounded(t *testing.T) {
	r := random(12)
	a, b := view(items(r, 50_000)), view(items(r, 50_000))
	l := reconcile.Limits{Rounds: 2, Frame: reconcile.MinFrame}
	i, p := reconcile.NewInitiator(a, l), reconcile.NewResponder(b, l)
	for range 2 {
		answer, err := p.Answer(mustFrame(t, i))
		if err != nil {
			t.Fatal(err)
		}
		if err := i.Take(answer); err != nil {
			t.Fatal(err)
		}
	}
	if frame, err := i.Frame(); frame != nil || !errors.Is(err, reconcile.ErrLimit) || !i.Incomplete() {
		t.Errorf("frame of %d bytes, %v", len(frame), err)
	}
	if _, err := p.Answer(nil); !errors.Is(err, reconcile.ErrLimit) {
		t.Errorf("third answer: %v", err)
	}
}

// A responder that lists ids without end is cut off, and found is what fits.
func TestHugeListsAreCut(t *testing.T) {
	o := run(t, new(reconcile.Set), reconcile.SetOf(items(random(9), 30_000)), reconcile.Limits{Found: 100})
	if len(o.Missing()) != 100 || !o.Incomplete() || o.trips != 1 {
		t.Errorf("%d missing, incomplete %v, %d round trips", len(o.Missing()), o.Incomplete(), o.trips)
	}
	o = run(t, reconcile.SetOf(items(random(9), 30_000)), new(reconcile.Set), reconcile.Limits{Found: 100})
	if len(o.Lacking()) != 100 || !o.Incomplete() {
		t.Errorf("%d lacking, incomplete %v", len(o.Lacking()), o.Incomplete())
	}
}

// After a session that a limit ended the next ones find the rest.
func TestLimitsOnlyPostpone(t *testing.T) {
	r := random(10)
	a, b := items(r, 3000), items(r, 3000)
	for sessions := 0; ; sessions++ {
		if sessions > 100 {
			t.Fatal("no end")
		}
		o := run(t, reconcile.SetOf(a), reconcile.SetOf(b), reconcile.Limits{Found: 300, Frame: reconcile.MinFrame, Rounds: 1000})
		if len(o.Lacking())+len(o.Missing()) == 0 {
			if o.Incomplete() {
				t.Fatal("incomplete with nothing found")
			}
			break
		}
		b = append(b, o.Lacking()...)
		for _, id := range o.Missing() {
			for _, it := range b {
				if it.ID == id {
					a = append(a, it)
				}
			}
		}
	}
	if len(a) != 6000 || len(b) != 6000 {
		t.Errorf("%d and %d items", len(a), len(b))
	}
}
