package account

import "testing"

func TestNodeIsLocal(t *testing.T) {
	for address, want := range map[string]bool{
		"127.0.0.1:9800": true, "[::1]:9800": true, "localhost:9800": true, "127.8.8.8:1": true,
		"192.0.2.1:9800": false, "mail.example.org:9800": false, "localhost.example.org:1": false, "127.0.0.1": false, "": false,
	} {
		if got := (Node{Address: address}).isLocal(); got != want {
			t.Errorf("%q is local: %v", address, got)
		}
	}
}
