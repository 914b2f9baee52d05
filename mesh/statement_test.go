package mesh_test

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/blake2b"

	"github.com/asmtp/asmtp/mesh"
	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
)

// encode writes a statement by hand as the package comment lays it out, signed under
// any context.
func encode(version, kind byte, id mesh.ID, issuer *noise.PrivateKey, made uint32, payload []byte, context string) []byte {
	b := append([]byte{version, kind}, id[:]...)
	key := issuer.Public()
	b = append(b, key[:]...)
	b = binary.BigEndian.AppendUint32(b, made)
	b = append(b, payload...)
	return append(b, issuer.Sign(append([]byte(context), b...))...)
}

const statementContext = "asmtp/2 statement\x00"

// cat joins u8, u32, u64, byte slices and arrays, integers big-endian.
func cat(parts ...any) (b []byte) {
	for _, p := range parts {
		switch p := p.(type) {
		case noise.PublicKey:
			b = append(b, p[:]...)
		case [32]byte:
			b = append(b, p[:]...)
		default:
			var err error
			if b, err = binary.Append(b, binary.BigEndian, p); err != nil {
				panic(err)
			}
		}
	}
	return b
}

// The bytes are those of the package comment.
func TestStatementLayout(t *testing.T) {
	founder, set := founded(t)
	id := set.ID()
	node, err := noise.GenerateKey(noise.NewStream([32]byte{4}))
	if err != nil {
		t.Fatal(err)
	}
	token := mesh.Token{7}
	charter := mesh.Charter{Number: 3, Retention: 2 * time.Hour, MailLimit: 4, DailyBytes: 5, AnyoneInvites: true}
	for _, tt := range []struct {
		got  *mesh.Statement
		want []byte
	}{
		{set.Statements()[0], encode(1, 1, mesh.ID{}, founder, 100, nil, statementContext)},
		{mesh.NewCharter(founder, id, charter, 200), encode(1, 2, id, founder, 200, cat(uint32(3), uint32(7200), uint64(4), uint64(5), uint8(1)), statementContext)},
		{mesh.Certify(founder, id, node.Public(), 200, 2), encode(1, 3, id, founder, 200, cat(node.Public(), uint32(200), uint32(200+2*86400)), statementContext)},
		{mesh.NewInvitation(founder, id, token, 6, 900, 200), encode(1, 4, id, founder, 200, cat(blake2b.Sum256(token[:]), uint32(6), uint32(900)), statementContext)},
	} {
		if string(tt.got.Bytes()) != string(tt.want) {
			t.Errorf("%v:\n got %x\nwant %x", tt.got.Kind(), tt.got.Bytes(), tt.want)
		}
		if _, err := mesh.ParseStatement(tt.want); err != nil {
			t.Errorf("%v: %v", tt.got.Kind(), err)
		}
		if len(tt.want) > mesh.MaxStatement {
			t.Errorf("%v has %d bytes", tt.got.Kind(), len(tt.want))
		}
	}
	if got := set.Statements()[0]; mesh.ID(got.Hash()) != id || got.Mesh() != id {
		t.Error("the mesh id is not the hash of the founding statement")
	}
}

