package node_test

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/clientapi"
	"github.com/asmtp/asmtp/internal/control"
	"github.com/asmtp/asmtp/internal/node"
	"github.com/asmtp/asmtp/internal/node/nodetest"
	"github.com/asmtp/asmtp/internal/spool"
)

// A forecast says the day on which the rate of the last day comes to the quota, and that
// there is none if that cannot be: when as much goes as comes, when what comes ends
// before the quota is reached, and when nobody could act on it yet.
func TestFullAt(t *testing.T) {
	const gib, day = 1 << 30, 24 * time.Hour
	now := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name                 string
		used, in, out, limit int64
		life                 time.Duration
		days                 float64 // -1: not
	}{
		{"ten days", 3 * gib, gib / 10, 0, 4 * gib, 14 * day, 10},
		{"half of it goes again", 3 * gib, gib / 5, gib / 10, 4 * gib, 14 * day, 10},
		{"as much goes", 3 * gib, gib, gib, 4 * gib, 14 * day, -1},
		{"more goes", 3 * gib, gib, 2 * gib, 4 * gib, 14 * day, -1},
		{"nothing comes", 3 * gib, 0, 0, 4 * gib, 14 * day, -1},
		{"all ends before", gib, gib / 5, 0, 4 * gib, 14 * day, -1},
		{"what is there may not end before", 3 * gib, gib / 5, 0, 4 * gib, 14 * day, 5},
		{"too much comes, though some goes", gib, gib / 2, gib / 3, 4 * gib, 14 * day, 18},
		{"it does not end", gib, gib / 5, 0, 4 * gib, 0, 15},
		{"in two years", 0, gib / 730, 0, gib, 0, -1},
		{"full", 4 * gib, 0, 0, 4 * gib, 14 * day, 0},
		{"above a quota that was lowered", 5 * gib, 0, gib, 4 * gib, 14 * day, 0},
	} {
		got := node.FullAt(now, tt.used, tt.in, tt.out, tt.limit, tt.life)
		if tt.days < 0 {
			if !got.IsZero() {
				t.Errorf("%s: full at %v, want not at all", tt.name, got)
			}
			continue
		}
		if d := got.Sub(now) - time.Duration(tt.days*float64(day)); got.IsZero() || d.Abs() > time.Minute {
			t.Errorf("%s: full at %v, want in %.2f days", tt.name, got, tt.days)
		}
	}
}

// The hourly word in the log is about what was refused since the last one, and about nothing else.
func TestHourlyWarningOfRefusals(t *testing.T) {
	var out strings.Builder
	log := slog.New(slog.NewTextHandler(&out, nil))
	last := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	refused := map[envelope.Full]spool.Refusals{
		envelope.FullDisk:  {Count: 3, Last: last.Add(time.Minute)},
		envelope.FullLarge: {Count: 4, Last: last.Add(-time.Minute)},
	}
	node.WarnOfRoom(log, refused, last)
	if got := out.String(); strings.Count(got, "level=WARN") != 1 || !strings.Contains(got, "reason=disk since_start=3") {
		t.Errorf("log:\n%s\nwant one warning, of the disk", got)
	}
	out.Reset()
	node.WarnOfRoom(log, refused, last.Add(time.Hour))
	if out.Len() > 0 {
		t.Errorf("nothing was refused since, and the log says\n%s", out.String())
	}
}

// A node whose quota is used up says so to its users with the reason, to its operator with
// numbers, and keeps what it has.
func TestFullNodeRefusesLoudly(t *testing.T) {
	t.Parallel()
	n := nodetest.Start(t, func(o *node.Options) { o.SmallQuota, o.LargeQuota = 1<<20, 1<<20 })
	c, _ := enter(t, n, key(t))
	taken, refused := 0, 0
	for range 12 {
		batch := map[envelope.ID]*envelope.Envelope{}
		ids := []envelope.ID{}
		for range 100 {
			e := junk(t)
			batch[e.ID()] = e
			ids = append(ids, e.ID())
		}
		list, err := c.Submit(t.Context(), ids, func(id envelope.ID) ([]byte, error) { return batch[id].Bytes(), nil })
		if err != nil {
			t.Fatal(err)
		}
		taken, refused = taken+100-len(list), refused+len(list)
		for _, r := range list {
			if r.Reason != clientapi.ReasonFull || !strings.Contains(r.Text, "quota") {
				t.Fatalf("refused with %v: %s, want that the quota is full", r.Reason, r.Text)
			}
		}
	}
	s := n.Await("status", func(*control.Status) bool { return true })
	own := s.Rest.Own
	if refused == 0 || int(own.Envelopes) != taken || own.Bytes > s.Rest.Limit || s.Rest.Limit != 1<<20 || own.In != own.Bytes || own.FullAt.IsZero() {
		t.Errorf("%d taken, %d refused, own account %+v of %d", taken, refused, own, s.Rest.Limit)
	}
	if len(s.Refusing) != 1 || !strings.Contains(s.Refusing[0], "storage.quota.rest") || s.Refused["rest"] != int64(refused) || !s.LittleData {
		t.Errorf("refusing %q, counted %v, want %d by the quota of the rest", s.Refusing, s.Refused, refused)
	}
	if s.Rest.Relayed.Envelopes != 0 || s.Large.Own.Envelopes != 0 || !s.Large.Own.FullAt.IsZero() {
		t.Errorf("the other accounts are touched: %+v %+v", s.Rest, s.Large)
	}
	n.Restart()
	if after := n.Await("status", func(*control.Status) bool { return true }); after.Envelopes != s.Envelopes {
		t.Errorf("%d envelopes after a restart, want %d", after.Envelopes, s.Envelopes)
	}
}

// With less space than the reserve no new mail is taken, and the node says so before anybody tries.
func TestReserveOfTheDisk(t *testing.T) {
	t.Parallel()
	n := nodetest.Start(t, func(o *node.Options) { o.Reserve = 1 << 60 })
	s := n.Await("status", func(*control.Status) bool { return true })
	if len(s.Refusing) != 1 || !strings.Contains(s.Refusing[0], "storage.reserve") || s.Disk.Free <= 0 || s.Disk.Reserve != 1<<60 {
		t.Errorf("refusing %q, disk %+v", s.Refusing, s.Disk)
	}
	c, _ := enter(t, n, key(t))
	e := junk(t)
	list, err := c.Submit(t.Context(), []envelope.ID{e.ID()}, func(envelope.ID) ([]byte, error) { return e.Bytes(), nil })
	if err != nil || len(list) != 1 || list[0].Reason != clientapi.ReasonFull || !strings.Contains(list[0].Text, "disk") {
		t.Errorf("refused %v, error %v, want that the disk is full", list, err)
	}
}
