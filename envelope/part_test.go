package envelope_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"testing"

	"github.com/asmtp/asmtp/envelope"
)

// Offsets in an encoded part, written down here once more from docs/formats.md.
const (
	atVersion = 0
	atKind    = 1
	atFlags   = 2
	atTotal   = 35
	atIndex   = 39
	atCount   = 41
	atLength  = 75
	atBody    = 77
)

// The encoding comes out of testdata/golden.py, without its padding.
func TestPartGolden(t *testing.T) {
	parts := split(t, []byte("hello, mesh"))
	p := parts[0]
	copy(p.SenderTip[:], bytes.Repeat([]byte{0xd4}, 16))
	copy(p.RecipientTip[:], bytes.Repeat([]byte{0xe5}, 16))
	b := plain(t, p)
	if len(b) != 928 {
		t.Errorf("%d bytes, want 928", len(b))
	}
	const want = "010000c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3f8e26e0e16a1d7d5385c291b378dac450000000b00000001d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5000b68656c6c6f2c206d657368"
	if got := hex.EncodeToString(bytes.TrimRight(b, "\x00")); got != want {
		t.Errorf("part = %s, want %s", got, want)
	}
}

// bodySizes are the lengths at which the number of parts or the class of the last one
// changes, and what they must be.
var bodySizes = []struct {
	n, parts, lastClass int
}{
	{0, 1, 0},
	{1, 1, 0},
	{851, 1, 0},
	{852, 1, 1},
	{3923, 1, 1},
	{3924, 1, 2},
	{16211, 1, 2},
	{16212, 1, 3},
	{61267, 1, 3},
	{61268, 2, 0},
	{61267 + 851, 2, 0},
	{61267 + 852, 2, 1},
	{61267 + 16211, 2, 2},
	{61267 + 16212, 2, 3},
	{2 * 61267, 2, 3},
	{2*61267 + 1, 3, 0},
	{50 << 20, 856, 3},
}

func TestSplitFillsAllButTheLast(t *testing.T) {
	for _, tt := range bodySizes {
		t.Run(fmt.Sprint(tt.n), func(t *testing.T) {
			body := text(tt.n)
			parts := split(t, body)
			if len(parts) != tt.parts || envelope.PartCount(int64(tt.n)) != int64(tt.parts) {
				t.Fatalf("%d parts, PartCount %d, want %d", len(parts), envelope.PartCount(int64(tt.n)), tt.parts)
			}
			var joined []byte
			for i, p := range parts {
				b := plain(t, p)
				class := 3
				if i == len(parts)-1 {
					class = tt.lastClass
				}
				if len(b) != envelope.Sizes[class]-96 {
					t.Fatalf("part %d has %d bytes, want class %d", i, len(b), class)
				}
				got, err := envelope.ParsePart(b)
				if err != nil {
					t.Fatalf("part %d: %v", i, err)
				}
				joined = append(joined, got.Body...)
			}
			if !bytes.Equal(joined, body) {
				t.Error("the parts' bodies do not make the body")
			}
		})
	}
}

// A sender may use a smaller class throughout, for links that are slow.
func TestPartsOfSmallerClassesAreAccepted(t *testing.T) {
	body := text(3*3923 + 5)
	for i, p := range smallParts(body) {
		if _, err := envelope.ParsePart(plain(t, p)); err != nil {
			t.Errorf("part %d: %v", i, err)
		}
	}
}

