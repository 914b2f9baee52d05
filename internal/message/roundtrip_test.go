package message_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/asmtp/asmtp/internal/message"
)

// user is somebody with names of his own for everybody, as an account has them.
type user struct {
	id    string            // the address on the wire
	names map[string]string // by address on the wire; his own too
}

var errUnknown = errors.New("no contact")

func (u *user) show(a message.Address) message.Address {
	if name, ok := u.names[a.Addr]; ok {
		if a.Name == "" {
			a.Name = name
		}
		a.Addr = name + "@asmtp"
	}
	return a
}

func (u *user) wire(a message.Address) (message.Address, error) {
	for id, name := range u.names {
		if strings.EqualFold(a.Addr, name+"@asmtp") || a.Addr == id {
			if a.Addr = id; a.Name == name && id != u.id {
				a.Name = ""
			}
			return a, nil
		}
	}
	if local, ok := strings.CutSuffix(a.Addr, "@asmtp"); ok && len(local) != 32 {
		return a, errUnknown
	}
	return a, nil
}

func (u *user) send(t *testing.T, raw string) string {
	t.Helper()
	var out bytes.Buffer
	err := message.Rewrite(&out, strings.NewReader(raw), message.Changes{From: message.Address{Name: u.names[u.id], Addr: u.id}, Date: date, MessageID: "m@asmtp", Address: u.wire})
	if err != nil {
		t.Fatalf("%v of %q", err, raw)
	}
	return out.String()
}

func (u *user) receive(from *user, wire string) string {
	head, body, _ := strings.Cut(wire, "\r\n\r\n")
	return string(message.Arrived([]byte(head+"\r\n\r\n"), message.Arrival{From: message.Address{Addr: from.id}, Certain: true, Received: date, MessageID: "x@asmtp", Show: u.show})) + body
}

func mesh() []*user {
	ids := []string{strings.Repeat("a1", 16) + "@asmtp", strings.Repeat("b2", 16) + "@asmtp", strings.Repeat("c3", 16) + "@asmtp", strings.Repeat("d4", 16) + "@asmtp"}
	// What one calls bob another calls dad, and dad somebody else again.
	names := [][]string{{"alice", "bob", "carol", "dad"}, {"sis", "me.bob", "alice", "carol"}, {"dad", "alice", "carol", "bob"}, {"carol", "dad", "alice", "o'brien"}}
	var out []*user
	for i, id := range ids {
		u := &user{id: id, names: make(map[string]string)}
		for j := range ids {
			u.names[ids[j]] = names[i][j]
		}
		out = append(out, u)
	}
	return out
}

// all returns who a reply to all goes to: what programs take from what they show.
func all(t *testing.T, shown string) string {
	t.Helper()
	h, err := message.ReadHeader(strings.NewReader(shown))
	if err != nil {
		t.Fatalf("%v of %q", err, shown)
	}
	v := parse(t, []byte(shown))
	var out []string
	for _, a := range append(append([]message.Address{v.From}, h.To...), h.Cc...) {
		out = append(out, fmt.Sprintf("\"%s\" <%s>", a.Name, a.Addr))
	}
	return strings.Join(out, ", ")
}

// A reply to all reaches whom the mail was from and to, whatever names the two have for
// them, and no name of a contact is on the wire.
func TestReplyToAllReachesThem(t *testing.T) {
	users := mesh()
	rng := rand.New(rand.NewPCG(1, 2))
	for round := range 200 {
		order := rng.Perm(len(users))
		from, reader, last := users[order[0]], users[order[1]], users[order[2]]
		style := []string{"%[1]s@asmtp", "%[1]s <%[1]s@asmtp>", "\"%[1]s\"\r\n <%[1]s@ASMTP>", "Dr. X <%[1]s@asmtp>", "%[1]s@asmtp (%[1]s)", "g:%[1]s@asmtp;"}
		var to []string
		for _, i := range order[1:3] {
			to = append(to, fmt.Sprintf(style[rng.IntN(len(style))], from.names[users[i].id]))
		}
		wire := from.send(t, "From: x <"+from.names[from.id]+"@asmtp>\r\nTo: "+to[0]+"\r\nCc: "+to[1]+"\r\nBcc: "+from.names[users[order[3]].id]+"@asmtp\r\nSubject: s\r\n\r\nbody")
		shown := reader.receive(from, wire)
		reply := reader.send(t, "From: "+reader.names[reader.id]+"@asmtp\r\nTo: "+all(t, shown)+"\r\n\r\nreply")
		h, err := message.ReadHeader(strings.NewReader(reply))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, a := range h.To {
			got = append(got, a.Addr)
		}
		if want := []string{from.id, reader.id, last.id}; !slices.Equal(got, want) {
			t.Fatalf("round %d: the reply goes to %q, want %q\n%s\n%s\n%s", round, got, want, wire, shown, reply)
		}
		for sender, text := range map[*user]string{from: wire, reader: reply} {
			for id, name := range sender.names {
				if id != sender.id && strings.Contains(strings.ReplaceAll(text, "Dr. X", ""), name) {
					t.Fatalf("round %d: %s is on the wire:\n%s", round, name, text)
				}
			}
		}
		_, third, _ := strings.Cut(last.receive(reader, reply), "From: ")
		if !strings.HasPrefix(third, "\""+last.names[reader.id]) && !strings.Contains(strings.SplitN(third, "\r\n", 2)[0], last.names[reader.id]+"@asmtp") {
			t.Fatalf("round %d: the third is shown %q", round, third)
		}
	}
}

