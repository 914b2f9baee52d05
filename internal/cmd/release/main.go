// Command release builds the static binaries that are given to users, with the
// manual pages, the systemd unit and a file of SHA-256 checksums, into the folder dist.
//
// The node is built for Linux on amd64, arm64 and armv7, the client for these and for
// macOS and Windows. Builds are reproducible: same source, same Go, same bytes.
package main

import (
	"crypto/sha256"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
)

type platform struct{ os, arch, arm string }

func (p platform) String() string {
	if p.arm != "" {
		return p.os + "-" + p.arch + "v" + p.arm
	}
	return p.os + "-" + p.arch
}

var (
	nodes   = []platform{{"linux", "amd64", ""}, {"linux", "arm64", ""}, {"linux", "arm", "7"}}
	clients = append(nodes[:len(nodes):len(nodes)],
		platform{"darwin", "amd64", ""}, platform{"darwin", "arm64", ""}, platform{"windows", "amd64", ""})
)

func main() {
	dist := flag.String("dist", "dist", "write to the folder `DIR`")
	version := flag.String("version", "development", "the `VERSION` that the programs print")
	commit := flag.String("commit", "unknown", "the `COMMIT` that the programs print")
	flag.Parse()
	if err := run(*dist, *version, *commit); err != nil {
		fmt.Fprintln(os.Stderr, "release: error:", err)
		os.Exit(1)
	}
}

func run(dist, version, commit string) error {
	if err := os.RemoveAll(dist); err != nil {
		return err
	}
	if err := os.MkdirAll(dist, 0o755); err != nil {
		return err
	}
	const pkg = "github.com/asmtp/asmtp/internal/version"
	ldflags := fmt.Sprintf("-s -w -X %s.Version=%s -X %s.Commit=%s", pkg, version, pkg, commit)
	for program, platforms := range map[string][]platform{"asmtpd": nodes, "asmtp-cli": clients} {
		for _, p := range platforms {
			if err := build(dist, program, p, ldflags); err != nil {
				return err
			}
		}
	}
	if err := manuals(dist); err != nil {
		return err
	}
	for _, name := range []string{"packaging/asmtpd.service", "LICENSE", "LICENSE-MIT", "LICENSE-APACHE", "README.md", "CHANGELOG.md"} {
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dist, filepath.Base(name)), b, 0o644); err != nil {
			return err
		}
	}
	return checksums(dist)
}

func build(dist, program string, p platform, ldflags string) error {
	name := filepath.Join(dist, program+"-"+p.String())
	if p.os == "windows" {
		name += ".exe"
	}
	cmd := exec.Command("go", "build", "-trimpath", "-tags", "grpcnotrace", "-ldflags", ldflags, "-o", name, "./"+program)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+p.os, "GOARCH="+p.arch, "GOARM="+p.arm)
	cmd.Stderr = os.Stderr
	fmt.Println("build", name)
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build %s for %v: %w", program, p, err)
	}
	return nil
}

// manuals writes the manual pages of both programs into dist/man.
func manuals(dist string) error {
	dir, err := filepath.Abs(filepath.Join(dist, "man"))
	if err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	for _, program := range []string{"asmtpd", "asmtp-cli"} {
		cmd := exec.Command("go", "run", "-tags", "man,grpcnotrace", "./"+program, "man", dir)
		cmd.Stderr = os.Stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("manual pages of %s: %w", program, err)
		}
	}
	return nil
}

// checksums writes SHA256SUMS in the form that sha256sum -c reads.
func checksums(dist string) error {
	entries, err := os.ReadDir(dist)
	if err != nil {
		return err
	}
	var lines []string
	for _, e := range entries {
		if e.IsDir() {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dist, e.Name()))
		if err != nil {
			return err
		}
		lines = append(lines, fmt.Sprintf("%x  %s\n", sha256.Sum256(b), e.Name()))
	}
	sort.Strings(lines)
	return os.WriteFile(filepath.Join(dist, "SHA256SUMS"), []byte(strings.Join(lines, "")), 0o644)
}
