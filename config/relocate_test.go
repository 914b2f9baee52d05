package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/asmtp/asmtp/config"
)

// A file that was moved says the new places and, of all else, the same as before.
func TestRelocate(t *testing.T) {
	here := config.Places{Entropy: "entropy.txt", Data: "."}
	for _, tt := range []struct {
		name, text string
		same       bool
		keep       string // what must still be there
	}{
		{"at home already", "secret:\n  entropy: entropy.txt\nusers: []\nstorage: {path: .} # mine\n", true, "# mine"},
		{"elsewhere", "# top\nsecret:\n  entropy: /etc/asmtpd/entropy.txt\nusers: []\nstorage:\n  # where\n  path: /var/lib/asmtpd\n  quota: {rest: 5MiB}\n", false, "# where"},
		{"keys missing", "users: []\nlog_level: warn # loud\n", false, "# loud"},
		{"empty sections", "secret:\nstorage:\nusers: []\n", false, "users: []"},
		{"null", "secret: {entropy: }\nstorage: {path: ~}\nusers: []\n", false, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, err := config.Relocate([]byte(tt.text), here)
			if err != nil {
				t.Fatal(err)
			}
			if (string(b) == tt.text) != tt.same || !strings.Contains(string(b), tt.keep) {
				t.Errorf("became\n%s", b)
			}
			path := write(t, string(b))
			c, err := config.Load(path)
			if err != nil {
				t.Fatalf("%v\n%s", err, b)
			}
			if dir := filepath.Dir(path); c.Storage.Path != dir || c.Secret.Entropy != filepath.Join(dir, "entropy.txt") {
				t.Errorf("places %q, %q\n%s", c.Storage.Path, c.Secret.Entropy, b)
			}
			if strings.Contains(tt.text, "5MiB") && c.Storage.Quota.Rest != 5<<20 {
				t.Errorf("the quota was lost:\n%s", b)
			}
		})
	}
}

func TestRelocatePasswordFile(t *testing.T) {
	b, err := config.Relocate([]byte("secret: {password_file: /run/secret}\nusers: []\n"), config.Places{Entropy: "entropy.txt", PasswordFile: "password.txt", Data: "."})
	if err != nil {
		t.Fatal(err)
	}
	path := write(t, string(b))
	if err := os.WriteFile(filepath.Join(filepath.Dir(path), "password.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := config.Load(path); err != nil || filepath.Base(c.Secret.PasswordFile) != "password.txt" {
		t.Errorf("%v\n%s", err, b)
	}
	for _, bad := range []string{"", "- a\n", "users: [\n"} {
		if _, err := config.Relocate([]byte(bad), config.Places{}); err == nil {
			t.Errorf("%q was moved", bad)
		}
	}
}
