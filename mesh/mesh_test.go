package mesh_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/asmtp/asmtp/mesh"
	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
)

func testLine(t testing.TB, kind mesh.LineKind) (*mesh.Line, string) {
	t.Helper()
	key, err := noise.GenerateKey(noise.NewStream([32]byte{1}))
	if err != nil {
		t.Fatal(err)
	}
	token, err := mesh.NewToken(noise.NewStream([32]byte{2}))
	if err != nil {
		t.Fatal(err)
	}
	l := &mesh.Line{Kind: kind, Mesh: mesh.ID{3}, Node: key.Public(), Addresses: []string{"mail.example.org:9800", "[2001:db8::1]:9800"}, Token: token, End: 1000}
	text, err := l.Text()
	if err != nil {
		t.Fatal(err)
	}
	return l, text
}

func TestLineRoundTrip(t *testing.T) {
	for _, kind := range []mesh.LineKind{mesh.LineMesh, mesh.LineUser, mesh.LineDevice, mesh.LineContact} {
		l, text := testLine(t, kind)
		if !strings.HasPrefix(text, "asmtp-"+string(kind)+"1") {
			t.Errorf("line %q does not say what it is", text)
		}
		wrapped := "  " + strings.ToUpper(text[:30]) + "\r\n\t" + text[30:] + "\n"
		got, err := mesh.ParseLine(wrapped, kind)
		if err != nil {
			t.Fatal(err)
		}
		if got.Mesh != l.Mesh || got.Node != l.Node || !got.Token.Equal(l.Token) || got.End != l.End || strings.Join(got.Addresses, " ") != strings.Join(l.Addresses, " ") {
			t.Errorf("read %+v, want %+v", got, l)
		}
	}
}

// Every cut is named as a cut, every mistyped character as a mistake; neither is ever taken.
func TestLineCutOrMistyped(t *testing.T) {
	_, text := testLine(t, mesh.LineMesh)
	begin := len("asmtp-mesh1")
	for i := begin; i < len(text); i++ {
		if _, err := mesh.ParseLine(text[:i], mesh.LineMesh); !errors.Is(err, mesh.ErrCut) {
			t.Errorf("cut after %d of %d: %v, want ErrCut", i, len(text), err)
		}
		other := byte('a')
		if text[i] == 'a' {
			other = 'b'
		}
		changed := text[:i] + string(other) + text[i+1:]
		if _, err := mesh.ParseLine(changed, mesh.LineMesh); !errors.Is(err, mesh.ErrMistyped) {
			t.Errorf("character %d changed: %v, want ErrMistyped", i, err)
		}
	}
	for _, more := range []string{text + "a", text + text, text + "!"} {
		if _, err := mesh.ParseLine(more, mesh.LineMesh); !errors.Is(err, mesh.ErrMistyped) {
			t.Errorf("something behind: %v, want ErrMistyped", err)
		}
	}
	if _, err := mesh.ParseLine("hello", mesh.LineMesh); !errors.Is(err, mesh.ErrNoLine) {
		t.Errorf("other text: %v, want ErrNoLine", err)
	}
}

func TestLineOfAnotherKindNamesItsCommand(t *testing.T) {
	_, text := testLine(t, mesh.LineUser)
	_, err := mesh.ParseLine(text, mesh.LineMesh)
	wrong, ok := errors.AsType[*mesh.WrongKindError](err)
	if !ok || !strings.Contains(wrong.Command, "asmtp-cli init") {
		t.Errorf("error %v, want a WrongKindError with asmtp-cli init", err)
	}
}

func TestLineEnds(t *testing.T) {
	l, _ := testLine(t, mesh.LineMesh)
	if err := l.CheckEnd(l.End.Time()); err != nil {
		t.Errorf("at its end: %v", err)
	}
	if err := l.CheckEnd(l.End.Time().Add(time.Second)); !errors.Is(err, mesh.ErrEnded) {
		t.Errorf("after its end: %v, want ErrEnded", err)
	}
}

