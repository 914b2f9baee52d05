package store_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/asmtp/asmtp/internal/store"
	"github.com/asmtp/asmtp/mesh"
	"github.com/asmtp/asmtp/passport"
)

// A token and what it is used for are stored in one step: no use is lost when that fails,
// and nothing is admitted without one.
func TestAdmitTakesTheTokenAndAdmitsOrNeither(t *testing.T) {
	s, err := store.Open(t.TempDir(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	token := mesh.Token{1}
	end := passport.TimeOf(time.Now().Add(time.Hour))
	if err := s.PutToken(t.Context(), 1, token, 2, end); err != nil {
		t.Fatal(err)
	}
	statements := func() int {
		list, err := s.Statements()
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	admit := func(kind byte, a store.Admission, want bool, wantErr error) {
		t.Helper()
		if ok, err := s.Admit(t.Context(), kind, token.Hash(), a); ok != want || !errors.Is(err, wantErr) {
			t.Errorf("Admit: %v, %v; want %v, %v", ok, err, want, wantErr)
		}
	}
	tooLarge := store.Admission{Statements: [][]byte{bytes.Repeat([]byte{1}, 200<<10), bytes.Repeat([]byte{2}, 200<<10)}}
	admit(1, tooLarge, false, store.ErrTooLarge)
	admit(2, store.Admission{User: "a"}, false, nil) // a token of another kind
	if n := statements(); n != 0 {
		t.Errorf("%d statements of what was not admitted", n)
	}
	admit(1, store.Admission{Statements: [][]byte{{1}}}, true, nil)
	admit(1, store.Admission{User: "a", Added: time.Now()}, true, nil)
	admit(1, store.Admission{User: "b", Statements: [][]byte{{2}}}, false, nil) // used up
	a, errA := s.HasUser("a")
	b, errB := s.HasUser("b")
	if !a || b || errA != nil || errB != nil || statements() != 1 {
		t.Errorf("user a %v, user b %v, %d statements", a, b, statements())
	}
}
