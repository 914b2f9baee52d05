package passport_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"testing"

	"github.com/asmtp/asmtp/passport"
)

// seeds returns the cases of a group of the vectors.
func seeds[T any](f *testing.F, group string) []T {
	f.Helper()
	b, err := os.ReadFile("../testdata/vectors.json")
	if err != nil {
		f.Fatal(err)
	}
	var file struct{ Cases map[string]json.RawMessage }
	if err := json.Unmarshal(b, &file); err != nil {
		f.Fatal(err)
	}
	var cases []T
	if err := json.Unmarshal(file.Cases[group], &cases); err != nil || len(cases) == 0 {
		f.Fatalf("no seeds in %q: %v", group, err)
	}
	return cases
}

// encodeAgain is the block made anew from what was read of it.
func encodeAgain(b *passport.Block) []byte {
	encoded := b.Bytes()[:passport.HeaderSize]
	for _, e := range b.Entries() {
		encoded = passport.AppendTo(e, encoded)
	}
	return encoded
}

// What ParseBlock accepts encodes to the same bytes, header and entries.
func FuzzParseBlock(f *testing.F) {
	for _, c := range seeds[rulesCase](f, "passport_rules") {
		f.Add([]byte(c.Block))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		b, err := passport.ParseBlock(in)
		if (b == nil) != (err != nil) {
			t.Fatalf("block %v with error %v", b, err)
		}
		if err == nil && (!bytes.Equal(b.Bytes(), in) || !bytes.Equal(encodeAgain(b), in)) {
			t.Fatal("encodes to other bytes")
		}
	})
}

// What Parse accepts exports as the same bytes, and every block appended on its own
// gives the same passport.
func FuzzParse(f *testing.F) {
	for _, c := range seeds[exportCase](f, "passport_export") {
		f.Add([]byte(c.Export))
	}
	for _, c := range seeds[lifeCase](f, "passport") {
		f.Add([]byte(c.Export))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		p, err := passport.Parse(in)
		if err != nil {
			return
		}
		if !bytes.Equal(p.Export(), in) || p.Size() != len(in) {
			t.Fatal("exports other bytes")
		}
		var one *passport.Passport
		for i, b := range p.Blocks() {
			if one, err = apply(one, b); err != nil {
				t.Fatalf("block %d: %v", i, err)
			}
		}
		if one.Tip() != p.Tip() || len(one.Active()) != len(p.Active()) {
			t.Fatal("block by block it is another passport")
		}
	})
}

// Signed by an active device, any content at all is either refused, leaving the
// passport as it was, or read and applied alike by Append and Parse. Without a
// signature of ours hardly any input of a fuzzer would get to the entries.
func FuzzBlockContent(f *testing.F) {
	for _, c := range seeds[rulesCase](f, "passport_rules") {
		f.Add([]byte(c.Block[min(len(c.Block), passport.HeaderSize):]), uint32(start))
	}
	a := key(f, "a")
	p := create(f, "a")
	b := request(f, p.ID(), "b", "b", start)
	f.Add(b.Bytes(), uint32(start))
	f.Add(append(b.Bytes(), passport.AppendTo(passport.Deregister{Key: a.Public(), Created: start}, nil)...), uint32(start))
	before := p.Export()
	f.Fuzz(func(t *testing.T, content []byte, at uint32) {
		block, err := passport.SignBlock(a, passport.Time(at), p.Tip(), []passport.Entry{passport.Raw(content)})
		if err != nil {
			return // signBlock reads what it wrote
		}
		if !bytes.Equal(encodeAgain(block), block.Bytes()) {
			t.Fatal("encodes to other bytes")
		}
		next, err := p.Append(block)
		if !bytes.Equal(p.Export(), before) || len(p.Active()) != 1 {
			t.Fatal("Append changed the passport")
		}
		parsed, parseErr := passport.Parse(export(p.Blocks()[0].Bytes(), block.Bytes()))
		if (err == nil) != (parseErr == nil) {
			t.Fatalf("Append: %v; Parse: %v", err, parseErr)
		}
		if err != nil {
			if !errors.Is(err, passport.ErrRefused) && !errors.Is(err, passport.ErrLimit) {
				t.Fatal(err)
			}
			return
		}
		if len(next.Active()) == 0 || parsed.Tip() != next.Tip() || len(parsed.Active()) != len(next.Active()) {
			t.Fatalf("%d keys, read from the export %d", len(next.Active()), len(parsed.Active()))
		}
	})
}

// What ParseRegister accepts encodes to the same bytes.
func FuzzParseRegister(f *testing.F) {
	f.Add(request(f, passport.ID{1}, "b", "b", start).Bytes())
	f.Fuzz(func(t *testing.T, in []byte) {
		if r, err := passport.ParseRegister(in); err == nil && !bytes.Equal(r.Bytes(), in) {
			t.Fatal("encodes to other bytes")
		}
	})
}