// What is well signed and still makes no sense is refused, and what a newer program
// may mean is told apart from it.
func TestParseStatementRefuses(t *testing.T) {
	founder, set := founded(t)
	id, key := set.ID(), founder.Public()
	days := func(n uint32) uint32 { return n * 86400 }
	good := cat(key, uint32(1000), uint32(1000+86400))
	statement := func(kind byte, payload []byte) []byte {
		return encode(1, kind, id, founder, 1, payload, statementContext)
	}
	for name, tt := range map[string]struct {
		b    []byte
		want error
	}{
		"nothing":                        {nil, mesh.ErrStatement},
		"too long":                       {make([]byte, mesh.MaxStatement+1), mesh.ErrStatement},
		"another version":                {encode(2, 3, id, founder, 1, good, statementContext), mesh.ErrNewer},
		"admit-admin":                    {statement(5, cat(key)), mesh.ErrNewer},
		"remove-admin":                   {statement(6, cat(key)), mesh.ErrNewer},
		"revoke":                         {statement(7, cat(key)), mesh.ErrNewer},
		"unknown kind":                   {statement(200, nil), mesh.ErrNewer},
		"kind 0":                         {statement(0, nil), mesh.ErrNewer},
		"charter with unknown flags":     {statement(2, cat(uint32(1), uint32(7200), uint64(1), uint64(1), uint8(2))), mesh.ErrNewer},
		"signed for something else":      {encode(1, 3, id, founder, 1, good, "asmtp/2 other\x00"), mesh.ErrStatement},
		"signed without a context":       {encode(1, 3, id, founder, 1, good, ""), mesh.ErrStatement},
		"founding with a mesh id":        {encode(1, 1, id, founder, 1, nil, statementContext), mesh.ErrStatement},
		"founding with a payload":        {encode(1, 1, mesh.ID{}, founder, 1, []byte{0}, statementContext), mesh.ErrStatement},
		"certificate without a mesh":     {encode(1, 3, mesh.ID{}, founder, 1, good, statementContext), mesh.ErrStatement},
		"certificate of 90 days 1 s":     {statement(3, cat(key, uint32(1000), 1000+days(90)+1)), mesh.ErrStatement},
		"certificate that ends first":    {statement(3, cat(key, uint32(1000), uint32(999))), mesh.ErrStatement},
		"certificate for no key":         {statement(3, cat(noise.PublicKey{}, uint32(1000), uint32(2000))), mesh.ErrStatement},
		"certificate for the identity":   {statement(3, cat(noise.PublicKey{1}, uint32(1000), uint32(2000))), mesh.ErrStatement},
		"certificate with a byte more":   {statement(3, append(slices.Clone(good), 0)), mesh.ErrStatement},
		"charter that keeps nothing":     {statement(2, cat(uint32(1), uint32(0), uint64(1), uint64(1), uint8(0))), mesh.ErrStatement},
		"charter that keeps for ever":    {statement(2, cat(uint32(1), ^uint32(0), uint64(1), uint64(1), uint8(0))), mesh.ErrStatement},
		"charter without mail":           {statement(2, cat(uint32(1), uint32(7200), uint64(0), uint64(1), uint8(0))), mesh.ErrStatement},
		"invitation without uses":        {statement(4, cat([32]byte{1}, uint32(0), uint32(9))), mesh.ErrStatement},
		"invitation with a byte less":    {statement(4, cat([32]byte{1}, uint32(1), uint16(9), uint8(0))), mesh.ErrStatement},
		"another issuer than its signer": {func() []byte { b := statement(3, good); b[20] ^= 1; return b }(), mesh.ErrStatement},
	} {
		st, err := mesh.ParseStatement(tt.b)
		if st != nil || !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
	if _, err := mesh.ParseStatement(statement(3, cat(key, uint32(1000), 1000+days(90)))); err != nil {
		t.Errorf("certificate of 90 days: %v", err)
	}
}

// The union is one value: two nodes that add the same statements in orders drawn at
// random, with doubles, agree in all that a set answers.
func TestUnionInAnyOrder(t *testing.T) {
	for seed := range uint64(8) {
		testUnionInAnyOrder(t, rand.New(rand.NewPCG(seed, 2)))
	}
}

func testUnionInAnyOrder(t *testing.T, r *rand.Rand) {
	founder, set := founded(t)
	id := set.ID()
	var nodes []*noise.PrivateKey
	var tokens []mesh.Token
	var all []*mesh.Statement
	for i := range byte(4) {
		k, err := noise.GenerateKey(noise.NewStream([32]byte{i, 5}))
		if err != nil {
			t.Fatal(err)
		}
		nodes, tokens = append(nodes, k), append(tokens, mesh.Token{i + 1})
	}
	for range 60 {
		now := passport.Time(1_000_000 + 86400*r.Uint32N(4)) // so that some end at one time
		switch r.IntN(3) {
		case 0:
			all = append(all, mesh.NewCharter(founder, id, mesh.Charter{Number: r.Uint32N(3), MailLimit: 1 + r.Uint64N(9)}, now))
		case 1:
			all = append(all, mesh.Certify(founder, id, nodes[r.IntN(4)].Public(), now, 1+r.IntN(3)))
		case 2:
			all = append(all, mesh.NewInvitation(founder, id, tokens[r.IntN(4)], 1, now+passport.Time(86400*r.Uint32N(3)), now))
		}
	}
	answers := func() string {
		_, s := founded(t)
		for _, i := range append(r.Perm(len(all)), r.Perm(len(all))...) {
			if _, err := s.Add(all[i]); err != nil {
				t.Fatal(err)
			}
		}
		var b strings.Builder
		fmt.Fprintln(&b, s.Charter(), s.Hashes())
		for now := passport.Time(1_000_000); now < 1_600_000; now += 50_000 {
			fmt.Fprintln(&b, s.Members(now))
			for i := range nodes {
				c, ok := s.Certificate(nodes[i].Public(), now)
				st, err := s.Invitation(tokens[i], now)
				fmt.Fprintln(&b, ok, err, ok && s.CheckCertificate(c, nodes[i].Public(), now) == nil)
				if ok {
					fmt.Fprintf(&b, "%x\n", c.Hash())
				}
				if err == nil {
					fmt.Fprintf(&b, "%x\n", st.Hash())
				}
			}
		}
		return b.String()
	}
	want := answers()
	for range 6 {
		if got := answers(); got != want {
			t.Fatalf("another order gives\n%s\nwant\n%s", got, want)
		}
	}
}

// Two sets that send each other what the other lacks are equal afterwards.
func TestMissingMakesSetsEqual(t *testing.T) {
	founder, a := founded(t)
	_, b := founded(t)
	add := func(s *mesh.Set, n uint32) {
		if _, err := s.Add(mesh.NewCharter(founder, a.ID(), mesh.Charter{Number: n}, 1)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range uint32(10) {
		if i < 7 {
			add(a, i)
		}
		if i > 3 {
			add(b, i)
		}
	}
	toB, toA := a.Missing(b.Hashes()), b.Missing(a.Hashes())
	if len(toB) != 4 || len(toA) != 3 {
		t.Errorf("%d and %d are missing, want 4 and 3", len(toB), len(toA))
	}
	var encoded [][]byte
	for _, st := range append(a.Statements(), toA...) {
		encoded = append(encoded, st.Bytes())
	}
	slices.Reverse(encoded)
	joined, err := mesh.ParseSet(a.ID(), encoded)
	if err != nil {
		t.Fatal(err)
	}
	for _, st := range toB {
		if _, err := b.Add(st); err != nil {
			t.Fatal(err)
		}
	}
	if fmt.Sprint(joined.Hashes()) != fmt.Sprint(b.Hashes()) || joined.Charter() != b.Charter() {
		t.Error("the sets differ after the exchange")
	}
	if _, err := mesh.ParseSet(mesh.ID{1}, encoded); !errors.Is(err, mesh.ErrForeign) {
		t.Errorf("set of another mesh: %v, want ErrForeign", err)
	}
}

func TestInvitationsAreUnknownOrEnded(t *testing.T) {
	founder, set := founded(t)
	token := mesh.Token{1}
	if _, err := set.Invitation(token, 1); !errors.Is(err, mesh.ErrUnknownInvitation) {
		t.Errorf("%v, want ErrUnknownInvitation", err)
	}
	if _, err := set.Add(mesh.NewInvitation(founder, set.ID(), token, 0, 500, 100)); err != nil {
		t.Fatal(err)
	}
	st, err := set.Invitation(token, 500)
	if err != nil {
		t.Fatal(err)
	}
	if i, ok := st.Invitation(); !ok || i.Uses != 1 || i.TokenHash != token.Hash() {
		t.Errorf("invitation %+v", i)
	}
	if _, err := set.Invitation(token, 501); !errors.Is(err, mesh.ErrEnded) {
		t.Errorf("%v, want ErrEnded", err)
	}
	if _, err := set.Invitation(mesh.Token{2}, 1); !errors.Is(err, mesh.ErrUnknownInvitation) {
		t.Errorf("%v, want ErrUnknownInvitation", err)
	}
}

func TestSetIsSafeForConcurrentUse(t *testing.T) {
	founder, set := founded(t)
	var wg sync.WaitGroup
	for g := range uint32(4) {
		wg.Go(func() {
			for i := range uint32(20) {
				set.Add(mesh.NewCharter(founder, set.ID(), mesh.Charter{Number: g*100 + i}, 1))
				set.Missing(nil)
				set.Charter()
				set.Members(100)
			}
		})
	}
	wg.Wait()
	if n := len(set.Statements()); n != 81 || set.Charter().Number != 319 {
		t.Errorf("%d statements, charter %d; want 81 and 319", n, set.Charter().Number)
	}
}

// Secrets are in no text, whatever prints them.
func TestSecretsDoNotPrint(t *testing.T) {
	secret, token := mesh.Secret{0xab, 0xcd}, mesh.Token{0xab, 0xcd}
	for _, verb := range []string{"%v", "%+v", "%#v", "%x", "%s", "%d"} {
		text := fmt.Sprintf(verb+verb+verb, secret, &token, struct{ T mesh.Token }{token})
		for _, bad := range []string{"abcd", "171", "0xab", "\xab"} {
			if strings.Contains(text, bad) {
				t.Errorf("%s prints %q", verb, text)
			}
		}
	}
	if b, err := json.Marshal(secret); err == nil {
		t.Errorf("JSON of a secret: %s", b)
	}
	if b, err := json.Marshal(mesh.Line{Token: token}); err == nil {
		t.Errorf("JSON of a line: %s", b)
	}
}

// The derivations of design.md section 5, done again here.
func TestDerivations(t *testing.T) {
	secret, token := mesh.Secret{1}, mesh.Token{2}
	if secret.PSK() != blake2b.Sum256(append([]byte("asmtp/2 mesh psk"), secret[:]...)) {
		t.Error("psk of a mesh")
	}
	if token.PSK() != blake2b.Sum256(append([]byte("asmtp/2 token psk"), token[:]...)) || token.Hash() != blake2b.Sum256(token[:]) {
		t.Error("psk or hash of a token")
	}
	h, err := blake2b.New(16, nil)
	if err != nil {
		t.Fatal(err)
	}
	h.Write(append([]byte("asmtp/2 hint"), token[:]...))
	if hint := token.Hint(); string(hint[:]) != string(h.Sum(nil)[:8]) {
		t.Error("hint of a token")
	}
	if other := (mesh.Secret{2}); secret.GossipTopic() == other.GossipTopic() {
		t.Error("two meshes with one gossip topic")
	}
	if _, err := mesh.ParseToken(make([]byte, 32)); !errors.Is(err, mesh.ErrSecret) {
		t.Errorf("zero token: %v", err)
	}
	if _, err := mesh.ParseSecret(make([]byte, 31)); !errors.Is(err, mesh.ErrSecret) {
		t.Errorf("short secret: %v", err)
	}
}

// A line survives what people and mail programs do to it.
func TestLineAsPasted(t *testing.T) {
	l, text := testLine(t, mesh.LineMesh)
	for _, pasted := range []string{"'" + text + "'", "“" + text + "”\n", "<" + text + ">", "\ufeff" + text[:40] + "\u200b" + text[40:], "\u00a0" + strings.ToUpper(text)} {
		got, err := mesh.ParseLine(pasted, mesh.LineMesh)
		if err != nil {
			t.Errorf("%q: %v", pasted[:12], err)
		} else if !got.Token.Equal(l.Token) {
			t.Errorf("%q: another token", pasted[:12])
		}
	}
	for _, missing := range []int{20, 100, len(text) - 1} { // a character left out
		if _, err := mesh.ParseLine(text[:missing]+text[missing+1:], mesh.LineMesh); !errors.Is(err, mesh.ErrCut) {
			t.Errorf("without character %d: %v, want ErrCut", missing, err)
		}
	}
	if strings.ToUpper(text) != strings.Map(func(r rune) rune {
		if strings.ContainsRune("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:", r) {
			return r
		}
		return -1
	}, strings.ToUpper(text)) {
		t.Error("in upper case it is not in the alphanumeric set of QR codes")
	}
	if len(text) > 400 {
		t.Errorf("a line with two addresses has %d characters", len(text))
	}
}
