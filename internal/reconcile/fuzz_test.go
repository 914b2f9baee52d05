package reconcile_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/asmtp/asmtp/internal/reconcile"
)

// seeds are the frames of a short session.
func seeds(f *testing.F) (up, down [][]byte) {
	r := random(11)
	common := items(r, 60)
	i := reconcile.NewInitiator(view(append(items(r, 3), common...)), reconcile.Limits{})
	p := reconcile.NewResponder(view(append(items(r, 3), common...)), reconcile.Limits{})
	for {
		frame, err := i.Frame()
		if err != nil {
			f.Fatal(err)
		}
		if frame == nil {
			return up, down
		}
		answer, err := p.Answer(frame)
		if err != nil {
			f.Fatal(err)
		}
		if err := i.Take(answer); err != nil {
			f.Fatal(err)
		}
		up, down = append(up, frame), append(down, answer)
	}
}

// What is accepted as a frame stands for the same bytes.
func FuzzFrame(f *testing.F) {
	up, down := seeds(f)
	for _, b := range append(up, down...) {
		f.Add(b, byte(10))
	}
	f.Fuzz(func(t *testing.T, b []byte, n byte) {
		if again, err := reconcile.Reencode(b, int(n)); err == nil && !bytes.Equal(b, again) {
			t.Errorf("%x is written as %x", b, again)
		}
	})
}

// Whatever the responder answers, the initiator does not panic, keeps its limits, and
// confirms nothing that the responder did not show to have.
func FuzzInitiator(f *testing.F) {
	_, down := seeds(f)
	for _, b := range down {
		f.Add(b, b)
	}
	l := reconcile.Limits{Found: 50, Pending: 200}
	all := items(random(11), 63)
	few := all[:20]
	f.Fuzz(func(t *testing.T, first, second []byte) {
		for _, own := range [][]reconcile.Item{all, few} {
			i := reconcile.NewInitiator(view(own), l)
			for _, answer := range [][]byte{first, second} {
				if frame, err := i.Frame(); frame == nil || err != nil {
					break
				}
				if err := i.Take(answer); err != nil {
					if !errors.Is(err, reconcile.ErrPeer) && !errors.Is(err, reconcile.ErrLimit) {
						t.Fatal(err)
					}
					break
				}
			}
			if i.Open() > l.Pending || len(i.Lacking()) > l.Found || len(i.Missing()) > l.Found {
				t.Errorf("%d open, %d lacking, %d missing", i.Open(), len(i.Lacking()), len(i.Missing()))
			}
		}
	})
}

// Whatever the initiator asks, the responder does not panic, and its answer fits.
func FuzzResponder(f *testing.F) {
	up, _ := seeds(f)
	for _, b := range up {
		f.Add(b)
	}
	small := reconcile.Limits{Frame: reconcile.MinFrame}
	v := view(items(random(11), 63))
	f.Fuzz(func(t *testing.T, frame []byte) {
		answer, err := reconcile.NewResponder(v, small).Answer(frame)
		if err != nil && !errors.Is(err, reconcile.ErrPeer) {
			t.Fatal(err)
		}
		if len(answer) > reconcile.MinFrame {
			t.Errorf("answer of %d bytes", len(answer))
		}
		if err == nil {
			if _, err := reconcile.Reencode(answer, 0); err != nil && len(frame) == 0 {
				t.Error(err)
			}
		}
	})
}
