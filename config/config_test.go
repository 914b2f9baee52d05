package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/asmtp/asmtp/config"
)

// write puts text and an entropy file into a folder and returns the path of the text.
func write(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{"config.yaml": text, "entropy.txt": strings.Repeat("0", 128)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "config.yaml")
}

// The file that default-config prints says what a missing key means, so both must agree.
func TestDefaultIsWhatMissingKeysMean(t *testing.T) {
	printed, err := config.Load(write(t, config.Default))
	if err != nil {
		t.Fatal(err)
	}
	missing, err := config.Load(write(t, "users: []\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, pair := range [][2]string{
		{filepath.Base(printed.Secret.Entropy), filepath.Base(missing.Secret.Entropy)},
		{printed.Network.ListenAddress, missing.Network.ListenAddress},
		{filepath.Base(printed.Storage.Path), filepath.Base(missing.Storage.Path)},
		{printed.LogLevel, missing.LogLevel},
		{printed.Storage.Quota.Large.String(), missing.Storage.Quota.Large.String()},
		{printed.Storage.Quota.Rest.String(), missing.Storage.Quota.Rest.String()},
		{printed.Storage.Reserve.String(), missing.Storage.Reserve.String()},
	} {
		if pair[0] != pair[1] {
			t.Errorf("printed %q, missing means %q", pair[0], pair[1])
		}
	}
	if dir := filepath.Dir(printed.Path()); printed.Storage.Path != filepath.Join(dir, "data") {
		t.Errorf("storage.path = %q, want it below %q", printed.Storage.Path, dir)
	}
}

// A file of the reference, with every key of FORMAT.md section 6, is taken.
func TestReferenceFile(t *testing.T) {
	c, err := config.Load(write(t, `
secret:
  entropy: entropy.txt
users:
  - d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a
network:
  listen_address: "[::1]:9876"
  public_address: "[::1]:9876"
  max_opened_connections: 128
  message_queue_size: 64
  known_message_cache_size: 10240
  heart_beat: { secs: 1, nanos: 0 }
  known_gossips: []
  gossiping:
    minimum_time_elapsed: { secs: 30, nanos: 0 }
    queue_size: 128
    history_size: 10240
storage:
  path: node.db
  gossip_refresh_rate: { secs: 30, nanos: 0 }
  passport_cache_size: 256
`))
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Users) != 1 || c.Network.ListenAddress != "[::1]:9876" || c.Public()[0] != "[::1]:9876" {
		t.Errorf("read %+v", c)
	}
	if len(c.Ignored()) != 8 {
		t.Errorf("ignored keys: %v, want 8", c.Ignored())
	}
}

// Everything that is wrong comes at once, each with its line.
func TestAllProblemsWithLines(t *testing.T) {
	path := write(t, `secret:
  entropy: nowhere.txt
users:
  - xyz
  - 00000000000000000000000000000000
network:
  listen_adress: ":9800"
  public_address: example.org
  max_opened_connections: many
  peers:
    - id: 12
      address: ":1"
storage: data
log_level: loud
colour: blue
`)
	_, err := config.Load(path)
	p, ok := config.AsProblems(err)
	if !ok {
		t.Fatalf("error %v, want *Problems", err)
	}
	want := []struct {
		line int
		text string
	}{
		{2, "secret.entropy"},
		{4, "users: "},
		{7, "unknown key network.listen_adress; did you mean listen_address?"},
		{8, "network.public_address"},
		{9, "network.max_opened_connections: want a number"},
		{11, "network.peers: id"},
		{11, "network.peers: address"},
		{13, "storage: want a section of keys"},
		{14, "log_level"},
		{15, "unknown key colour"},
	}
	if len(p.List) != len(want) {
		t.Fatalf("problems:\n%v\nwant %d of them", p, len(want))
	}
	for i, w := range want {
		if p.List[i].Line != w.line || !strings.HasPrefix(p.List[i].Text, w.text) {
			t.Errorf("problem %d: line %d: %s\nwant line %d: %s…", i, p.List[i].Line, p.List[i].Text, w.line, w.text)
		}
	}
	if first := strings.SplitN(p.Error(), "\n", 2)[0]; !strings.HasPrefix(first, path+":2: ") {
		t.Errorf("first line %q, want it to begin with the file and line", first)
	}
}

func TestWholeFileProblems(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"no yaml", "users: [\n", ":1: did not find"},
		{"tabs", "users:\n\t- a\n", "cannot start any token"},
		{"a list", "- users\n", "want a section of keys, got a list"},
		{"users missing", "log_level: info\n", "users is missing"},
		{"key twice", "users: []\nusers: []\n", "stands here again"},
		{"alias", "users: &a []\nsecret: *a\n", "alias"},
		{"empty", "", "users is missing"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := config.Load(write(t, tt.text))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

// FuzzParse: no file makes the reader panic, and one that is taken has no empty path.
func FuzzParse(f *testing.F) {
	f.Add([]byte(config.Default))
	f.Add([]byte("users: [12, a]\nnetwork: {peers: [{id: 1}]}\n"))
	f.Add([]byte("storage: {gossip_refresh_rate: {secs: 1}}\nusers:"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := config.Parse(filepath.Join(t.TempDir(), "config.yaml"), b)
		if err == nil && (c.Storage.Path == "" || c.Secret.Entropy == "") {
			t.Error("taken without a path")
		}
	})
}
