package store_test

import (
	"bytes"
	"errors"
	"path/filepath"
	"testing"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/store"
	"github.com/asmtp/asmtp/internal/store/storetest"
	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
)

// TestStoreOfTheFirstFormatIsBroughtOver: also one whose migration was broken off.
func TestStoreOfTheFirstFormatIsBroughtOver(t *testing.T) {
	for _, tt := range []struct {
		name   string
		pieces int // that are written before it is broken off
	}{{"at once", 0}, {"after it was broken off", 1}, {"after it was broken off later", 3}} {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "store")
			list, m := oldEnvelopes()
			if err := store.WriteSchema1(dir, list); err != nil {
				t.Fatal(err)
			}
			if tt.pieces > 0 {
				calls := 0
				_, err := store.Open(dir, store.Options{Free: func() (int64, error) {
					if calls++; calls > 2+tt.pieces { // one to open, one to read the schema
						return 11 << 20, nil
					}
					return 1 << 40, nil
				}})
				if !errors.Is(err, store.ErrDiskFull) {
					t.Fatalf("migration on a disk that fills up: %v", err)
				}
			}
			for range 2 {
				s := open(t, dir, store.Options{})
				verify(t, s)
				m.compare(t, s)
				if s.Generation() != 0x0102030405060708 {
					t.Errorf("generation %x", s.Generation())
				}
				for _, o := range list {
					if body, err := s.Envelope(o.E.ID()); err != nil || !bytes.Equal(body, o.E.Bytes()) {
						t.Errorf("envelope %s: %v", o.E.ID().Short(), err)
					}
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// oldEnvelopes returns more of them than one piece of a migration holds, and what they must
// come to.
func oldEnvelopes() (list []store.OldEnvelope, m *accounts) {
	m = &accounts{envelopes: map[envelope.ID]*counted{}}
	r := storetest.Random(11)
	for i := range 3000 {
		o := store.OldEnvelope{E: storetest.NewEnvelope(r, i%100/99*3, storetest.Hour(1+i%6)), From: noise.PublicKey{byte(i % 4)}}
		o.Own = i%4 == 0 || i%7 == 0
		if i%5 == 0 {
			o.Mailbox = passport.ID{byte(1 + i%2)}
			o.Ended = i%10 == 0
		}
		c := &counted{e: o.E, from: o.From, own: o.Own, mine: o.Own || i%5 == 0, ended: o.Ended}
		list = append(list, o)
		m.envelopes[o.E.ID()] = c
	}
	return list, m
}
