// Package vectors reads the test vectors that a run of the original ASMTP wrote.
//
// [Each] runs a subtest for every case of a group of testdata/vectors.json, or of
// the file that the environment variable ASMTP_VECTORS names. A test
// declares the fields of a case that it reads as a struct with json tags, byte
// strings as [Hex].
//
// It is imported by tests alone.
package vectors

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// Hex is a byte string of the file, there in hex digits.
type Hex []byte

// UnmarshalJSON reads hex digits in quotes, or null.
func (h *Hex) UnmarshalJSON(b []byte) error {
	var s *string
	if err := json.Unmarshal(b, &s); err != nil || s == nil {
		return err
	}
	v, err := hex.DecodeString(*s)
	*h = v
	return err
}

// Result is the original's answer: "ok", or an object that tells how it refused.
type Result struct {
	OK   bool
	Text string
}

// UnmarshalJSON reads the answer. Only the string "ok" is a yes.
func (r *Result) UnmarshalJSON(b []byte) error {
	r.Text = string(b)
	r.OK = bytes.Equal(b, []byte(`"ok"`))
	return nil
}

type file struct {
	Schema int                          `json:"schema"`
	Cases  map[string][]json.RawMessage `json:"cases"`
}

var load = sync.OnceValues(func() (file, error) {
	var f file
	path := os.Getenv("ASMTP_VECTORS")
	if path == "" {
		root, err := moduleRoot()
		if err != nil {
			return f, err
		}
		path = filepath.Join(root, "testdata", "vectors.json")
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return f, err
	}
	if err := json.Unmarshal(b, &f); err != nil {
		return f, fmt.Errorf("%s: %w", path, err)
	}
	if f.Schema != 1 {
		return f, fmt.Errorf("%s: schema %d, want 1", path, f.Schema)
	}
	return f, nil
})

// Each runs check in a subtest for every case of group, named by the case. A group
// without cases fails the test.
func Each[T any](t *testing.T, group string, check func(t *testing.T, c T)) {
	t.Helper()
	f, err := load()
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Cases[group]) == 0 {
		t.Fatalf("no cases in group %q", group)
	}
	for i, raw := range f.Cases[group] {
		var name struct{ Case string }
		if err := json.Unmarshal(raw, &name); err != nil || name.Case == "" {
			name.Case = fmt.Sprintf("%s#%d", group, i)
		}
		t.Run(name.Case, func(t *testing.T) {
			var c T
			if err := json.Unmarshal(raw, &c); err != nil {
				t.Fatal(err)
			}
			check(t, c)
		})
	}
}

// moduleRoot returns the folder of go.mod at or above the working directory, which
// for a test is its package's folder.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", fmt.Errorf("no go.mod above the working directory")
		}
		dir = up
	}
}