func TestLineWithoutUsableAddress(t *testing.T) {
	l, _ := testLine(t, mesh.LineMesh)
	for _, a := range []string{"", "host", "host:0", "host:65536", ":9800", "a b:1", "host:http", "host:+1",
		"host:080", "[host]:80", "fe80::1:80", "[fe80::1%eth0]:80", "a..b:1", "-a:1", "a-:1", "a,b:1", "user@host:1", "host/x:1",
		strings.Repeat("a", 64) + ":1", strings.Repeat("a.", 126) + "aa:1"} {
		bad := *l
		bad.Addresses = []string{a}
		if text, err := bad.Text(); err == nil {
			t.Errorf("address %q gives %q", a, text)
		}
	}
}

// FuzzParseLine: a line that is taken is, in lower case and without white space, what
// its content encodes to.
func FuzzParseLine(f *testing.F) {
	for _, kind := range []mesh.LineKind{mesh.LineMesh, mesh.LineUser} {
		_, text := testLine(f, kind)
		f.Add(text, string(kind))
		f.Add(text[:len(text)/2], string(kind))
	}
	f.Add("asmtp-mesh1", "mesh")
	f.Fuzz(func(t *testing.T, text, kind string) {
		l, err := mesh.ParseLine(text, mesh.LineKind(kind))
		if err != nil {
			return
		}
		again, err := l.Text()
		if err != nil {
			t.Fatal(err)
		}
		if got := onlyLineCharacters(text); got != again {
			t.Errorf("%q was taken and encodes to %q", got, again)
		}
	})
}

