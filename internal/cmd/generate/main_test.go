package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCheckedInCodeIsWhatTheSourcesGive(t *testing.T) {
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	files, err := generate(t.Context(), root, sources)
	if err != nil {
		t.Fatal(err)
	}
	if want := len(sources) * len(plugins); len(files) != want {
		t.Errorf("generated %d files, want %d", len(files), want)
	}
	for name, want := range files {
		got, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(name)))
		if err != nil {
			t.Error(err)
		} else if !bytes.Equal(got, want) {
			t.Errorf(`%s is out of date: run "make generate"`, name)
		}
	}
}

func TestBrokenSourceIsRefusedWithItsLine(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "bad.proto"), []byte("syntax = \"proto3\";\nmessage {\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := generate(t.Context(), dir, []string{"bad.proto"}); err == nil {
		t.Fatal("no error")
	} else if want := "bad.proto:2:"; !strings.Contains(err.Error(), want) {
		t.Errorf("error %q does not name the line %q", err, want)
	}
}
