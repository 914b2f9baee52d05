package p2p

import (
	"os/exec"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

// No goroutine is left after the tests, which close all hosts; none needs to be excepted.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// The package links nothing of what libp2p.New would: QUIC, WebRTC, websockets, fx.
func TestLinksNoOtherTransport(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range strings.Fields(string(out)) {
		for _, bad := range []string{"github.com/quic-go/", "github.com/pion/", "github.com/gorilla/websocket", "go.uber.org/fx", "github.com/libp2p/go-libp2p/config"} {
			if strings.HasPrefix(p, bad) {
				t.Errorf("links %s", p)
			}
		}
	}
}