// Nobody can write the names that a reader has for others: an answer would go to them.
func TestArrivedNamesAreNobody(t *testing.T) {
	users := mesh()
	shown := users[0].receive(users[1], "From: <"+users[1].id+">\r\nTo: Carol <carol@asmtp>, bob@ASMTP, <"+strings.Repeat("e5", 16)+"@asmtp>, dad,\r\n <"+users[2].id+">, a@b.example\r\nReply-To: dad@asmtp\r\n"+both+"\r\n")
	want := "To: Carol <carol@asmtp.invalid>, bob@asmtp.invalid, <" + strings.Repeat("e5", 16) + "@asmtp>, dad@asmtp.invalid,\r\n \"carol\" <carol@asmtp>, a@b.example\r\nReply-To: dad@asmtp.invalid\r\n"
	if !strings.Contains(shown, want) {
		t.Errorf("shown is\n%swant\n%s", shown, want)
	}
}

func TestSentShowsBcc(t *testing.T) {
	u := mesh()[0]
	in := "From: <" + u.id + ">\r\nTo: <" + strings.Repeat("b2", 16) + "@asmtp>\r\nCc: x <" + strings.Repeat("C3", 16) + "@asmtp>\r\nReply-To: <" + strings.Repeat("d4", 16) + "@asmtp>\r\n\r\n"
	by := message.SentBy{Show: u.show, To: []string{strings.Repeat("b2", 16) + "@asmtp", strings.Repeat("c3", 16) + "@asmtp"}}
	if got := string(message.Sent([]byte(in), by)); strings.Contains(got, "Bcc") {
		t.Errorf("without any: %q", got)
	}
	by.To = append(by.To, strings.Repeat("d4", 16)+"@asmtp", u.id, u.id)
	if got, want := string(message.Sent([]byte(in), by)), "Bcc: \"dad\" <dad@asmtp>,\r\n \"alice\" <alice@asmtp>\r\n\r\n"; !strings.HasSuffix(got, want) {
		t.Errorf("%q, want at its end %q", got, want)
	}
}

// Of random headers, what is not named as changed stays byte for byte, in its order, and
// the body is the same.
func TestUnnamedFieldsStay(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	pieces := []string{"a", " ", "\t", "\x00", "\xff", "ü", "\r\n ", "\n\t", ":", ";", ",", "<", "\"", "=?utf-8?q?x?=", "(", strings.Repeat("long", 300)}
	value := func() string {
		var b strings.Builder
		for range rng.IntN(12) {
			b.WriteString(pieces[rng.IntN(len(pieces))])
		}
		return b.String()
	}
	for range 2000 {
		var in, keep strings.Builder
		for range rng.IntN(12) {
			line := [...]string{"X-Odd:", "Subject :", "References: ", "RECEIVED:", "x:", "Content-Type:", "DKIM-Signature:"}[rng.IntN(7)] + value() + [...]string{"\r\n", "\n"}[rng.IntN(2)]
			in.WriteString(line)
			keep.WriteString(line)
			if rng.IntN(3) == 0 {
				in.WriteString([...]string{"Bcc: x" + value() + "\r\n", "bcc\t:\r\n y\n", "Authentication-Results: asmtp" + value() + "\n", "Message-ID:\r\n", "From: <me@asmtp>\r\n", "FROM: b\r\n", "To: a@asmtp\r\n"}[rng.IntN(7)])
			}
		}
		body := "\r\n" + value() + "\n" + value()
		var out bytes.Buffer
		if err := message.Rewrite(&out, strings.NewReader(in.String()+body), same()); err != nil {
			t.Fatal(err)
		}
		for name, got := range map[string]string{"rewritten": out.String(), "arrived": string(message.Arrived([]byte(in.String()+"\r\n"), arrival())) + body[2:]} {
			n := message.HeaderLength([]byte(got), true)
			if kept := unnamed(t, got[:n]); kept != keep.String() {
				t.Fatalf("%s: of\n%q\nstays\n%q, want\n%q", name, in.String(), kept, keep.String())
			}
			if sha256.Sum256([]byte(got[n:])) != sha256.Sum256([]byte(body[2:])) {
				t.Fatalf("%s: the body %q became %q", name, body[2:], got[n:])
			}
		}
	}
}

// unnamed returns those fields of a header that neither Rewrite nor Arrived names.
func unnamed(t *testing.T, header string) string {
	t.Helper()
	var out strings.Builder
	keep := false
	for line := range strings.Lines(header) {
		if line[0] != ' ' && line[0] != '\t' {
			name, _, _ := strings.Cut(line, ":")
			keep = !slices.Contains([]string{"from", "to", "bcc", "date", "message-id", "authentication-results", "x-asmtp-claimed-from"}, strings.ToLower(strings.TrimRight(name, " \t")))
		}
		if line == "\r\n" {
			return out.String()
		}
		if keep {
			out.WriteString(line)
		}
	}
	t.Fatalf("no empty line in %q", header)
	return ""
}
