package durable_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/asmtp/asmtp/internal/durable"
)

// A file that is there is never overwritten by WriteNew and always by Replace, and
// nothing but the file stays.
func TestWriteNewAndReplace(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	if err := durable.WriteNew(path, []byte("first")); err != nil {
		t.Fatal(err)
	}
	if err := durable.WriteNew(path, []byte("second")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("WriteNew of what is there: %v, want ErrExist", err)
	}
	want(t, dir, "first")
	if err := durable.Replace(path, []byte("third")); err != nil {
		t.Fatal(err)
	}
	want(t, dir, "third")
	if err := durable.Replace(filepath.Join(dir, "nowhere", "file"), nil); err == nil {
		t.Error("a file was written into a folder that is not there")
	}
}

// want checks that the folder holds one file, for its owner alone, with this content.
func want(t *testing.T, dir, content string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Fatalf("the folder holds %v (%v), want one file", entries, err)
	}
	path := filepath.Join(dir, entries[0].Name())
	b, err := os.ReadFile(path)
	if err != nil || string(b) != content {
		t.Errorf("%q (%v), want %q", b, err, content)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v (%v), want 0600", info.Mode(), err)
	}
}
