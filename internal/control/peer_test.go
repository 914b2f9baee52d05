package control

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
)

func TestOnlyOwnerAndRootMayControl(t *testing.T) {
	for _, c := range []struct {
		peer, own int
		want      bool
	}{{1000, 1000, true}, {0, 1000, true}, {1001, 1000, false}, {1000, 0, false}, {-1, 1000, false}} {
		if got := mayControl(c.peer, c.own); got != c.want {
			t.Errorf("peer %d, node %d: %v", c.peer, c.own, got)
		}
	}
}

func TestUnknownAndOtherUsersAreRefused(t *testing.T) {
	h := onlyOwner(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("let in") }), slog.New(slog.DiscardHandler))
	for name, ctx := range map[string]context.Context{
		"unknown": t.Context(),
		"other":   context.WithValue(t.Context(), uidKey{}, os.Geteuid()+1),
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1/status", nil).WithContext(ctx))
		if err := read(w.Result(), nil); !errors.Is(err, ErrDenied) {
			t.Errorf("%s: got %v, want %v", name, err, ErrDenied)
		}
	}
}

func TestKernelTellsThePeersUser(t *testing.T) {
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	out, err := net.Dial("unix", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	in, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	uid, ok := noteUID(t.Context(), in).Value(uidKey{}).(int)
	if !ok || uid != os.Geteuid() {
		t.Errorf("got %d, %v; want %d", uid, ok, os.Geteuid())
	}
}
