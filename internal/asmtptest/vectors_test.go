package asmtptest_test

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// leftOut holds the groups of vectors that no test runs, each with the reason.
var leftOut = map[string]string{
	"gossip":                     "messages of the original's overlay; they come with its client protocol",
	"message":                    "as gossip",
	"message_invalid":            "as gossip",
	"original_builder_bug":       "records a bug of the original, no requirement",
	"original_lenient_signature": "records a bug of the original, no requirement",
}

// Every group of the original's vectors is run by a test, or left out for a stated reason.
func TestEveryVectorGroupIsRun(t *testing.T) {
	root := filepath.Join("..", "..")
	b, err := os.ReadFile(filepath.Join(root, "testdata", "vectors.json"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Cases map[string]json.RawMessage }
	if err := json.Unmarshal(b, &file); err != nil {
		t.Fatal(err)
	}
	var tests strings.Builder
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") || strings.Contains(path, "asmtptest") {
			return err
		}
		b, err := os.ReadFile(path)
		tests.Write(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for group := range file.Cases {
		if _, out := leftOut[group]; !out && !strings.Contains(tests.String(), `"`+group+`"`) {
			t.Errorf("no test names the group %s", group)
		}
	}
}
