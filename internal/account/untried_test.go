package account

import (
	"testing"

	"github.com/asmtp/asmtp/envelope"
)

// Envelopes in hand are those of the mail they were put for, once, and take bounded memory.
func TestUntriedMailIsItsOwn(t *testing.T) {
	var u untried
	mail := func(bytes int) *sealedMail {
		return &sealedMail{ids: make([]envelope.ID, 1), envelopes: [][]byte{make([]byte, bytes)}}
	}
	a, b, c := randomID(), randomID(), randomID()
	first := mail(1000)
	u.put(1, a, first)
	if m, ok := u.take(1, b); m != nil || ok {
		t.Error("a row that was not written hands its envelopes to another mail")
	}
	u.put(1, a, mail(10))
	u.put(1, a, first) // the write ran twice
	if m, ok := u.take(1, a); m != first || !ok {
		t.Error("the envelopes are not in hand")
	}
	if m, ok := u.take(1, a); m != nil || ok {
		t.Error("the envelopes are in hand twice")
	}
	u.put(2, b, first)
	u.forget(2)
	if m, ok := u.take(2, b); m != nil || !ok {
		t.Error("envelopes that were sealed anew are in hand, or their mail counts as tried")
	}
	u.forget(3)
	if _, ok := u.take(3, c); ok {
		t.Error("a mail counts as untried that was tried")
	}
	for n := range int64(10) {
		u.put(n, a, mail(untriedBytes/4))
	}
	held := 0
	for n := range int64(10) {
		m, ok := u.take(n, a)
		if !ok {
			t.Errorf("row %d is gone", n)
		}
		held += m.size()
	}
	if held != untriedBytes || u.bytes != 0 {
		t.Errorf("%d bytes were held, and %d are counted now", held, u.bytes)
	}
}