func TestParsePartRefuses(t *testing.T) {
	single := plain(t, split(t, text(100))[0])
	two := split(t, text(61267+10))
	first, last := plain(t, two[0]), plain(t, two[1])
	for _, tt := range []struct {
		name string
		b    []byte
		want error
	}{
		{"nothing", nil, envelope.ErrPart},
		{"cut", single[:len(single)-1], envelope.ErrPart},
		{"header cut", single[:atBody-1], envelope.ErrPart},
		{"of no class", append(bytes.Clone(single), 0), envelope.ErrPart},
		{"version 0", with(single, atVersion, 0), envelope.ErrPart},
		{"version 2", with(single, atVersion, 2), envelope.ErrNewer},
		{"unknown kind", with(single, atKind, 5), envelope.ErrNewer},
		{"unknown flag", with(single, atFlags, 2), envelope.ErrPart},
		{"known and unknown flag", with(single, atFlags, 0x81), envelope.ErrPart},
		{"padding at the end", with(single, len(single)-1, 1), envelope.ErrPart},
		{"padding at the start", with(single, atBody+100, 1), envelope.ErrPart},
		{"length beyond the part", put16(single, atLength, 0xffff), envelope.ErrPart},
		{"length less than total", put16(single, atLength, 99), envelope.ErrPart},
		{"count 0", put16(single, atCount, 0), envelope.ErrPart},
		{"index = count", put16(single, atIndex, 1), envelope.ErrPart},
		{"total less than body", put32(single, atTotal, 99), envelope.ErrPart},
		{"total more than body", put32(single, atTotal, 101), envelope.ErrPart},
		{"total for two parts", put32(single, atTotal, 61268), envelope.ErrPart},
		{"two parts for so few bytes", put16(single, atCount, 2), envelope.ErrPart},
		{"most parts", put16(single, atCount, 0xffff), envelope.ErrPart},
		{"largest total", put32(single, atTotal, 0xffffffff), envelope.ErrPart},
		{"index = count = largest", put16(put16(single, atIndex, 0xffff), atCount, 0xffff), envelope.ErrPart},
		{"first in the last's place", put16(first, atIndex, 1), envelope.ErrPart},
		{"last in the first's place", put16(last, atIndex, 0), envelope.ErrPart},
		{"first not full", put16(with(first, len(first)-1, 0), atLength, 61266), envelope.ErrPart},
		{"last too short for total", put32(last, atTotal, 61267+11), envelope.ErrPart},
		{"three parts", put16(first, atCount, 3), envelope.ErrPart},
		{"total of one part less", put32(first, atTotal, 61267), envelope.ErrPart},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := envelope.ParsePart(tt.b)
			if !errors.Is(err, tt.want) || p != nil {
				t.Errorf("%v, %v, want %v", p, err, tt.want)
			}
		})
	}
	for _, b := range [][]byte{single, first, last, with(single, atFlags, 1), with(single, atKind, 4)} {
		if _, err := envelope.ParsePart(b); err != nil {
			t.Errorf("good part: %v", err)
		}
	}
}

// What a newer program sends is told from junk even if it breaks today's rules.
func TestNewerComesBeforeOtherFaults(t *testing.T) {
	b := plain(t, split(t, text(100))[0])
	b = with(with(b, len(b)-1, 1), atFlags, 0xff)
	for _, newer := range [][]byte{with(b, atVersion, 2), with(b, atKind, 9)} {
		if _, err := envelope.ParsePart(newer); !errors.Is(err, envelope.ErrNewer) {
			t.Errorf("error = %v, want ErrNewer", err)
		}
	}
}

func TestEncodeRefusesWhatParseWould(t *testing.T) {
	two := split(t, text(61267+10))
	for name, tt := range map[string]struct {
		p    envelope.Part
		size int
	}{
		"no class":        {*two[1], 1000},
		"too small":       {*two[0], envelope.PartSize(2)},
		"first not full":  {envelope.Part{Total: 852, Count: 2, Body: text(851)}, envelope.PartSize(1)},
		"unknown flag":    {envelope.Part{Count: 1, Flags: 2}, envelope.PartSize(0)},
		"unknown kind":    {envelope.Part{Count: 1, Kind: 5}, envelope.PartSize(0)},
		"zero value":      {envelope.Part{}, envelope.PartSize(0)},
		"total and body":  {envelope.Part{Count: 1, Total: 1}, envelope.PartSize(0)},
		"negative size":   {*two[1], -96},
		"size of nothing": {*two[1], 0},
	} {
		if b, err := tt.p.Encode(tt.size); err == nil {
			t.Errorf("%s: %d bytes", name, len(b))
		}
	}
}

func put16(b []byte, at int, v uint16) []byte {
	b = bytes.Clone(b)
	binary.BigEndian.PutUint16(b[at:], v)
	return b
}

func put32(b []byte, at int, v uint32) []byte {
	b = bytes.Clone(b)
	binary.BigEndian.PutUint32(b[at:], v)
	return b
}
