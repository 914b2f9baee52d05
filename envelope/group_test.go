package envelope_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/passport"
)

const limit = 50 << 20

// inbox keeps the parts of many mails in memory, as a client keeps them on disk.
type inbox map[envelope.MailKey]*incoming

type incoming struct {
	group  *envelope.Group
	bodies map[uint16][]byte
}

// add takes in a part and returns the whole body when it was the last one missing.
func (in inbox) add(from passport.ID, p *envelope.Part) ([]byte, error) {
	m := in[p.Key(from)]
	if m == nil {
		g, err := envelope.NewGroup(p, limit)
		if err != nil {
			return nil, err
		}
		m = &incoming{group: g, bodies: map[uint16][]byte{p.Index: p.Body}}
		in[p.Key(from)] = m
	} else {
		fresh, err := m.group.Add(p)
		if err != nil || !fresh {
			return nil, err
		}
		m.bodies[p.Index] = p.Body
	}
	if !m.group.Complete() {
		return nil, nil
	}
	var body bytes.Buffer
	err := m.group.WriteBody(&body, func(i uint16) ([]byte, error) { return m.bodies[i], nil })
	return append([]byte{}, body.Bytes()...), err
}

func TestPartsInAnyOrderMakeTheBody(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, tt := range bodySizes {
		body := text(tt.n)
		parts := split(t, body)
		parts = append(parts, parts[:len(parts)/2]...) // some come twice
		random.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
		in, complete := inbox{}, 0
		for _, p := range parts {
			got, err := in.add(passport.ID{1}, p)
			if err != nil {
				t.Fatalf("%d bytes: %v", tt.n, err)
			}
			if got == nil {
				continue
			}
			complete++
			if !bytes.Equal(got, body) {
				t.Errorf("%d bytes: another body", tt.n)
			}
		}
		if complete != 1 || len(in) != 1 {
			t.Errorf("%d bytes: complete %d times, %d mails", tt.n, complete, len(in))
		}
	}
}

// Mails of one id are told apart by sender, kind and body.
func TestMixedMailsStayApart(t *testing.T) {
	bodies := [][]byte{text(3 * 61267), bytes.Repeat([]byte("x"), 3*61267), text(2*61267 + 1)}
	type sent struct {
		from passport.ID
		part *envelope.Part
	}
	var all []sent
	for _, body := range bodies {
		for _, kind := range []envelope.Kind{envelope.KindMail, envelope.KindOwnState} {
			for from := range byte(2) {
				parts, err := envelope.Split(kind, 0, envelope.MailID{7}, body, passport.Hash{}, passport.Hash{})
				if err != nil {
					t.Fatal(err)
				}
				for _, p := range parts {
					all = append(all, sent{passport.ID{from}, p})
				}
			}
		}
	}
	rand.New(rand.NewPCG(3, 4)).Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	in, complete := inbox{}, 0
	for _, s := range all {
		got, err := in.add(s.from, s.part)
		if err != nil {
			t.Fatal(err)
		}
		if got == nil {
			continue
		}
		complete++
		if envelope.HashBody(got) != s.part.BodyHash {
			t.Error("another body")
		}
	}
	if complete != 12 {
		t.Errorf("%d mails complete, want 12", complete)
	}
}

func TestMissingNamesTheParts(t *testing.T) {
	parts := split(t, text(200*61267))
	g, err := envelope.NewGroup(parts[64], limit)
	if err != nil {
		t.Fatal(err)
	}
	var want []uint16
	for i, p := range parts {
		if i%63 == 0 || i == 199 {
			want = append(want, uint16(i))
			continue
		}
		if fresh, err := g.Add(p); err != nil || fresh == (i == 64) {
			t.Fatalf("part %d: fresh %v, %v", i, fresh, err)
		}
	}
	if got := g.Missing(); !slices.Equal(got, want) {
		t.Errorf("missing %d, want %d", got, want)
	}
	if g.Complete() || g.Count() != 200 || g.Total() != 200*61267 {
		t.Errorf("complete %v, %d parts, %d bytes", g.Complete(), g.Count(), g.Total())
	}
	if err := g.WriteBody(&bytes.Buffer{}, nil); err == nil {
		t.Error("writes the body of a mail with parts missing")
	}
	for _, i := range want {
		if g.Has(i) || !g.Mark(i) || g.Mark(i) || !g.Has(i) {
			t.Errorf("part %d is not marked once", i)
		}
	}
	if !g.Complete() || len(g.Missing()) != 0 || g.Mark(200) || g.Has(200) {
		t.Error("not complete in the end")
	}
}

