package main_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/asmtptest/scripts"
	"github.com/asmtp/asmtp/internal/store"
	"github.com/asmtp/asmtp/passport"
)

// damagedStore makes a store in which the body of an envelope is missing: a backup of a
// good one without that record, and with the right checksum.
func damagedStore(t *testing.T, dir string) {
	t.Helper()
	good, err := store.Open(t.TempDir(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer good.Close()
	end := passport.TimeOf(time.Now().Add(24 * time.Hour))
	e := &envelope.Envelope{Expires: end - end%3600, Sealed: make([]byte, envelope.Sizes[0])}
	if _, err := good.PutEnvelopes(t.Context(), []envelope.Arrival{{Envelope: e}}); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := good.Backup(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	if err := store.Restore(t.Context(), dir, bytes.NewReader(withoutBodies(b.Bytes())), store.Options{}); err != nil {
		t.Fatal(err)
	}
}

// withoutBodies takes the records of bodies out of a stream in the format of the store's backup.go.
func withoutBodies(b []byte) []byte {
	const head = len("asmtp store\n") + 4 + 4
	out, rest, count := bytes.Clone(b[:head]), b[head:], uint64(0)
	for {
		k := int(binary.BigEndian.Uint16(rest))
		if k == 0 {
			break
		}
		size := 6 + k + int(binary.BigEndian.Uint32(rest[2:]))
		if rest[6] != 'b' {
			out = append(out, rest[:size]...)
			count++
		}
		rest = rest[size:]
	}
	out = binary.BigEndian.AppendUint64(append(out, 0, 0), count)
	sum := sha256.Sum256(out)
	return append(out, sum[:]...)
}

// Each problem of a store is a line, and scripts see by the exit code that there is one.
func TestVerifyOfADamagedStore(t *testing.T) {
	data := t.TempDir()
	damagedStore(t, filepath.Join(data, "store"))
	verify := func(args ...string) (stdout, stderr string, code int) {
		var out, errOut bytes.Buffer
		cmd := exec.Command(filepath.Join(scripts.Folder(), "asmtpd"), append([]string{"store", "verify", "--data", data}, args...)...)
		cmd.Stdout, cmd.Stderr = &out, &errOut
		err := cmd.Run()
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			code = exit.ExitCode()
		} else if err != nil {
			t.Fatal(err)
		}
		return out.String(), errOut.String(), code
	}
	out, errOut, code := verify()
	if code != 1 || !strings.Contains(out, "body missing") || strings.Contains(out, "good") || !strings.Contains(errOut, "asmtpd: error: the store has ") {
		t.Errorf("exit %d\n%s%s", code, out, errOut)
	}
	out, _, code = verify("--json")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	var last struct {
		OK       *bool
		Problems int
	}
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil {
		t.Fatal(err)
	}
	if code != 1 || last.OK == nil || *last.OK || last.Problems != len(lines)-1 || last.Problems == 0 || !strings.HasPrefix(lines[0], `{"problem":"envelope `) {
		t.Errorf("exit %d\n%s", code, out)
	}
}
