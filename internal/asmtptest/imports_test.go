package asmtptest_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/asmtp/asmtp/"

// levels holds the packages from the bottom up. A package may import those of lower
// levels only, so a change cannot make two parts depend on each other unnoticed.
// What stands in no level is checked by the other rules alone.
var levels = [][]string{
	{"noise", "internal/cli", "internal/clock", "internal/durable", "internal/fault", "internal/mailfile", "internal/reconcile", "internal/version"},
	{"passport", "topic"},
	{"envelope", "mesh"},
	{"internal/store", "internal/port"},
	{"internal/invite"},
	{"p2p", "internal/spool", "internal/clientapi", "internal/control", "internal/message", "config"},
	{"internal/account", "internal/backup"},
	{"internal/node", "internal/bridge", "internal/transfer"},
	{"asmtpd", "asmtp-cli"},
}

// owners names the only package that may import a heavy dependency.
var owners = map[string][]string{
	"github.com/dgraph-io/badger/":       {"internal/store"},
	"github.com/libp2p/":                 {"p2p"},
	"github.com/ncruces/go-sqlite3":      {"internal/account"},
	"github.com/emersion/go-message":     {"internal/message", "internal/bridge"}, // what go-imap's interface wants
	"github.com/emersion/go-imap":        {"internal/bridge"},
	"github.com/emersion/go-smtp":        {"internal/bridge"},
	"github.com/emersion/go-sasl":        {"internal/bridge"},
	"gopkg.in/yaml.v3":                   {"config"},
	"google.golang.org/grpc":             {"internal/clientapi", "internal/clientapi/nodepb"},
	"github.com/bufbuild/protocompile":   {"internal/cmd/generate"},
	"github.com/klauspost/compress/zstd": {"envelope"},
}

// list returns the lines that go list prints.
func list(t *testing.T, args ...string) []string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", append([]string{"list"}, args...)...).Output()
	if err != nil {
		t.Fatalf("go list %v: %v", args, err)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

// Imports point down.
func TestImportsPointDown(t *testing.T) {
	level := map[string]int{}
	for i, names := range levels {
		for _, name := range names {
			level[module+name] = i
		}
	}
	for _, line := range list(t, "-f", `{{.ImportPath}} {{join .Imports " "}}`, module+"...") {
		fields := strings.Fields(line)
		mine, known := level[fields[0]]
		for _, imported := range fields[1:] {
			if theirs, ok := level[imported]; ok && known && theirs >= mine {
				t.Errorf("%s imports %s, which is not below it", fields[0], imported)
			}
		}
	}
}

// Each heavy dependency has one importer, so that it can be replaced in one place.
func TestOneImporterPerDependency(t *testing.T) {
	for _, line := range list(t, "-f", `{{.ImportPath}} {{join .Imports " "}}`, module+"...") {
		fields := strings.Fields(line)
		name := strings.TrimPrefix(fields[0], module)
		for _, imported := range fields[1:] {
			for dependency, owner := range owners {
				if strings.HasPrefix(imported, dependency) && !slices.Contains(owner, name) {
					t.Errorf("%s imports %s; only %v may", name, imported, owner)
				}
			}
		}
	}
}

// The client links neither the overlay nor the node's database, and the node links
// no transport that it does not use.
func TestNotLinked(t *testing.T) {
	for program, unwanted := range map[string][]string{
		"asmtp-cli": {"github.com/libp2p/", "github.com/dgraph-io/", module + "internal/node"},
		"asmtpd":    {"github.com/quic-go/quic-go", "github.com/pion/webrtc", "github.com/ncruces/go-sqlite3", "github.com/emersion/"},
	} {
		for _, linked := range list(t, "-deps", module+program) {
			for _, prefix := range unwanted {
				if strings.HasPrefix(linked, prefix) {
					t.Errorf("%s links %s", program, linked)
				}
			}
		}
	}
}
