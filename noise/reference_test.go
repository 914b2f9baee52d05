package noise_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/asmtp/asmtp/internal/asmtptest/vectors"
	"github.com/asmtp/asmtp/noise"
)

type hexBytes = vectors.Hex

// check compares one case with what we do. A refusal wraps errByDesign when the
// original accepts the case, and design.md section 4 refuses it on purpose.
type check func(raw json.RawMessage) error

var errByDesign = errors.New("refused by design")

// group is a group of vectors.
type group struct {
	name string
	check
	// informative fields say how the original came to a case; a change of them need not be noticed.
	informative string
}

var groups = []group{
	{"chacha_rng", of(checkStream), ""},
	{"ed25519", of(checkSignature), ""},
	{"ed25519_verify", of(checkVerify), ""},
	{"ed25519_exchange", of(checkExchange), ""},
	{"curve25519", of(checkShared), ""},
	{"curve25519_exchange", of(checkSharedExchange), ""},
	{"curve25519_secret_parse", of(checkSecretParse), ""},
	{"seed_derive", of(checkSeed), ""},
	{"noise_x", of(checkX), ""},
	{"noise_x_invalid", of(checkXInvalid), "recipient_public"},
	{"noise_n", of(checkN), ""},
	{"noise_ik", of(checkIK), ""},
	{"session", of(checkSession), ""},
	{"handshake_invalid", of(checkHandshake), ""},
	{"frame_invalid", of(checkFrame), ""},
}

func of[T any](f func(T) error) check {
	return func(raw json.RawMessage) error {
		var c T
		if err := json.Unmarshal(raw, &c); err != nil {
			return err
		}
		return f(c)
	}
}

func TestReference(t *testing.T) {
	for _, g := range groups {
		t.Run(g.name, func(t *testing.T) {
			vectors.Each(t, g.name, func(t *testing.T, raw json.RawMessage) {
				if g.name == "seed_derive" {
					t.Parallel() // a second each
				}
				err := g.check(raw)
				if errors.Is(err, errByDesign) {
					t.Skip(err)
				}
				if err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// A byte changed anywhere in a case that the original accepts must make its check
// fail, and so must another answer in any case.
func TestReferenceNoticesChange(t *testing.T) {
	for _, g := range groups {
		changes := 0
		t.Run(g.name, func(t *testing.T) {
			vectors.Each(t, g.name, func(t *testing.T, raw json.RawMessage) {
				if g.name == "seed_derive" { // slow: one change of one case
					if changes > 0 {
						return
					}
				} else if g.check(raw) != nil {
					return
				}
				var c any
				if err := json.Unmarshal(raw, &c); err != nil {
					t.Fatal(err)
				}
				mutate(c, "", func(field string) bool {
					if field == g.informative || g.name == "seed_derive" && field != "seed" {
						return true
					}
					changes++
					changed, err := json.Marshal(c)
					if err != nil {
						t.Fatal(err)
					}
					if err := g.check(changed); err == nil && !unseen(g.name, field, c) {
						t.Errorf("a change of %s is not noticed", field)
					}
					return true
				})
			})
		})
		if changes == 0 {
			t.Errorf("%s: nothing was changed", g.name)
		}
	}
}

// unseen tells which changes cannot be noticed: mostly, in a case that is refused,
// bytes that are as wrong as before.
func unseen(group, field string, c any) bool {
	m := c.(map[string]any)
	refused := m["result"] != nil && m["result"] != "ok" || m["verifies"] == false
	answer := field == "result" || field == "verifies"
	switch group {
	case "ed25519_verify":
		// a refused case is refused with other bytes too
		return m["verifies"] != true && field != "verifies" || m["s_canonical"] != true && field != "s_canonical"
	case "curve25519_secret_parse": // the case has no second value to compare a good secret with
		return field != "result"
	case "handshake_invalid": // a responder's case does not have its answer
		if m["side"] == "responder" && field == "responder_ephemeral_secret" {
			return true
		}
	case "frame_invalid":
		return m["what"] != "untouched" && field != "original_results"
	}
	return refused && !answer
}

// mutate calls f with one byte changed in each field in turn, and changes it back.
func mutate(v any, field string, f func(field string) bool) {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			mutate(e, field, f)
		}
	case map[string]any:
		for name, e := range v {
			var other any
			switch e := e.(type) {
			case string:
				switch b, err := hex.DecodeString(e); {
				case e == "ok":
					other = map[string]any{"error": []any{"no"}}
				case err == nil && len(b) > 0:
					b[len(b)/2] ^= 0x10
					other = hex.EncodeToString(b)
				default:
					continue // text
				}
			case bool:
				other = !e
			case map[string]any:
				if name != "result" {
					mutate(e, name, f)
					continue
				}
				other = "ok"
			default:
				mutate(e, name, f)
				continue
			}
			v[name] = other
			f(name)
			v[name] = e
		}
	}
}

// long is a byte string that is too long to stand in the file: X of fields X, X_len, ...
type long struct {
	whole, head, tail, seed, sha256 hexBytes
	length                          int
}

// bytes returns the string if it is known: it is given whole or comes out of a seed.
func (l long) bytes() ([]byte, error) {
	b := []byte(l.whole)
	if b == nil && l.seed != nil {
		b = stream(l.seed, l.length)
	}
	if b == nil {
		return nil, errors.New("bytes are not given")
	}
	return b, l.is(b)
}

// is reports how b differs from the string.
func (l long) is(b []byte) error {
	sum := sha256.Sum256(b)
	switch {
	case l.sha256 != nil && !bytes.Equal(sum[:], l.sha256),
		l.sha256 != nil && len(b) != l.length,
		l.whole != nil && !bytes.Equal(b, l.whole),
		!bytes.HasPrefix(b, l.head), !bytes.HasSuffix(b, l.tail):
		return fmt.Errorf("%d bytes differ from the %d wanted", len(b), l.length)
	}
	return nil
}

func stream(seed []byte, n int) []byte {
	b := make([]byte, n)
	noise.NewStream([32]byte(seed)).Read(b)
	return b
}

// same is an error if a value is not the one wanted.
func same(what string, got, want []byte) error {
	if !bytes.Equal(got, want) {
		return fmt.Errorf("%s: got %x, want %x", what, got, want)
	}
	return nil
}

// first returns the first error.
func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// answer compares whether something was refused with the original's answer.
func answer(r vectors.Result, err error) error {
	if r.OK && err != nil {
		return fmt.Errorf("refused: %w", err)
	}
	if !r.OK && err == nil {
		return errors.New("accepted, but the original refuses it: " + strings.TrimSpace(r.Text))
	}
	return nil
}

// must32 refuses to convert a string that is no key.
func must32(fields ...[]byte) error {
	for _, f := range fields {
		if len(f) != 32 {
			return fmt.Errorf("a key of %d bytes", len(f))
		}
	}
	return nil
}
