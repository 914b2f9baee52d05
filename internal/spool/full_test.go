package spool_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/spool"
	"github.com/asmtp/asmtp/internal/store"
	"github.com/asmtp/asmtp/internal/store/storetest"
	"github.com/asmtp/asmtp/noise"
)

// TestFullIsRefusedInWordsForPeople: the text names the limit, since when it is reached, that
// nothing is lost, and what can be done; what is stored already is taken as ever.
func TestFullIsRefusedInWordsForPeople(t *testing.T) {
	const one = 1024 + envelope.HeaderSize
	free := int64(1 << 40)
	st, err := store.Open(t.TempDir(), store.Options{
		Quotas: store.Quotas{Small: 9 * one, Large: 1 << 20},
		Free:   func() (int64, error) { return free, nil },
	})
	ok(t, err)
	defer st.Close()
	now := time.Now()
	s := newSpool(t, st, spool.Options{Now: func() time.Time { return now }})
	told := 0
	s.OnAdmitted(func(*envelope.Envelope) { told++ })
	r := storetest.Random(1)
	small := func() *envelope.Envelope { return storetest.NewEnvelope(r, 0, storetest.Hour(5)) }
	var stored []*envelope.Envelope
	for range 9 {
		e := small()
		put(t, s, e)
		stored = append(stored, e)
	}
	refused := func(from noise.PublicKey, e *envelope.Envelope, reason envelope.Full, words ...string) {
		t.Helper()
		defer func(before int) {
			if told != before {
				t.Error("others were told of what was refused")
			}
		}(told)
		results, err := s.Put(ctx, from, []*envelope.Envelope{stored[0], e})
		ok(t, err)
		if results[0].Err != nil || results[0].Fresh {
			t.Errorf("an envelope that is stored: %+v", results[0])
		}
		var full *spool.FullError
		if err := results[1].Err; !errors.Is(err, spool.ErrFull) || !errors.As(err, &full) || full.Reason != reason || results[1].Fresh {
			t.Fatalf("%+v, want a refusal for %v", results[1], reason)
		}
		for _, w := range append(words, "what is stored stays", "operator can") {
			if !strings.Contains(full.Error(), w) {
				t.Errorf("%q does not say %q", full, w)
			}
		}
	}
	first := now.UTC().Format("2006-01-02 15:04")
	refused(nobody, small(), envelope.FullSmall, "9405 bytes", "storage.quota.rest", first)
	now = now.Add(time.Hour)
	refused(nobody, small(), envelope.FullSmall, first)
	put(t, s, storetest.NewEnvelope(r, 3, storetest.Hour(5))) // the other quota says nothing of this one
	refused(nobody, small(), envelope.FullSmall, first)
	relayed := small()
	ok(t, errOf(s.Put(ctx, someone, []*envelope.Envelope{relayed})))
	refused(someone, small(), envelope.FullShare, "neighbour")
	free = 20 << 20
	refused(someone, small(), envelope.FullDisk, "disk is full", "storage.reserve")
	free = 1 << 20
	refused(someone, small(), envelope.FullDisk, "disk is full")
	refused(nobody, relayed, envelope.FullDisk) // to be an own user's it would have to be written
	if err := s.RegisterTagKeys(ctx, alice, []envelope.TagKey{newKey(r, storetest.Hour(5))}); !errors.Is(err, store.ErrDiskFull) {
		t.Errorf("a key on the full disk: %v", err)
	}
	got := s.Refused()
	if got[envelope.FullSmall].Count != 3 || got[envelope.FullShare].Count != 1 || got[envelope.FullDisk].Count != 3 || len(got) != 3 {
		t.Errorf("refused %+v", got)
	}
	free = 1 << 40
	put(t, s, storetest.NewEnvelope(r, 3, storetest.Hour(5)))
	if got := s.Refused(); !got[envelope.FullDisk].Since.IsZero() || got[envelope.FullSmall].Since.IsZero() || got[envelope.FullDisk].Count != 3 {
		t.Errorf("with room on the disk again: %+v", got)
	}
	if err := st.Verify(ctx, func(p string) { t.Errorf("verify: %s", p) }); err != nil {
		t.Error(err)
	}
}

func errOf(results []spool.Result, err error) error {
	for _, r := range results {
		err = errors.Join(err, r.Err)
	}
	return err
}
