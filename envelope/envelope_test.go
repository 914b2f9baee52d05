package envelope_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/topic"
)

// encoded returns an envelope of a class as bytes, with a tag that fits nothing.
func encoded(class int) []byte {
	b := []byte{envelope.Version}
	b = binary.BigEndian.AppendUint32(b, uint32(expires))
	b = append(b, bytes.Repeat([]byte{0x77}, topic.TagSize)...)
	return append(b, text(envelope.Sizes[class])...)
}

// The values come out of testdata/golden.py.
func TestHashesGolden(t *testing.T) {
	key := topic.TagKey(unhex(t, "ac716f235089fabc42a4d913b780a49627bc690c88830b16770f9f24b0768536"))
	for class, want := range []struct{ sealHash, tag, id string }{
		{"e1c1f89ac56ec3de8dade58063ad8fe72d377b80a89ef1800aabca3e01792120", "586cc13c116ef723f61a4afccf31bc10", "37252f542c3aa8760450ff541f6495285b53f2084dc83da2dfdbd383d3100bb1"},
		{"8475da2e89d4446e28a4d8aebd13d8b83e36c80940f6c4cd8da99499b26591b0", "c036eedda5b3816c56bd824a01824b7c", "21888688040d830639589b9c2258eabc4d56e4efaa3da6eb95e12d78a25e9fe2"},
		{"eba0c969c3df10831f5e1d03a5ca1f4f8629be8f827c695b0b16f6016f8d4894", "21789966c4ed9eef8500d828425f8cf0", "bf5c355223af60c7f3f233893605f221771b4433524b1cb6d276fe5972f7548a"},
		{"6f8804b8cf60d1f552749195c11ae9223a904d122aab622f291a303926e6150d", "21384a8a4a5a6233c5275ce51bd72f04", "6498017000ceb73e5be2f9ba833ed1a90e91af33b380f8d897782fe4b06ac6f3"},
	} {
		built := &envelope.Envelope{Expires: expires, Sealed: text(envelope.Sizes[class])}
		built.Tag = key.Tag(built.SealHash())
		parsed, err := envelope.Parse(built.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range []*envelope.Envelope{built, parsed} {
			if got := envelope.ID(e.SealHash()).String(); got != want.sealHash {
				t.Errorf("class %d: seal hash = %s, want %s", class, got, want.sealHash)
			}
			if e.Tag.String() != want.tag {
				t.Errorf("class %d: tag = %v, want %s", class, e.Tag, want.tag)
			}
			if e.ID().String() != want.id {
				t.Errorf("class %d: id = %v, want %s", class, e.ID(), want.id)
			}
			if e.Class() != class || e.Epoch() != 178 {
				t.Errorf("class %d, epoch %d, want %d and 178", e.Class(), e.Epoch(), class)
			}
			m := e.Meta()
			if m.ID != e.ID() || m.SealHash != e.SealHash() || m.Tag != e.Tag || m.Expires != expires || m.Epoch() != 178 || m.Size != len(e.Bytes()) {
				t.Errorf("class %d: meta = %+v", class, m)
			}
		}
	}
}

func TestParseKeepsACopy(t *testing.T) {
	b := encoded(0)
	e, err := envelope.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	want := bytes.Clone(b)
	clear(b)
	if !bytes.Equal(e.Bytes(), want) {
		t.Error("the envelope changed with the bytes it was read from")
	}
}

func TestParseRefuses(t *testing.T) {
	good := encoded(0)
	for _, tt := range []struct {
		name string
		b    []byte
	}{
		{"nothing", nil},
		{"header cut", good[:envelope.HeaderSize-1]},
		{"header alone", good[:envelope.HeaderSize]},
		{"one byte less", good[:len(good)-1]},
		{"one byte more", append(bytes.Clone(good), 0)},
		{"version 1", with(good, 0, 1)},
		{"version 3", with(good, 0, 3)},
		{"crooked expires", with(good, 4, good[4]+1)},
		{"beyond the largest", make([]byte, envelope.MaxSize+1)},
	} {
		if e, err := envelope.Parse(tt.b); !errors.Is(err, envelope.ErrEnvelope) || e != nil {
			t.Errorf("%s: %v, %v", tt.name, e, err)
		}
	}
}

// with returns b with one byte set.
func with(b []byte, i int, v byte) []byte {
	b = bytes.Clone(b)
	b[i] = v
	return b
}

func TestIDText(t *testing.T) {
	e, _ := envelope.Parse(encoded(0))
	id, err := envelope.ParseID(e.ID().String())
	if err != nil || id != e.ID() {
		t.Errorf("ParseID(String()) = %v, %v", id, err)
	}
	mail, err := envelope.NewMailID(nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := envelope.ParseMailID(mail.String()); err != nil || got != mail {
		t.Errorf("ParseMailID(String()) = %v, %v", got, err)
	}
	for _, bad := range []string{"", "0", mail.String() + "0", "zz" + mail.String()[2:]} {
		if _, err := envelope.ParseMailID(bad); !errors.Is(err, envelope.ErrID) {
			t.Errorf("ParseMailID(%q): %v", bad, err)
		}
		if _, err := envelope.ParseID(bad); !errors.Is(err, envelope.ErrID) {
			t.Errorf("ParseID(%q): %v", bad, err)
		}
	}
}
