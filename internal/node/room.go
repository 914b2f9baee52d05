package node

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/control"
	"github.com/asmtp/asmtp/internal/spool"
	"github.com/asmtp/asmtp/internal/store"
)

// room fills in how much room the node has for mail, and when it would be used up.
func (n *Node) room(s *control.Status) error {
	usage, err := n.store.Usage()
	if err != nil {
		return err
	}
	growth, err := n.store.Growth()
	if err != nil {
		return err
	}
	space, err := n.store.Space()
	if err != nil {
		return err
	}
	quotas, now := n.store.Quotas(), n.now()
	s.Retention = n.membership.Load().set.Charter().Retention
	total := usage.Total().Sum()
	s.Envelopes, s.Bytes = total.Count, total.Bytes
	own := func(used, in, out store.Amount, limit int64) control.Account {
		return account(now, used, in, out, limit, 0)
	}
	relayed := func(used, in, out store.Amount, limit int64) control.Account {
		return account(now, used, in, out, limit, s.Retention+keptLonger)
	}
	s.Large = control.Quota{Limit: quotas.Large,
		Own:     own(usage.Own.Large, growth.In.Own.Large, growth.Out.Own.Large, quotas.Large),
		Relayed: relayed(usage.Relay.Large, growth.In.Relay.Large, growth.Out.Relay.Large, quotas.Large)}
	s.Rest = control.Quota{Limit: quotas.Small,
		Own:     own(usage.Own.Small, growth.In.Own.Small, growth.Out.Own.Small, quotas.Small),
		Relayed: relayed(usage.Relay.Small, growth.In.Relay.Small, growth.Out.Relay.Small, quotas.Small)}
	s.LittleData = now.Sub(n.started) < day
	s.Disk = control.Disk{Free: space.Free, Reserve: space.Reserve}
	s.Refusing = refusing(s)
	s.Refused = map[string]int64{}
	for reason, r := range n.spool.Refused() {
		s.Refused[refusalNames[reason]] = r.Count
	}
	return nil
}

// refusalNames are the words for scripts.
var refusalNames = map[envelope.Full]string{
	envelope.FullSmall: "rest", envelope.FullLarge: "large", envelope.FullShare: "share", envelope.FullDisk: "disk",
}

const (
	day = 24 * time.Hour
	// keptLonger is for how long the store keeps a relayed envelope past its end.
	keptLonger = 4 * time.Hour
	// horizon is how far ahead a forecast is made; beyond it nobody can act on it.
	horizon = 365 * day
)

func account(now time.Time, used, in, out store.Amount, limit int64, life time.Duration) control.Account {
	return control.Account{Envelopes: used.Count, Bytes: used.Bytes, In: in.Bytes, Out: out.Bytes,
		FullAt: fullAt(now, used.Bytes, in.Bytes, out.Bytes, limit, life)}
}

// fullAt returns when used bytes will have grown to limit if on each day in bytes come and
// out bytes go; zero if that is never, or not within a year. life bounds how long anything
// can stay, so that after it only life's worth of what comes is there; 0 says that there
// is no bound.
//
// In the first days of a node nothing ends yet, and the day that comes out may be too
// early; it is not too late for a rate that stays the same.
func fullAt(now time.Time, used, in, out, limit int64, life time.Duration) time.Time {
	if used >= limit {
		return now
	}
	if in <= out {
		return time.Time{}
	}
	days, lifeDays := float64(limit-used)/float64(in-out), float64(life)/float64(day)
	if life > 0 && days >= lifeDays && float64(in)*lifeDays <= float64(limit) {
		return time.Time{}
	}
	if days > float64(horizon/day) {
		return time.Time{}
	}
	return now.Add(time.Duration(days * float64(day)))
}

// refusing says why a new envelope would be refused now, in words for the operator. What
// only one neighbour's share refuses is not among it.
func refusing(s *control.Status) []string {
	why := []string{}
	if s.Disk.Free < s.Disk.Reserve {
		why = append(why, fmt.Sprintf("the disk has %s free, and %s are left alone (storage.reserve)", control.Bytes(s.Disk.Free), control.Bytes(s.Disk.Reserve)))
	}
	for _, x := range []struct {
		what  string
		quota control.Quota
		least int64 // of the envelopes of this quota
	}{
		{"large envelopes (storage.quota.large)", s.Large, envelope.MaxSize},
		{"all but large envelopes (storage.quota.rest)", s.Rest, int64(envelope.HeaderSize + envelope.Sizes[0])},
	} {
		if x.quota.Own.Bytes+x.least > x.quota.Limit {
			why = append(why, fmt.Sprintf("this node's users have used up the %s for %s", control.Bytes(x.quota.Limit), x.what))
		}
		if x.quota.Relayed.Bytes+x.least > x.quota.Limit {
			why = append(why, fmt.Sprintf("the %s to keep %s for others are used up", control.Bytes(x.quota.Limit), x.what))
		}
	}
	return why
}

// warnEvery is how often the log says that mail is being refused.
const warnEvery = time.Hour

// watchRoom says in the log, once an hour, that envelopes were refused for want of room.
func (n *Node) watchRoom(ctx context.Context) error {
	tick := time.NewTicker(warnEvery)
	defer tick.Stop()
	var last time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		n.warnOfRoom(n.spool.Refused(), last)
		last = n.now()
	}
}

// warnOfRoom warns of each reason for which something was refused since the last warning.
func (n *Node) warnOfRoom(refused map[envelope.Full]spool.Refusals, last time.Time) {
	reasons := make([]envelope.Full, 0, len(refused))
	for reason, r := range refused {
		if r.Last.After(last) {
			reasons = append(reasons, reason)
		}
	}
	slices.Sort(reasons)
	for _, reason := range reasons {
		r := refused[reason]
		n.log.Warn("new mail is refused for want of room; see asmtpd status", "reason", refusalNames[reason],
			"since_start", r.Count, "last", r.Last.UTC().Format(time.DateTime))
	}
}
