package clientapi

import (
	"bytes"
	"errors"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/clientapi/nodepb"
	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
)

func blocks(t testing.TB) (id passport.ID, list [][]byte) {
	t.Helper()
	device, err := noise.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	p, _, err := passport.Create(nil, device, 1000)
	if err != nil {
		t.Fatal(err)
	}
	if p, _, err = p.Change(nil, device, 1000, passport.Change{Rotate: true}); err != nil {
		t.Fatal(err)
	}
	for _, b := range p.Blocks() {
		list = append(list, b.Bytes())
	}
	return p.ID(), list
}

// A passport that this program cannot read does not keep it from the next ones.
func TestUnreadablePassportIsReportedAndPassedOver(t *testing.T) {
	id, b := blocks(t)
	var g gathered
	if _, complete, err := g.add(&nodepb.PassportsReply{Id: id[:], Block: []byte{9}}); complete || err != nil {
		t.Fatal(complete, err)
	}
	change, complete, err := g.add(&nodepb.PassportsReply{Id: id[:], Block: b[1], Last: true})
	if err != nil || !complete || change.Err == nil || change.Passport != nil || change.ID != id {
		t.Errorf("got %+v, %v, %v", change, complete, err)
	}
}

func TestLyingPassportsAreNotTaken(t *testing.T) {
	id, b := blocks(t)
	other := passport.ID{1}
	var g gathered
	change, complete, err := g.add(&nodepb.PassportsReply{Id: other[:], Block: b[0], Last: true})
	if err != nil || !complete || !errors.Is(change.Err, ErrAnswer) || change.Passport != nil {
		t.Errorf("under another id: got %+v, %v", change, err)
	}
	for name, second := range map[string]*nodepb.PassportsReply{
		"blocks of two mixed": {Id: other[:], Block: b[1], Last: true},
		"no end":              {CaughtUp: true},
		"cut id":              {Id: id[:15], Block: b[1]},
	} {
		g = gathered{}
		if _, _, err := g.add(&nodepb.PassportsReply{Id: id[:], Block: b[0]}); err != nil {
			t.Fatal(err)
		}
		if _, _, err := g.add(second); !errors.Is(err, ErrAnswer) {
			t.Errorf("%s: got %v, want %v", name, err, ErrAnswer)
		}
	}
}

func TestRefusalOfWhatWasNotOfferedIsNoAnswer(t *testing.T) {
	ids := []envelope.ID{{1}}
	for name, a := range map[string]*nodepb.Accepted{"none": nil, "index": {Refused: []*nodepb.Refusal{{Index: 1}}}} {
		if _, err := refusals(ids, a); !errors.Is(err, ErrAnswer) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	got, err := refusals(ids, &nodepb.Accepted{Refused: []*nodepb.Refusal{{Reason: 99, Text: "new"}}})
	if err != nil || len(got) != 1 || got[0].Reason != ReasonOther || got[0].ID != ids[0] {
		t.Errorf("a newer reason: got %v, %v", got, err)
	}
}

// Whatever a node sends as passports, the client takes only chains that are whole and
// of the id that they came under.
func FuzzPassportsReply(f *testing.F) {
	id, b := blocks(f)
	first := &nodepb.PassportsReply{Id: id[:], Block: b[0], Number: 1}
	second := &nodepb.PassportsReply{Id: id[:], Block: b[1], Number: 1, Last: true}
	for _, pair := range [][2]*nodepb.PassportsReply{{first, second}, {second, first}, {first, {CaughtUp: true}}} {
		x, err := proto.Marshal(pair[0])
		if err != nil {
			f.Fatal(err)
		}
		y, err := proto.Marshal(pair[1])
		if err != nil {
			f.Fatal(err)
		}
		f.Add(x, y)
	}
	f.Fuzz(func(t *testing.T, x, y []byte) {
		var g gathered
		for _, m := range [][]byte{x, y} {
			r := new(nodepb.PassportsReply)
			if proto.Unmarshal(m, r) != nil {
				return
			}
			change, complete, err := g.add(r)
			if err != nil {
				return
			}
			if !complete || change.CaughtUp {
				continue
			}
			if (change.Passport == nil) != (change.Err != nil) {
				t.Errorf("passport %v and error %v", change.Passport, change.Err)
			}
			if p := change.Passport; p != nil && (p.ID() != change.ID || !bytes.Equal(change.ID[:], r.Id)) {
				t.Errorf("passport %v under id %v", p.ID(), change.ID)
			}
			g = gathered{}
		}
	})
}

func FuzzNames(f *testing.F) {
	f.Add(make([]byte, 64))
	f.Add(make([]byte, 33))
	f.Fuzz(func(t *testing.T, b []byte) {
		if ids, err := unpack[envelope.ID](b, 8); err == nil && (!bytes.Equal(pack(ids), b) || len(ids) > 8) {
			t.Errorf("%x became %x", b, pack(ids))
		}
	})
}