func TestGroupRefusesContradictions(t *testing.T) {
	parts := split(t, text(3*61267))
	g, err := envelope.NewGroup(parts[0], limit)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		change func(p *envelope.Part)
		want   error
	}{
		"another id":     {func(p *envelope.Part) { p.MailID[0]++ }, envelope.ErrOtherMail},
		"another body":   {func(p *envelope.Part) { p.BodyHash[0]++ }, envelope.ErrOtherMail},
		"another kind":   {func(p *envelope.Part) { p.Kind++ }, envelope.ErrOtherMail},
		"other flags":    {func(p *envelope.Part) { p.Flags = 1 }, envelope.ErrInconsistent},
		"other total":    {func(p *envelope.Part) { p.Total-- }, envelope.ErrInconsistent},
		"other count":    {func(p *envelope.Part) { p.Count++ }, envelope.ErrInconsistent},
		"body cut":       {func(p *envelope.Part) { p.Body = p.Body[1:] }, envelope.ErrPart},
		"beyond the end": {func(p *envelope.Part) { p.Index = 3 }, envelope.ErrPart},
	} {
		p := *parts[1]
		tt.change(&p)
		if fresh, err := g.Add(&p); !errors.Is(err, tt.want) || fresh {
			t.Errorf("%s: %v, %v, want %v", name, fresh, err, tt.want)
		}
	}
	if got := g.Missing(); !slices.Equal(got, []uint16{1, 2}) {
		t.Errorf("refused parts changed the group: missing %d", got)
	}
	tips := *parts[1]
	tips.SenderTip[0]++
	if fresh, err := g.Add(&tips); err != nil || !fresh {
		t.Errorf("a part with a newer tip: %v, %v", fresh, err)
	}
}

func TestNewGroupRefusesTheLimit(t *testing.T) {
	p := split(t, text(1000))[0]
	if _, err := envelope.NewGroup(p, 999); !errors.Is(err, envelope.ErrTooLarge) {
		t.Errorf("error = %v, want ErrTooLarge", err)
	}
	if _, err := envelope.NewGroup(p, 1000); err != nil {
		t.Error(err)
	}
	if _, err := envelope.NewGroup(&envelope.Part{}, 1000); !errors.Is(err, envelope.ErrPart) {
		t.Errorf("error = %v, want ErrPart", err)
	}
}

func TestWriteBodyChecksTheHash(t *testing.T) {
	parts := split(t, text(61267+10))
	g, err := envelope.NewGroup(parts[0], limit)
	if err != nil {
		t.Fatal(err)
	}
	g.Mark(1)
	lost := errors.New("disk")
	for name, tt := range map[string]struct {
		body func(i uint16) ([]byte, error)
		want error
	}{
		"as sent":   {func(i uint16) ([]byte, error) { return parts[i].Body, nil }, nil},
		"changed":   {func(i uint16) ([]byte, error) { return make([]byte, len(parts[i].Body)), nil }, envelope.ErrBodyHash},
		"not there": {func(i uint16) ([]byte, error) { return nil, lost }, lost},
	} {
		if err := g.WriteBody(&bytes.Buffer{}, tt.body); !errors.Is(err, tt.want) {
			t.Errorf("%s: error = %v, want %v", name, err, tt.want)
		}
	}
	short := func(i uint16) ([]byte, error) { return parts[i].Body[1:], nil }
	if err := g.WriteBody(&bytes.Buffer{}, short); err == nil {
		t.Error("a short part is written")
	}
}

func TestBodyCheckWantsTheLengthToo(t *testing.T) {
	p := *split(t, text(10))[0]
	p.Total = 11
	c := envelope.NewBodyCheck(&p)
	c.Write(p.Body)
	if err := c.Check(); !errors.Is(err, envelope.ErrBodyHash) {
		t.Errorf("error = %v, want ErrBodyHash", err)
	}
}
