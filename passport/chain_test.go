package passport_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
)

// drawing is a small language for chains with forks, after tailscale's chaintest.
// Every line is a path of blocks, "A -> B -> C"; a block that several lines name is
// one block. The first block of the first line begins the passport and is by "a".
// What a block does stands in brackets, several things parted by blanks:
//
//	B[+b]    registers key b          B[-b]      removes key b
//	B[!k]    sets shared key k        B[by b]    is signed by b instead of a
//
// Times go up by one second a block, and every block is its own: one without
// brackets is an empty block whose time tells it from its siblings.
type drawing struct {
	t      *testing.T
	id     passport.ID
	blocks map[string]*passport.Block
	now    passport.Time
}

// draw makes the blocks of a picture. Blocks that the rules forbid can be drawn too.
func draw(t *testing.T, picture string) *drawing {
	t.Helper()
	d := &drawing{t: t, blocks: make(map[string]*passport.Block), now: start}
	for line := range strings.Lines(picture) {
		var parent passport.Hash
		for step := range strings.SplitSeq(strings.TrimSpace(line), "->") {
			if step = strings.TrimSpace(step); step == "" {
				continue
			}
			name, what, _ := strings.Cut(strings.TrimSuffix(step, "]"), "[")
			if d.blocks[name] == nil {
				d.blocks[name] = d.block(parent, what)
			}
			parent = d.blocks[name].Hash()
		}
	}
	return d
}

func (d *drawing) block(parent passport.Hash, what string) *passport.Block {
	d.t.Helper()
	d.now++
	author := "a"
	if first, name, ok := strings.Cut(what, "by "); ok {
		author, _, _ = strings.Cut(name, " ")
		what = first + strings.TrimPrefix(name, author)
	}
	var entries []passport.Entry
	if len(d.blocks) == 0 {
		entries = append(entries, d.register(author))
	}
	for word := range strings.FieldsSeq(what) {
		switch word[0] {
		case '+':
			entries = append(entries, d.register(word[1:]))
		case '-':
			entries = append(entries, passport.Deregister{Key: key(d.t, word[1:]).Public(), Created: d.now})
		case '!':
			random := noise.NewStream(noise.H32([]byte("shared " + word[1:])))
			s, _, err := passport.Shield(random, d.now, []noise.PublicKey{key(d.t, author).Public()}, noise.EmptyPassphrasePSK)
			if err != nil {
				d.t.Fatal(err)
			}
			entries = append(entries, s)
		}
	}
	b, err := passport.SignBlock(key(d.t, author), d.now, parent, entries)
	if err != nil {
		d.t.Fatal(err)
	}
	if d.id.IsZero() {
		d.id = passport.ID(b.Hash())
	}
	return b
}

// register makes a registration whose alias is new each time.
func (d *drawing) register(name string) passport.Register {
	r, err := passport.RequestRegistration(d.id, key(d.t, name), fmt.Sprintf("%s-%d", name, d.now), d.now)
	if err != nil {
		d.t.Fatal(err)
	}
	return r
}

// chain applies the named blocks in order; the last one may be refused.
func (d *drawing) chain(names string) (p *passport.Passport, err error) {
	d.t.Helper()
	fields := strings.Fields(names)
	for i, name := range fields {
		b := d.blocks[name]
		if b == nil {
			d.t.Fatalf("no block %q in the picture", name)
		}
		next, err := apply(p, b)
		if err != nil && i < len(fields)-1 {
			d.t.Fatalf("block %s: %v", name, err)
		}
		if err != nil {
			return p, err
		}
		p = next
	}
	return p, nil
}

func (d *drawing) must(names string) *passport.Passport {
	d.t.Helper()
	p, err := d.chain(names)
	if err != nil {
		d.t.Fatal(err)
	}
	return p
}

// start is the time of the tests, in 2026.
const start passport.Time = 200_000_000

// testKey returns the key of that name, the same in every run.
func testKey(name string) (*noise.PrivateKey, error) {
	seed := noise.H32([]byte("test key " + name))
	return noise.NewPrivateKey(seed[:])
}

