package passport_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"testing"

	"filippo.io/edwards25519"

	"github.com/asmtp/asmtp/internal/asmtptest/vectors"
	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
)

// The cases of testdata/vectors.json, or of another file of the same schema, came
// out of a run of the original. Everything it answers "ok" to has to be accepted
// here, unless a rule of refusedOnPurpose holds; everything else has to be refused.

// refusedOnPurpose are the rules by which blocks that the original takes are refused,
// decided by the bytes and not by a case's name.
var refusedOnPurpose = []struct {
	reason string
	holds  func(block []byte) bool
}{
	{"a version other than 0 may mean something else by the same bytes (design, section 4)", func(b []byte) bool {
		return len(b) >= 2 && (b[0] != 0 || b[1] != 0)
	}},
	{"signatures with s >= L are variants that anybody can make (RFC 8032; FORMAT.md section 1.3)", func(b []byte) bool {
		return len(b) >= passport.HeaderSize && lenientScalar(b[104:136]) || lenientEntry(b)
	}},
}

// lenientScalar reports whether s is not below the order of the group.
func lenientScalar(s []byte) bool {
	_, err := edwards25519.NewScalar().SetCanonicalBytes(s)
	return err != nil
}

// lenientEntry reports whether a registration is signed with a lenient s.
func lenientEntry(b []byte) bool {
	for c := b[min(len(b), passport.HeaderSize):]; len(c) >= 2; {
		n := 0
		switch t := binary.BigEndian.Uint16(c); {
		case t == 1 && len(c) >= 154:
			if lenientScalar(c[122:154]) {
				return true
			}
			n = 154
		case t == 2:
			n = 38
		case t == 3 && len(c) >= 3:
			n = 39 + 88*int(c[2])
		default:
			return false
		}
		c = c[min(n, len(c)):]
	}
	return false
}

