package passport_test

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/asmtp/asmtp/passport"
)

// The text forms of ids and hashes read back, and what is none is refused without
// being repeated.
func TestTextForms(t *testing.T) {
	const text = "00112233445566778899aabbccddeeff"
	id, err := passport.ParseID(strings.ToUpper(text))
	if err != nil || id.String() != text || id.Short() != "00112233" || id.IsZero() {
		t.Errorf("%v, %v", id, err)
	}
	h, err := passport.ParseHash(text)
	if err != nil || h.String() != text || h.Short() != "00112233" || h != passport.Hash(id) {
		t.Errorf("%v, %v", h, err)
	}
	type both struct {
		ID   passport.ID
		Hash passport.Hash
	}
	b, err := json.Marshal(both{id, h})
	if err != nil {
		t.Fatal(err)
	}
	var got both
	if err := json.Unmarshal(b, &got); err != nil || got != (both{id, h}) {
		t.Errorf("%s: %v", b, err)
	}
	for _, bad := range []string{"", text[1:], text + "0", "g" + text[1:], " " + text[1:]} {
		_, idErr := passport.ParseID(bad)
		_, hashErr := passport.ParseHash(bad)
		if !errors.Is(idErr, passport.ErrID) || !errors.Is(hashErr, passport.ErrID) {
			t.Errorf("%q: %v, %v", bad, idErr, hashErr)
		}
		if bad != "" && strings.Contains(idErr.Error(), bad) {
			t.Errorf("%q is repeated: %v", bad, idErr)
		}
	}
}

// Times count from 2020 and stop at what four bytes hold.
func TestTime(t *testing.T) {
	for _, tt := range []struct {
		at   time.Time
		want passport.Time
	}{
		{time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), 0},
		{time.Date(2020, 1, 2, 0, 0, 1, 999_999_999, time.UTC), 86401},
		{time.Date(2020, 1, 1, 1, 0, 0, 0, time.FixedZone("", 3600)), 0},
		{time.Date(1969, 1, 1, 0, 0, 0, 0, time.UTC), 0},
		{time.Time{}, 0},
		{time.Date(2156, 2, 7, 6, 28, 15, 0, time.UTC), math.MaxUint32},
		{time.Date(3000, 1, 1, 0, 0, 0, 0, time.UTC), math.MaxUint32},
	} {
		if got := passport.TimeOf(tt.at); got != tt.want {
			t.Errorf("TimeOf(%v) = %d, want %d", tt.at, uint32(got), uint32(tt.want))
		}
	}
	if got := passport.Time(86401); !got.Time().Equal(time.Date(2020, 1, 2, 0, 0, 1, 0, time.UTC)) || got.String() != "2020-01-02T00:00:01Z" {
		t.Errorf("%v", got)
	}
	if got := passport.Time(10).Add(-time.Minute); got != 0 {
		t.Errorf("ten seconds less a minute is %d", uint32(got))
	}
	if got := passport.Time(math.MaxUint32).Add(time.Hour); got != math.MaxUint32 {
		t.Errorf("an hour after the end is %d", uint32(got))
	}
	if d := passport.Time(5).Sub(10); d != -5*time.Second {
		t.Errorf("5 - 10 = %v", d)
	}
}

// Aliases read as the reference's language reads broken UTF-8: one U+FFFD for each
// longest part of a sequence. The wanted texts are those of the table "U+FFFD for
// truncated and ill-formed sequences" of the Unicode standard, section 3.9.
func TestAliasText(t *testing.T) {
	for _, tt := range []struct{ field, want string }{
		{"laptop", "laptop"},
		{"", ""},
		{"a\x00b", "a"},
		{"ä\ufffd€", "ä\ufffd€"},
		{"\xc0\xaf\xe0\x80\xbf\xf0\x81\x82\x41", strings.Repeat("\ufffd", 8) + "A"},
		{"\xed\xa0\x80\xed\xbf\xbf\xed\xaf\x41", strings.Repeat("\ufffd", 8) + "A"},
		{"\xf4\x91\x92\x93\xff\x41\x80\xbf\x42", strings.Repeat("\ufffd", 5) + "A\ufffd\ufffdB"},
		{"\xe1\x80\xe2\xf0\x91\x92\xf1\xbf\x41", strings.Repeat("\ufffd", 4) + "A"},
		{"\xe1\x80", "\ufffd"},
		{strings.Repeat("x", 30) + "\xe1\x80", strings.Repeat("x", 30) + "\ufffd"},
	} {
		var field [passport.MaxAlias]byte
		copy(field[:], tt.field)
		if got := passport.AliasText(field[:]); got != tt.want {
			t.Errorf("%q reads %q, want %q", tt.field, got, tt.want)
		}
	}
}
