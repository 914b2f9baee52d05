package p2p

import (
	"encoding/binary"

	"github.com/asmtp/asmtp/internal/reconcile"
	"github.com/asmtp/asmtp/passport"
)

// Kinds of messages of /asmtp/passport/1.
const (
	kindTips  = 1
	kindWants = 2
	kindBlock = 3
	kindEnd   = 4
	kindAsk   = 5
)

// Codes of a want.
const (
	wantNothing = 0
	wantAll     = 1
	wantRest    = 2 // what follows the tip that stands there
)

// Limits of /asmtp/passport/1.
const (
	maxTips     = 256
	tipSize     = 16 + 16
	wantSize    = 1 + 16 + 4
	maxTipsSize = 2 + maxTips*tipSize
	maxBlock    = passport.HeaderSize + 65535
)

// tip says how long a chain is known.
type tip struct {
	id   passport.ID
	last passport.Hash
}

func encodeTips(tips []tip) []byte {
	b := appendCount(make([]byte, 0, 2+len(tips)*tipSize), len(tips))
	for _, t := range tips {
		b = append(append(b, t.id[:]...), t.last[:]...)
	}
	return b
}

func parseTips(b []byte) ([]tip, error) {
	n, b, err := cutFixed(b, tipSize, maxTips)
	if err != nil {
		return nil, err
	}
	tips := make([]tip, n)
	seen := make(map[passport.ID]struct{}, n)
	for i := range tips {
		at := b[i*tipSize:]
		tips[i] = tip{id: passport.ID(at), last: passport.Hash(at[16:])}
		if _, twice := seen[tips[i].id]; twice {
			return nil, foreign("a passport twice in one message")
		}
		seen[tips[i].id] = struct{}{}
	}
	return tips, nil
}

// want answers a tip. With wantRest it says what the other side has: its own tip and
// how many blocks lead there, by which a fork can be told from being behind.
type want struct {
	code   byte
	last   passport.Hash
	length uint32
}

func encodeWants(wants []want) []byte {
	b := appendCount(make([]byte, 0, 2+len(wants)*wantSize), len(wants))
	for _, w := range wants {
		b = append(append(b, w.code), w.last[:]...)
		b = binary.BigEndian.AppendUint32(b, w.length)
	}
	return b
}

// parseWants reads the answers to n tips.
func parseWants(b []byte, n int) ([]want, error) {
	got, b, err := cutFixed(b, wantSize, maxTips)
	if err != nil {
		return nil, err
	}
	if got != n {
		return nil, foreign("answer for %d of %d passports", got, n)
	}
	wants := make([]want, n)
	for i := range wants {
		at := b[i*wantSize:]
		wants[i] = want{code: at[0], last: passport.Hash(at[1:]), length: binary.BigEndian.Uint32(at[17:])}
		if w := wants[i]; w.code > wantRest || w.code != wantRest && (want{code: w.code}) != w {
			return nil, foreign("unknown want %d", w.code)
		}
	}
	return wants, nil
}

// encodeAsk asks to be told of passports by the names of their states, see passportItem.
func encodeAsk(names []reconcile.ID) []byte {
	b := appendCount(make([]byte, 0, 2+len(names)*idSize), len(names))
	for _, n := range names {
		b = append(b, n[:]...)
	}
	return b
}

func parseAsk(b []byte) ([]reconcile.ID, error) {
	n, b, err := cutFixed(b, idSize, maxTips)
	if err != nil {
		return nil, err
	}
	names := make([]reconcile.ID, n)
	for i := range names {
		names[i] = reconcile.ID(b[i*idSize:])
	}
	return names, nil
}
