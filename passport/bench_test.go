package passport_test

import (
	"testing"

	"github.com/asmtp/asmtp/passport"
)

// The longest chain there may be, read from its export.
func BenchmarkParseLongest(b *testing.B) {
	export, err := longest()
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(export)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := passport.Parse(export); err != nil {
			b.Fatal(err)
		}
	}
}

// A passport as a user has it: three blocks.
func BenchmarkParseOrdinary(b *testing.B) {
	p := create(b, "a")
	p, _, err := p.Change(nil, key(b, "a"), start, passport.Change{
		Register: []passport.Register{request(b, p.ID(), "b", "b", start)}, Rotate: true,
	})
	if err != nil {
		b.Fatal(err)
	}
	if p, _, err = p.Change(nil, key(b, "b"), start, passport.Change{Rotate: true}); err != nil {
		b.Fatal(err)
	}
	export := p.Export()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := passport.Parse(export); err != nil {
			b.Fatal(err)
		}
	}
}

// One block on the end of a chain of 4,095.
func BenchmarkAppendToLongest(b *testing.B) {
	export, err := longest()
	if err != nil {
		b.Fatal(err)
	}
	whole, err := passport.Parse(export)
	if err != nil {
		b.Fatal(err)
	}
	last := whole.Blocks()[passport.MaxBlocks-1]
	p, err := passport.Parse(export[:len(export)-4-last.Size()])
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Append(last); err != nil {
			b.Fatal(err)
		}
	}
}
