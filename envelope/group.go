package envelope

import (
	"errors"
	"fmt"
	"io"

	"github.com/asmtp/asmtp/passport"
)

var (
	// ErrOtherMail is the error for a part that belongs to another mail: its kind,
	// mail id or body hash is another one.
	ErrOtherMail = errors.New("part of another mail")
	// ErrInconsistent is wrapped by the errors for a part that claims to belong to a
	// mail and contradicts its other parts. It is dropped.
	ErrInconsistent = errors.New("part contradicts the other parts of its mail")
	// ErrBodyHash is the error for a body whose hash is not the one its parts carry.
	// The whole mail is dropped.
	ErrBodyHash = errors.New("body does not have the hash its parts carry")
)

// MailKey tells mails apart. The sender is in it because mail ids are chosen by
// senders; the body hash because a wrong or hostile sender may use an id twice.
type MailKey struct {
	From     passport.ID
	Kind     Kind
	MailID   MailID
	BodyHash BodyHash
}

// Key returns which mail p belongs to, if from sealed it.
func (p *Part) Key(from passport.ID) MailKey {
	return MailKey{From: from, Kind: p.Kind, MailID: p.MailID, BodyHash: p.BodyHash}
}

// Consistent reports whether a and b, each accepted by [ParsePart], can be parts of
// one mail of one sender. The error is [ErrOtherMail] or wraps [ErrInconsistent].
// Tips may differ: a part that is sent again carries newer ones.
func Consistent(a, b *Part) error {
	if a.Key(passport.ID{}) != b.Key(passport.ID{}) {
		return ErrOtherMail
	}
	if a.Flags != b.Flags {
		return fmt.Errorf("%w: flags %#02x, not %#02x", ErrInconsistent, b.Flags, a.Flags)
	}
	if a.Total != b.Total {
		return fmt.Errorf("%w: total %d, not %d", ErrInconsistent, b.Total, a.Total)
	}
	if a.Count != b.Count {
		return fmt.Errorf("%w: %d parts, not %d", ErrInconsistent, b.Count, a.Count)
	}
	return nil
}

// Group is what has come of one mail of one sender. It holds no bodies: those are
// with the caller, in memory or on disk. It is not safe for concurrent use.
//
// A group that was kept is made again from any one of its parts with [NewGroup] and
// [Group.Mark] for the others.
type Group struct {
	first   Part // without its body
	have    []uint64
	missing int
}

// NewGroup returns the group that first belongs to, with first in it. A body of more
// than limit bytes is refused with an error that wraps [ErrTooLarge]; nothing has
// been allocated then.
func NewGroup(first *Part, limit int64) (*Group, error) {
	if err := first.check(); err != nil {
		return nil, err
	}
	if int64(first.Total) > limit {
		return nil, fmt.Errorf("mail %s: %d bytes, at most %d: %w", first.MailID.Short(), first.Total, limit, ErrTooLarge)
	}
	g := &Group{first: *first, missing: int(first.Count)}
	g.first.Body = nil
	g.have = make([]uint64, (int(first.Count)+63)/64)
	g.Mark(first.Index)
	return g, nil
}

// Add takes in a part. It returns false for one that was there already, whose body
// the caller drops: the first that came stays, and the body hash decides at the end.
// The errors are those of [Consistent] and [ParsePart]; g is then as before.
func (g *Group) Add(p *Part) (fresh bool, err error) {
	if err := Consistent(&g.first, p); err != nil {
		return false, err
	}
	if err := p.check(); err != nil {
		return false, err
	}
	return g.Mark(p.Index), nil
}

// Mark notes that the part with that index is there, and reports whether it was not
// yet. An index that the mail does not have is ignored.
func (g *Group) Mark(index uint16) bool {
	if index >= g.first.Count || g.Has(index) {
		return false
	}
	g.have[index/64] |= 1 << (index % 64)
	g.missing--
	return true
}

// Has reports whether the part with that index is there.
func (g *Group) Has(index uint16) bool {
	return index < g.first.Count && g.have[index/64]&(1<<(index%64)) != 0
}

// Count returns how many parts the mail has.
func (g *Group) Count() int { return int(g.first.Count) }

// Total returns how many bytes the whole body has.
func (g *Group) Total() int64 { return int64(g.first.Total) }

// Complete reports whether all parts are there.
func (g *Group) Complete() bool { return g.missing == 0 }

// Missing returns the indexes of the parts that are not there, in order.
func (g *Group) Missing() []uint16 {
	list := make([]uint16, 0, g.missing)
	for i := range g.first.Count {
		if !g.Has(i) {
			list = append(list, i)
		}
	}
	return list
}

// WriteBody writes the whole body of a complete mail to w, one part after the other
// as body returns them, and checks its hash. If there is an error, w has got bytes
// that must not be shown or receipted.
func (g *Group) WriteBody(w io.Writer, body func(index uint16) ([]byte, error)) error {
	if !g.Complete() {
		return fmt.Errorf("mail %s: %d of %d parts missing", g.first.MailID.Short(), g.missing, g.first.Count)
	}
	check := NewBodyCheck(&g.first)
	w = io.MultiWriter(check, w)
	for i := range g.first.Count {
		b, err := body(i)
		if err != nil {
			return fmt.Errorf("read part %d of mail %s: %w", i, g.first.MailID.Short(), err)
		}
		if want := length(g.first.Total, i, g.first.Count); int64(len(b)) != want {
			return fmt.Errorf("read part %d of mail %s: %d bytes, want %d", i, g.first.MailID.Short(), len(b), want)
		}
		if _, err := w.Write(b); err != nil {
			return fmt.Errorf("write the body of mail %s: %w", g.first.MailID.Short(), err)
		}
	}
	return check.Check()
}