// onlyLineCharacters drops all that never stands in a line.
func onlyLineCharacters(text string) string {
	return strings.Map(func(r rune) rune {
		if r == '-' || r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, strings.ToLower(text))
}

func founded(t testing.TB) (*noise.PrivateKey, *mesh.Set) {
	t.Helper()
	founder, founding, _, err := mesh.Found(noise.NewStream([32]byte{9}), 100)
	if err != nil {
		t.Fatal(err)
	}
	set, err := mesh.NewSet(founding)
	if err != nil {
		t.Fatal(err)
	}
	return founder, set
}

// The result of a union depends on what is in it, not on the order in which it came.
func TestSetIsOrderIndependent(t *testing.T) {
	founder, set := founded(t)
	node, err := noise.GenerateKey(noise.NewStream([32]byte{4}))
	if err != nil {
		t.Fatal(err)
	}
	token, err := mesh.NewToken(noise.NewStream([32]byte{5}))
	if err != nil {
		t.Fatal(err)
	}
	id := set.ID()
	all := []*mesh.Statement{
		mesh.NewCharter(founder, id, mesh.Charter{Number: 1, MailLimit: 1000}, 101),
		mesh.NewCharter(founder, id, mesh.Charter{Number: 2, MailLimit: 2000}, 102),
		mesh.NewCharter(founder, id, mesh.Charter{Number: 2, MailLimit: 3000}, 103),
		mesh.Certify(founder, id, node.Public(), 100, 1),
		mesh.Certify(founder, id, node.Public(), 100, 2),
		mesh.NewInvitation(founder, id, token, 1, 500, 100),
		mesh.NewInvitation(founder, id, token, 2, 600, 100),
	}
	type outcome struct {
		charter mesh.Charter
		cert    [16]byte
		invite  [16]byte
		members int
	}
	look := func(order []int) outcome {
		_, s := founded(t)
		for _, i := range order {
			for range 2 { // twice changes nothing
				if _, err := s.Add(all[i]); err != nil {
					t.Fatal(err)
				}
			}
		}
		cert, ok := s.Certificate(node.Public(), 100)
		if !ok {
			t.Fatal("no certificate")
		}
		invite, err := s.Invitation(token, 550)
		if err != nil {
			t.Fatal(err)
		}
		return outcome{s.Charter(), cert.Hash(), invite.Hash(), len(s.Members(100))}
	}
	want := look([]int{0, 1, 2, 3, 4, 5, 6})
	if want.charter.Number != 2 || want.members != 1 {
		t.Errorf("outcome %+v", want)
	}
	for _, order := range [][]int{{6, 5, 4, 3, 2, 1, 0}, {2, 0, 4, 6, 1, 3, 5}, {1, 2, 5, 3, 6, 0, 4}} {
		if got := look(order); got != want {
			t.Errorf("order %v gives %+v, want %+v", order, got, want)
		}
	}
}

func TestSetRefusesWhatDoesNotCount(t *testing.T) {
	founder, set := founded(t)
	stranger, err := noise.GenerateKey(noise.NewStream([32]byte{6}))
	if err != nil {
		t.Fatal(err)
	}
	for name, st := range map[string]*mesh.Statement{
		"a key that is no admin": mesh.NewCharter(stranger, set.ID(), mesh.DefaultCharter(), 100),
		"another mesh":           mesh.NewCharter(founder, mesh.ID{1}, mesh.DefaultCharter(), 100),
	} {
		if added, err := set.Add(st); added || !errors.Is(err, mesh.ErrForeign) {
			t.Errorf("%s: added %v, error %v, want ErrForeign", name, added, err)
		}
	}
	own := mesh.Certify(stranger, set.ID(), stranger.Public(), 100, 1)
	if err := set.CheckCertificate(own, stranger.Public(), 100); !errors.Is(err, mesh.ErrNotMember) {
		t.Errorf("certificate by oneself: %v, want ErrNotMember", err)
	}
}

// A certificate counts from its begin to its end, with two hours for clocks that differ.
func TestCertificateTimes(t *testing.T) {
	founder, set := founded(t)
	const begin, day, slack = passport.Time(1_000_000), 86400, 7200
	node := founder.Public()
	cert := mesh.Certify(founder, set.ID(), node, begin, 1)
	for _, tt := range []struct {
		now  passport.Time
		good bool
	}{
		{begin - slack - 1, false}, {begin - slack, true}, {begin, true},
		{begin + day, true}, {begin + day + slack, true}, {begin + day + slack + 1, false},
	} {
		if err := set.CheckCertificate(cert, node, tt.now); (err == nil) != tt.good {
			t.Errorf("at begin%+d: %v, want good = %v", int64(tt.now)-int64(begin), err, tt.good)
		}
	}
}

// FuzzParseStatement: what is taken encodes to the same bytes.
func FuzzParseStatement(f *testing.F) {
	founder, set := founded(f)
	token, err := mesh.NewToken(noise.NewStream([32]byte{5}))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(set.Statements()[0].Bytes())
	f.Add(mesh.NewCharter(founder, set.ID(), mesh.DefaultCharter(), 1).Bytes())
	f.Add(mesh.Certify(founder, set.ID(), founder.Public(), 1, 90).Bytes())
	f.Add(mesh.NewInvitation(founder, set.ID(), token, 1, 2, 3).Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		st, err := mesh.ParseStatement(b)
		if err == nil && string(st.Bytes()) != string(b) {
			t.Errorf("%x was taken and encodes to %x", b, st.Bytes())
		}
	})
}

func TestStatementWithAChangedByteIsRefused(t *testing.T) {
	founder, set := founded(t)
	b := mesh.Certify(founder, set.ID(), founder.Public(), 1, 90).Bytes()
	for i := range b {
		changed := append([]byte(nil), b...)
		changed[i] ^= 1
		if _, err := mesh.ParseStatement(changed); err == nil {
			t.Errorf("byte %d changed, and still taken", i)
		}
		if _, err := mesh.ParseStatement(b[:i]); err == nil {
			t.Errorf("cut after %d bytes, and still taken", i)
		}
	}
}
