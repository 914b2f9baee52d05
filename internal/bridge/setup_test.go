package bridge

import (
	"strings"
	"testing"
)

// The settings hold the account's values, no placeholder is left, and TLS is asked for
// where passwords would go over a network.
func TestSetupIsComplete(t *testing.T) {
	s := Setup{Name: "Alice", User: "alice@asmtp", Address: "alice@asmtp", IMAP: "127.0.0.1:1143", SMTP: "127.0.0.1:1025", Certificate: "/home/a/cert.pem", Fingerprint: "AA:BB"}
	far := s
	far.IMAP, far.SMTP = "192.0.2.7:993", "192.0.2.7:465"
	for _, tt := range []struct {
		s     Setup
		mode  TLSMode
		plain bool
	}{{s, TLSOff, true}, {s, StartTLS, true}, {s, TLS, false}, {far, StartTLS, false}, {far, TLS, false}} {
		tt.s.TLS = tt.mode
		for _, p := range Programs() {
			text, err := tt.s.Text(p)
			if err != nil {
				t.Fatal(err)
			}
			_, port, _ := strings.Cut(tt.s.IMAP, ":")
			for _, want := range []string{"alice@asmtp", port} {
				if !strings.Contains(text, want) {
					t.Errorf("%s, %s: no %q", p, tt.mode, want)
				}
			}
			if strings.ContainsAny(text, "{}|") {
				t.Errorf("%s, %s: something is left:\n%s", p, tt.mode, text)
			}
			if tt.plain == (strings.Contains(text, "AA:BB") || strings.Contains(text, "cert.pem")) {
				t.Errorf("%s, %s, plain %v:\n%s", p, tt.mode, tt.plain, text)
			}
		}
	}
	s.IMAP = ":1143"
	if text, err := s.Text("thunderbird"); err != nil || !strings.Contains(text, "127.0.0.1") {
		t.Errorf("listening everywhere: %v\n%s", err, text)
	}
	if _, err := s.Text("nosuch"); err == nil {
		t.Error("settings for a program that is not known")
	}
}