// Every rule of refusedOnPurpose recognises what it is about, nothing else, and what
// it recognises is refused, so no case is passed over that the code would accept.
func TestRefusedOnPurpose(t *testing.T) {
	a := key(t, "a")
	r := request(t, passport.ID{}, "a", "a", start)
	good, err := passport.SignBlock(a, start, passport.Hash{}, []passport.Entry{r, passport.BigShared(2, start)})
	if err != nil {
		t.Fatal(err)
	}
	if reason := purpose(good.Bytes()); reason != "" {
		t.Fatalf("a good block: %s", reason)
	}
	version, header := good.Bytes(), good.Bytes()
	version[1] = 1
	signed := a.Sign(version[:72])
	copy(version[72:], signed)
	addOrder(header[104:136])
	entry := good.Bytes()
	addOrder(entry[passport.HeaderSize+122 : passport.HeaderSize+154])
	content := noise.H16(entry[passport.HeaderSize:])
	copy(entry[8:], content[:])
	copy(entry[72:], a.Sign(entry[:72]))
	for name, b := range map[string][]byte{"version 1": version, "s >= L of the block": header, "s >= L of a registration": entry} {
		if purpose(b) == "" {
			t.Errorf("%s: no rule holds", name)
		}
		if _, err := passport.ParseBlock(b); !errors.Is(err, passport.ErrBlock) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := passport.ParseBlock(version); !errors.Is(err, passport.ErrVersion) {
		t.Errorf("version 1: %v, want ErrVersion", err)
	}
}

// addOrder adds the order L of the group to the little-endian number s.
func addOrder(s []byte) {
	order := []byte("\xed\xd3\xf5\x5c\x1a\x63\x12\x58\xd6\x9c\xf7\xa2\xde\xf9\xde\x14\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x10")
	carry := 0
	for i := range s {
		carry += int(s[i]) + int(order[i])
		s[i], carry = byte(carry), carry>>8
	}
}

// purpose returns the reason for which one of the blocks is refused on purpose.
func purpose(blocks ...[]byte) string {
	for _, r := range refusedOnPurpose {
		if slices.ContainsFunc(blocks, r.holds) {
			return r.reason
		}
	}
	return ""
}

// state is a passport's state as the vectors write it.
type state struct {
	ID         vectors.Hex
	ActiveKeys []vectors.Hex `json:"active_keys"`
	SharedKey  *struct {
		CreatedAt uint32 `json:"created_at"`
		Key       vectors.Hex
	} `json:"shared_key"`
}

func (s *state) check(p *passport.Passport) error {
	if id := p.ID(); !bytes.Equal(id[:], s.ID) {
		return fmt.Errorf("id %v, want %x", id, s.ID)
	}
	active := p.Active()
	if len(active) != len(s.ActiveKeys) {
		return fmt.Errorf("%d active keys, want %d", len(active), len(s.ActiveKeys))
	}
	for i, k := range active {
		if !bytes.Equal(k[:], s.ActiveKeys[i]) || !p.IsActive(k) {
			return fmt.Errorf("active key %d is %v, want %x", i, k, s.ActiveKeys[i])
		}
	}
	key, ok := p.Shared()
	if ok != (s.SharedKey != nil) {
		return fmt.Errorf("has a shared key: %v, want %v", ok, !ok)
	}
	if ok && !bytes.Equal(key[:], s.SharedKey.Key) {
		return fmt.Errorf("shared key %v, want %x", key, s.SharedKey.Key)
	}
	if ok && lastSetShared(p).Created != passport.Time(s.SharedKey.CreatedAt) {
		return fmt.Errorf("shared key of %d, want %d", lastSetShared(p).Created, s.SharedKey.CreatedAt)
	}
	return nil
}

func lastSetShared(p *passport.Passport) (last passport.SetShared) {
	for _, b := range p.Blocks() {
		for _, e := range b.Entries() {
			if s, ok := e.(passport.SetShared); ok {
				last = s
			}
		}
	}
	return last
}

// apply is New for a first block and Append for others.
func apply(p *passport.Passport, b *passport.Block) (*passport.Passport, error) {
	if p == nil {
		return passport.New(b)
	}
	return p.Append(b)
}

// applyBytes reads blocks and applies them in order.
func applyBytes(blocks ...[]byte) (p *passport.Passport, err error) {
	for i, raw := range blocks {
		b, err := passport.ParseBlock(raw)
		if err != nil {
			return p, fmt.Errorf("block %d: %w", i, err)
		}
		next, err := apply(p, b)
		if err != nil {
			return p, fmt.Errorf("block %d: %w", i, err)
		}
		p = next
	}
	return p, nil
}

// export joins blocks as FORMAT.md section 7 says, not by the code under test.
func export(blocks ...[]byte) (e []byte) {
	for _, b := range blocks {
		e = append(binary.BigEndian.AppendUint32(e, uint32(len(b))), b...)
	}
	return e
}

func raws(hex []vectors.Hex) (raw [][]byte) {
	for _, h := range hex {
		raw = append(raw, h)
	}
	return raw
}

// mustFailChanged fails the test if check still passes with one bit of a byte of data
// changed. It shows that the check looks at the data. Of long data it tries every n-th
// byte only, at most 200; TestParseChangedExport tries them all.
func mustFailChanged(t *testing.T, data []byte, check func() error) {
	t.Helper()
	for i := 0; i < len(data); i += 1 + len(data)/200 {
		bit := byte(1) << (i % 8)
		data[i] ^= bit
		if check() == nil {
			t.Errorf("the case passes with a bit of byte %d of %d changed", i, len(data))
		}
		data[i] ^= bit
	}
}

type rulesCase struct {
	What        string
	BaseBlocks  []vectors.Hex `json:"base_blocks"`
	StateBefore *state        `json:"state_before"`
	Block       vectors.Hex
	Parse       vectors.Result
	Apply       vectors.Result
	StateAfter  *state `json:"state_after"`
}

func (c *rulesCase) check() error {
	base, err := applyBytes(raws(c.BaseBlocks)...)
	if err != nil {
		return fmt.Errorf("base: %w", err)
	}
	if base != nil {
		if err := c.StateBefore.check(base); err != nil {
			return fmt.Errorf("state before: %w", err)
		}
	}
	b, err := passport.ParseBlock(c.Block)
	if (err == nil) != c.Parse.OK {
		return fmt.Errorf("ParseBlock: %v, want %s", err, c.Parse.Text)
	}
	whole, exportErr := passport.Parse(export(append(raws(c.BaseBlocks), c.Block)...))
	if (exportErr == nil) != c.Apply.OK {
		return fmt.Errorf("Parse of all: %v, want %s", exportErr, c.Apply.Text)
	}
	if err != nil {
		return nil
	}
	p, err := apply(base, b)
	if (err == nil) != c.Apply.OK {
		return fmt.Errorf("apply: %v, want %s", err, c.Apply.Text)
	}
	if base != nil {
		if err := c.StateBefore.check(base); err != nil {
			return fmt.Errorf("the passport before changed: %w", err)
		}
	}
	if err != nil {
		return nil
	}
	return errors.Join(c.StateAfter.check(p), c.StateAfter.check(whole))
}

// Every rule about one block holds as in the original, and a refused block leaves the
// passport as it was.
func TestReferenceRules(t *testing.T) {
	vectors.Each(t, "passport_rules", func(t *testing.T, c rulesCase) {
		if reason := purpose(append(raws(c.BaseBlocks), c.Block)...); reason != "" {
			if p, err := applyBytes(append(raws(c.BaseBlocks), c.Block)...); err == nil {
				t.Fatalf("%s: accepted as %v, though %s", c.What, p.ID(), reason)
			}
			t.Logf("refused on purpose: %s", reason)
			return
		}
		if err := c.check(); err != nil {
			t.Fatalf("%s: %v", c.What, err)
		}
		if c.Parse.OK {
			mustFailChanged(t, c.Block, c.check)
		}
	})
}

type exportCase struct {
	What         string
	Export       vectors.Hex
	Parse        vectors.Result
	Blocks       []vectors.Hex
	ApplyInOrder vectors.Result `json:"apply_in_order"`
	State        *state
}

func (c *exportCase) check() error {
	// "No blocks" reads, and is no passport (FORMAT.md section 7).
	want := c.Parse.OK && c.ApplyInOrder.OK && len(c.Blocks) > 0
	p, err := passport.Parse(c.Export)
	if (err == nil) != want {
		return fmt.Errorf("Parse: %v, want success %v", err, want)
	}
	if !c.Parse.OK || len(c.Blocks) == 0 {
		return nil
	}
	if !bytes.Equal(export(raws(c.Blocks)...), c.Export) {
		return errors.New("the export is not that of the blocks")
	}
	if err != nil { // the state is that of the blocks before the refused one
		p, _ = applyBytes(raws(c.Blocks)...)
		if p == nil || c.State == nil {
			return nil
		}
		return c.State.check(p)
	}
	for i, b := range p.Blocks() {
		if !bytes.Equal(b.Bytes(), c.Blocks[i]) {
			return fmt.Errorf("block %d has other bytes", i)
		}
	}
	if !bytes.Equal(p.Export(), c.Export) || p.Size() != len(c.Export) {
		return errors.New("export has other bytes")
	}
	return c.State.check(p)
}

func TestReferenceExport(t *testing.T) {
	vectors.Each(t, "passport_export", func(t *testing.T, c exportCase) {
		if reason := purpose(raws(c.Blocks)...); reason != "" {
			if _, err := passport.Parse(c.Export); err == nil {
				t.Fatalf("%s: accepted, though %s", c.What, reason)
			}
			t.Logf("refused on purpose: %s", reason)
			return
		}
		if err := c.check(); err != nil {
			t.Fatalf("%s: %v", c.What, err)
		}
		if c.Parse.OK {
			mustFailChanged(t, c.Export, c.check)
		}
	})
}

func TestReferencePassportTopic(t *testing.T) {
	type topicCase struct{ Passport, Topic vectors.Hex }
	vectors.Each(t, "passport_topic", func(t *testing.T, c topicCase) {
		check := func() error {
			if got := passport.Topic(passport.ID(c.Passport)); !bytes.Equal(got[:], c.Topic) {
				return fmt.Errorf("Topic(%x) = %x, want %x", c.Passport, got, c.Topic)
			}
			return nil
		}
		if err := check(); err != nil {
			t.Fatal(err)
		}
		mustFailChanged(t, c.Passport, check)
		mustFailChanged(t, c.Topic, check)
	})
}

// keyPair is a key as the vectors write it.
type keyPair struct{ Public, Secret vectors.Hex }

func (k keyPair) private() (*noise.PrivateKey, error) {
	key, err := noise.NewPrivateKey(k.Secret)
	if err != nil {
		return nil, err
	}
	if public := key.Public(); !bytes.Equal(public[:], k.Public) {
		return nil, fmt.Errorf("public key %v, want %x", public, k.Public)
	}
	return key, nil
}