func key(t testing.TB, name string) *noise.PrivateKey {
	t.Helper()
	k, err := testKey(name)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// A second valid block on a parent is reported with both blocks and not followed,
// and one that was not valid there is no fork.
func TestAppendReportsForks(t *testing.T) {
	d := draw(t, `
		A -> B[+b] -> C[-b] -> D
		A -> F
		B -> G[by b]
		C -> H[by b]
		A -> J[by b]
		B -> K[+b]
		D -> E
	`)
	for _, tt := range []struct {
		chain, next, ours string // ours "" = no fork
		want              error  // nil = accepted, if no fork
	}{
		{"A B C D", "E", "", nil},
		{"A B C D", "F", "B", nil},
		{"A B C D", "G", "C", nil}, // a removed device forks from before its removal
		{"A B", "F", "B", nil},
		{"A F", "B", "F", nil}, // first seen is kept, whichever it is
		{"A B C D", "H", "", passport.ErrRefused},
		{"A B C D", "J", "", passport.ErrRefused}, // b was not active yet
		{"A B C D", "K", "", passport.ErrRefused}, // b was active already
		{"A B C", "H", "", passport.ErrRefused},
		{"A B C D", "C", "", passport.ErrKnown},
		{"A B C D", "D", "", passport.ErrKnown},
		{"A B C D", "A", "", passport.ErrKnown},
		{"A B", "D", "", passport.ErrNotNext},
		{"A F", "C", "", passport.ErrNotNext},
	} {
		t.Run(tt.chain+" + "+tt.next, func(t *testing.T) {
			p := d.must(tt.chain)
			before := p.Export()
			q, err := p.Append(d.blocks[tt.next])
			if string(p.Export()) != string(before) {
				t.Error("Append changed the passport it was called on")
			}
			fork, isFork := errors.AsType[*passport.ForkError](err)
			if isFork != (tt.ours != "") {
				t.Fatalf("Append: %v; fork: %v", err, isFork)
			}
			if isFork {
				if fork.ID != d.id || fork.Ours != d.blocks[tt.ours] || fork.Theirs != d.blocks[tt.next] || q != nil {
					t.Errorf("fork of %v: %v", fork.ID, fork)
				}
				return
			}
			if !errors.Is(err, tt.want) {
				t.Fatalf("Append: %v, want %v", err, tt.want)
			}
			if err == nil && q.Tip() != d.blocks[tt.next].Hash() {
				t.Errorf("tip %v", q.Tip())
			}
		})
	}
}

// A block that another passport's first block could be is never appended.
func TestAppendRefusesOtherPassports(t *testing.T) {
	d, other := draw(t, "A -> B"), draw(t, "X[by x] -> Y[by x]")
	for name, b := range other.blocks {
		if _, err := d.must("A B").Append(b); !errors.Is(err, passport.ErrNotNext) {
			t.Errorf("%s: %v, want ErrNotNext", name, err)
		}
	}
}

// Merge follows whoever is ahead and stops at the first difference, both ways round.
func TestMerge(t *testing.T) {
	d := draw(t, `
		A -> B -> C -> D
		B -> E -> F
	`)
	other := draw(t, "X[by x]").must("X")
	for _, tt := range []struct{ p, q, want, ours, theirs string }{
		{"A", "A B C", "A B C", "", ""},
		{"A B C", "A", "A B C", "", ""},
		{"A B C", "A B C", "A B C", "", ""},
		{"A B C D", "A B E", "", "C", "E"},
		{"A B E", "A B C D", "", "E", "C"},
	} {
		p, q := d.must(tt.p), d.must(tt.q)
		got, err := p.Merge(q)
		if tt.want != "" {
			if err != nil || got.Tip() != d.must(tt.want).Tip() {
				t.Errorf("%s with %s: %v", tt.p, tt.q, err)
			}
			continue
		}
		fork, ok := errors.AsType[*passport.ForkError](err)
		if !ok || fork.Ours.Hash() != d.blocks[tt.ours].Hash() || fork.Theirs.Hash() != d.blocks[tt.theirs].Hash() {
			t.Errorf("%s with %s: %v", tt.p, tt.q, err)
		}
	}
	if _, err := d.must("A").Merge(other); !errors.Is(err, passport.ErrOther) {
		t.Errorf("merge with another passport: %v", err)
	}
}

// Two children of one passport do not write into each other's memory, nor does a
// caller who changes what it was given.
func TestPassportsShareNoWritableMemory(t *testing.T) {
	d := draw(t, `
		A -> Z -> B[+b] -> C[+c] -> D[+d]
		B -> E[+e]
	`)
	base := d.must("A Z B") // of three blocks, since then a slice that grew has room for one more
	want := base.Export()
	left, err := base.Append(d.blocks["C"])
	if err != nil {
		t.Fatal(err)
	}
	if left, err = left.Append(d.blocks["D"]); err != nil {
		t.Fatal(err)
	}
	right, err := base.Append(d.blocks["E"])
	if err != nil {
		t.Fatal(err)
	}
	again, err := base.Append(d.blocks["C"])
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []*passport.Passport{base, left, right, again} {
		clear(p.Blocks())
		clear(p.Active())
		clear(p.SharedKeys())
		for _, b := range p.Blocks() {
			clear(b.Bytes())
			clear(b.Entries())
			if slices.Contains(b.Entries(), nil) {
				t.Error("a caller cleared the entries of a block")
			}
		}
		clear(p.Export())
	}
	if string(base.Export()) != string(want) {
		t.Error("the passport changed")
	}
	buffer := d.blocks["B"].Bytes()
	b, err := passport.ParseBlock(buffer)
	if err != nil {
		t.Fatal(err)
	}
	clear(buffer)
	if string(b.Bytes()) != string(d.blocks["B"].Bytes()) {
		t.Error("a block shares the memory that it was read from")
	}
	for _, tt := range []struct {
		p    *passport.Passport
		tip  string
		keys string
	}{{base, "B", "a b"}, {left, "D", "a b c d"}, {right, "E", "a b e"}, {again, "C", "a b c"}} {
		if _, err := passport.Parse(tt.p.Export()); err != nil {
			t.Errorf("passport at %s: %v", tt.tip, err)
		}
		if tt.p.Tip() != d.blocks[tt.tip].Hash() || len(tt.p.Active()) != len(strings.Fields(tt.keys)) {
			t.Errorf("passport at %s has tip %v and %d keys", tt.tip, tt.p.Tip(), len(tt.p.Active()))
		}
		for name := range strings.FieldsSeq(tt.keys) {
			if !tt.p.IsActive(key(t, name).Public()) {
				t.Errorf("passport at %s lacks %s", tt.tip, name)
			}
		}
	}
}

// A shared key is tainted from the first removal after it was first set, and setting
// it again does not heal it.
func TestSharedKeyTainted(t *testing.T) {
	for _, tt := range []struct{ picture, blocks, want string }{
		{"A[!1]", "A", "1"},
		{"A[!1] -> B[+b]", "A B", "1"},
		{"A[!1] -> B[+b] -> C[-b]", "A B C", "1*"},
		{"A[!1] -> B[+b] -> C[-b !2]", "A B C", "1* 2"},
		{"A[!1] -> B[+b] -> C[!2 -b]", "A B C", "1* 2*"}, // b could have been given it
		{"A[!1] -> B[+b !2] -> C[+c] -> D[-b !3] -> E[!4] -> F[-c by c]", "A B C D E", "1* 2* 3 4"},
		{"A[!1] -> B[+b] -> C[-b] -> D[!1]", "A B C D", "1*"},
		{"A[!1] -> B[+b] -> C[-b !2] -> D[!1]", "A B C D", "1* 2"},
		{"A[!1] -> B[+b] -> C[-a by b] -> D[!2 by b]", "A B C D", "1* 2"},
		{"A", "A", ""},
	} {
		d := draw(t, tt.picture)
		names := make(map[noise.SharedPublic]string)
		for _, n := range []string{"1", "2", "3", "4"} {
			k, err := noise.GenerateShared(noise.NewStream(noise.H32([]byte("shared " + n))))
			if err != nil {
				t.Fatal(err)
			}
			names[k.Public()] = n
		}
		var got []string
		for _, k := range d.must(tt.blocks).SharedKeys() {
			name := names[k.Key]
			if k.Tainted {
				name += "*"
			}
			got = append(got, name)
		}
		if g := strings.Join(got, " "); g != tt.want {
			t.Errorf("%s: shared keys %q, want %q", tt.picture, g, tt.want)
		}
	}
}
