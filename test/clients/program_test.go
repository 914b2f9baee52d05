package clients

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// program is a mail program that is tested.
type program struct {
	name    string
	debian  string   // its package; install.sh has the same
	command string   // what it is called
	version []string // arguments that make it print its version
	did     string   // what the test does with it, for the table
	run     func(*testing.T, *world, *tool)

	found  string // its version
	passed bool
}

// tool is a program that is there, in a home of its own.
type tool struct {
	path string
	home string
}

var number = regexp.MustCompile(`\d+(\.\d+)+|\b\d{8}\b`)

// locate finds the program. Where it is missing the test is skipped, on a machine that
// is to run all of them it fails.
func (p *program) locate(t *testing.T) *tool {
	t.Helper()
	path, err := exec.LookPath("/usr/bin/" + p.command) // Debian's, which the table speaks of
	if err != nil {
		path, err = exec.LookPath(p.command)
	}
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s is not installed: test/clients/install.sh installs it", p.command)
		}
		t.Skipf("%s is not installed: test/clients/install.sh installs it", p.command)
	}
	if p.command == "python3" {
		// What is found may be a script that needs the true home to find Python.
		out, err := exec.CommandContext(t.Context(), path, "-c", "import sys; print(sys.executable)").Output()
		if err != nil {
			t.Fatal(err)
		}
		path = strings.TrimSpace(string(out))
	}
	tool := &tool{path, t.TempDir()}
	out, err := tool.try(t, nil, p.version...)
	if err != nil {
		t.Fatal(err)
	}
	p.found = number.FindString(out)
	return tool
}

// find finds a program for a test of several.
func find(t *testing.T, command string) *tool {
	t.Helper()
	for _, p := range all() {
		if p.command == command {
			return p.locate(t)
		}
	}
	t.Fatalf("%s is not in the table", command)
	return nil
}

// prepare prepares a call. Nothing of the user's own settings is seen by the program.
func (p *tool) prepare(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, p.path, args...)
	cmd.Dir = p.home
	cmd.Env = []string{
		"HOME=" + p.home, "XDG_CONFIG_HOME=" + p.in(".config"), "XDG_DATA_HOME=" + p.in(".local"), "TMPDIR=" + p.home,
		"PATH=" + os.Getenv("PATH"), "LC_ALL=C.UTF-8", "TERM=xterm", "PYTHONDONTWRITEBYTECODE=1",
	}
	return cmd
}

// in is a path in the program's home.
func (p *tool) in(elem ...string) string {
	return filepath.Join(append([]string{p.home}, elem...)...)
}

// try runs the program to its end and returns all that it printed.
func (p *tool) try(t testing.TB, in io.Reader, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	cmd := p.prepare(ctx, args...)
	var out bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, &out, &out
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s: %w\n%s", filepath.Base(p.path), err, shorten(out.String()))
	}
	return out.String(), nil
}

// do is try for what must work.
func (p *tool) do(t testing.TB, in string, args ...string) string {
	t.Helper()
	out, err := p.try(t, strings.NewReader(in), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// shorten keeps the end, where the reason stands.
func shorten(s string) string {
	if len(s) > 8000 {
		return "…" + s[len(s)-8000:]
	}
	return s
}
