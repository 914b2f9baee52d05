package account

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/clientapi"
	"github.com/asmtp/asmtp/internal/message"
	"github.com/asmtp/asmtp/passport"
)

const (
	// submitBatch is how many envelopes of small mails are handed to the node at a time.
	submitBatch = 128
	// smallMail is how many parts a mail may have to share its batch with others.
	smallMail = 8
	// waitingAgain is when mail that waits for a passport is looked at again, if
	// nothing wakes it before.
	waitingAgain = time.Hour
	// furthestTry is longer than any wait for the next try.
	furthestTry = 8 * time.Hour
	// resealBefore is how long before the end of its envelopes a mail is sealed anew, if
	// its lifetime is longer: early enough for a device whose clock is two hours late.
	resealBefore = 3 * time.Hour
)

// due is a mail that is to be handed to the node.
type due struct {
	n       int64
	state   State
	parts   int
	size    int64
	mail    int64
	to      passport.ID
	sealed  []byte
	expires passport.Time
	end     time.Time
	tries   int
	offered bool        // a node may have all of it
	untried bool        // with offered: but none was asked yet
	fresh   bool        // not looked for, see fresh.go: another round may have found it
	inHand  *sealedMail // if it was just sealed
	ids     []envelope.ID
	id      MailID
	with    *pair // what its envelopes are sealed with; set by prepare
}

// large reports whether the mail has a call of its own, beside those of small mail.
func (d *due) large() bool { return d.parts > smallMail }

// submitDue hands over what is due of the small mail, or of the large. It returns the
// mails that the node did not take.
func (s *session) submitDue(ctx context.Context, sel selection) (accepted int, left []int64, err error) {
	if !s.x.o.Follow && sel.fresh == nil { // who has nothing to send need not wait for others
		list, err := s.a.dueMail(ctx, sel)
		if err != nil || len(list) == 0 {
			return 0, nil, err
		}
	}
	unlock, err := s.a.lockOutbox(ctx, sel.large)
	if err != nil {
		return 0, nil, err
	}
	defer unlock()
	list, r := sel.fresh, s.a.knownRoster()
	if list == nil {
		if list, err = s.a.dueMail(ctx, sel); err != nil || len(list) == 0 { // what another process left
			return 0, nil, err
		}
	}
	if r == nil || sel.fresh == nil {
		if r, err = s.a.roster(ctx); err != nil {
			return 0, nil, err
		}
	}
	var group []*due
	parts := 0
	flush := func() error {
		n, more, err := s.submitGroup(ctx, group)
		accepted, left = accepted+n, append(left, more...)
		group, parts = nil, 0
		return err
	}
	for _, d := range list {
		ready, err := s.a.prepare(ctx, r, d)
		if err != nil {
			return accepted, left, err
		}
		if !ready {
			continue
		}
		if len(group) > 0 && (d.large() || parts+d.parts > submitBatch) {
			if err := flush(); err != nil {
				return accepted, left, err
			}
		}
		group, parts = append(group, d), parts+d.parts
	}
	return accepted, left, flush()
}

// later bounds when something is due that is not due now. Beyond it was written by a clock
// that was ahead.
func (a *Account) later() []any {
	now := a.now()
	return []any{millis(now) + 1, millis(now.Add(furthestTry))}
}

// Which mail a selection names. All is found by an index, since much may wait for answers.
const (
	dueByClock = "SELECT n FROM outgoing WHERE state IN (?1, ?2, ?3) AND next < ?7 UNION ALL SELECT n FROM outgoing WHERE state IN (?1, ?2, ?3) AND next > ?8"
	dueFirst   = dueByClock + " UNION ALL SELECT n FROM outgoing WHERE state = ?1"
	dueNamed   = "SELECT value FROM json_each(?7)"
)

func (a *Account) dueMail(ctx context.Context, sel selection) ([]*due, error) {
	which, args := dueByClock, append([]any{Queued, Accepted, Held, millis(a.now()), smallMail, sel.large}, a.later()...)
	if sel.first {
		which = dueFirst
	}
	if len(sel.also) > 0 {
		b, err := json.Marshal(sel.also)
		if err != nil {
			return nil, err
		}
		which, args = dueNamed, append(args[:6], string(b))
	}
	handed := make(map[int64]bool) // asked before the database is: after it, it may be written
	a.handed.Range(func(n, _ any) bool {
		handed[n.(int64)] = true
		return true
	})
	var list []*due
	err := each(ctx, a.db, `SELECT o.n, o.mail_id, o.state, o.mail, m.total, m.count, o.recipient, o.sealed_for, o.expires, o.lifetime_end, o.tries, o.offered
		FROM outgoing o JOIN mails m ON m.n = o.mail WHERE o.n IN (`+which+`)
			AND +o.state IN (?1, ?2, ?3) AND o.lifetime_end > ?4 AND (m.count > ?5) = ?6 ORDER BY m.total, o.n`,
		args, func(rows *sql.Rows) error {
			d := new(due)
			var end, expires int64
			if err := rows.Scan(&d.n, into{d.id[:]}, &d.state, &d.mail, &d.size, &d.parts, into{d.to[:]}, &d.sealed, &expires, &end, &d.tries, &d.offered); err != nil {
				return err
			}
			d.expires, d.end = passport.Time(expires), fromMillis(end)
			if !handed[d.n] {
				list = append(list, d)
			}
			return nil
		})
	return list, err
}

// prepare sees to it that the envelopes of a mail are there and fit: sealed with the
// current keys and not about to end. It returns false for a mail that has to wait.
func (a *Account) prepare(ctx context.Context, r *roster, d *due) (bool, error) {
	p := r.peers[d.to]
	why := "the recipient is not among the contacts any more"
	if p != nil {
		why = p.waiting()
	}
	if why != "" {
		return false, a.postpone(ctx, d, why, waitingAgain)
	}
	with, err := a.outPair(ctx, r.own, p)
	if err != nil {
		return false, err
	}
	d.with = with
	soon := passport.TimeOf(a.now().Add(resealBefore))
	if bytes.Equal(d.sealed, with.key()) && (d.expires > soon || a.expires(r.limits.retention, d.end) <= d.expires) {
		return true, nil
	}
	err = a.sealAnew(ctx, d, r, p)
	if errors.Is(err, errSettled) {
		return false, nil
	}
	return err == nil, err
}

// postpone keeps why a mail is not sent now and when it is looked at again.
func (a *Account) postpone(ctx context.Context, d *due, why string, after time.Duration) error {
	return a.write(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "UPDATE outgoing SET next = ? WHERE n = ?", millis(a.now().Add(after)), d.n); err != nil {
			return err
		}
		return setReason(ctx, tx, d.n, why)
	})
}

// submitGroup hands over several small mails, or one large, in one call. The node
// answers for every envelope: a mail is accepted if it has all of its envelopes.
func (s *session) submitGroup(ctx context.Context, group []*due) (accepted int, left []int64, err error) {
	var refusals []clientapi.Refusal
	if group, err = s.a.offer(ctx, group); err != nil || len(group) == 0 {
		return 0, nil, err
	}
	of := make(map[envelope.ID]*envelopes)
	var ids []envelope.ID
	var all int64
	for _, d := range group {
		if d.inHand != nil {
			d.ids = d.inHand.ids
		} else if d.ids, err = s.a.envelopeIDs(ctx, d); err != nil {
			return 0, nil, err
		}
		e := s.a.envelopesOf(d)
		for _, id := range d.ids {
			of[id] = e
		}
		ids, all = append(ids, d.ids...), all+d.size
	}
	s.progress(Progress{Step: "sending", All: all})
	at := 0
	submit := s.c.Submit
	if !slices.ContainsFunc(group, func(d *due) bool { return !d.untried || d.large() }) {
		submit = s.c.SubmitNew
	}
	refusals, err = s.submit(ctx, submit, ids, func(id envelope.ID) ([]byte, error) {
		b, err := of[id].envelope(ctx, id)
		for at < len(ids) && ids[at] != id { // those before it the node has
			at++
		}
		s.progress(Progress{Step: "sending", Done: all * int64(at) / int64(len(ids)), All: all})
		return b, err
	})
	if errors.Is(err, errSettled) {
		return 0, nil, nil // the next round leaves it out
	}
	if err != nil {
		return 0, nil, fmt.Errorf("hand mail to the node: %w", err)
	}
	s.progress(Progress{Step: "sending", Done: all, All: all})
	refused := make(map[*due]clientapi.Refusal)
	for _, r := range refusals {
		refused[of[r.ID].d] = r
	}
	var taken []*due
	for _, d := range group {
		r, ok := refused[d]
		if !ok {
			taken = append(taken, d)
			continue
		}
		if err := s.markRefused(ctx, d, r); err != nil {
			return accepted, left, err
		}
		left = append(left, d.n)
	}
	if s.x.later != nil {
		s.acceptSoon(ctx, taken)
		return 0, left, nil
	}
	accepted, err = s.a.markAccepted(ctx, s.a.write, taken)
	return accepted, left, err
}

// acceptSoon is markAccepted beside the sending of more mail. If the process ends before it
// is written, the node is asked once more and has it all.
func (s *session) acceptSoon(ctx context.Context, group []*due) {
	for _, d := range group {
		s.a.handed.Store(d.n, true)
	}
	s.x.later(func() error {
		accepted, err := s.a.markAccepted(context.WithoutCancel(ctx), s.a.writeSoon, group)
		for _, d := range group {
			s.a.handed.Delete(d.n)
		}
		s.x.count(0, accepted)
		return err
	})
}

// submitter is one of the ways to hand envelopes over, see [clientapi.Client.Submit].
type submitter func(ctx context.Context, ids []envelope.ID, fetch func(envelope.ID) ([]byte, error)) ([]clientapi.Refusal, error)

// submit hands envelopes to the node. A node that is full took none of what it lacked.
func (s *session) submit(ctx context.Context, submit submitter, ids []envelope.ID, fetch func(envelope.ID) ([]byte, error)) ([]clientapi.Refusal, error) {
	refusals, err := submit(ctx, ids, fetch)
	if errors.Is(err, clientapi.ErrNodeFull) {
		for _, id := range ids {
			refusals = append(refusals, clientapi.Refusal{ID: id, Reason: clientapi.ReasonFull, Text: err.Error()})
		}
		err = nil
	}
	return refusals, err
}

// offer notes that the node may soon have all of these mails, and leaves out those
// that were cancelled: from now on they cannot be. What was noted before needs no more.
func (a *Account) offer(ctx context.Context, group []*due) (left []*due, err error) {
	group = slices.DeleteFunc(group, func(d *due) bool {
		sealed, untried := a.untried.take(d.n, d.id)
		if d.untried = untried; sealed != nil {
			d.inHand = sealed
		}
		found := d.fresh && !untried
		d.fresh = false // if it is not taken here, another node is asked
		return found
	})
	if !slices.ContainsFunc(group, func(d *due) bool { return !d.offered }) {
		return group, nil
	}
	err = a.write(ctx, func(tx *sql.Tx) error {
		left = nil
		for _, d := range group {
			r, err := tx.ExecContext(ctx, "UPDATE outgoing SET offered = 1 WHERE n = ? AND state IN (?, ?, ?)", d.n, Queued, Accepted, Held)
			if err != nil {
				return err
			}
			if n, err := r.RowsAffected(); err != nil {
				return err
			} else if n == 1 {
				left = append(left, d)
			}
		}
		return nil
	})
	return left, err
}

// errSettled says that a mail's envelopes are gone because a receipt came.
var errSettled = errors.New("the mail is settled")

// gone returns errSettled for what is not there any more, unless it should be.
func (a *Account) gone(ctx context.Context, out int64) error {
	if err := a.settled(ctx, out); err != nil {
		return err
	}
	return errSettled
}

// envelopeIDs returns the ids of all envelopes of a mail; none if it is settled.
func (a *Account) envelopeIDs(ctx context.Context, d *due) ([]envelope.ID, error) {
	var list []envelope.ID
	err := each(ctx, a.db, "SELECT id FROM outparts WHERE outgoing = ? ORDER BY idx", []any{d.n}, func(rows *sql.Rows) error {
		var id envelope.ID
		err := rows.Scan(into{id[:]})
		list = append(list, id)
		return err
	})
	if err != nil || len(list) == d.parts {
		return list, err
	}
	return nil, a.settled(ctx, d.n)
}

// settled returns nil if nothing of a mail is left to be sent, else that the database
// lacks what should be there.
func (a *Account) settled(ctx context.Context, out int64) error {
	var state State
	if err := a.db.QueryRowContext(ctx, "SELECT state FROM outgoing WHERE n = ?", out).Scan(&state); err != nil {
		return err
	}
	if !state.Final() {
		return fmt.Errorf("envelopes of a mail on its way: %w", ErrTampered)
	}
	return nil
}

// storedEnvelope returns an envelope that was kept.
func (a *Account) storedEnvelope(ctx context.Context, out int64, id envelope.ID) (b []byte, err error) {
	err = a.db.QueryRowContext(ctx, "SELECT envelope FROM outparts WHERE outgoing = ? AND id = ?", out, id[:]).Scan(&b)
	if err != nil && !errors.Is(err, sql.ErrNoRows) || len(b) > 0 {
		return b, err
	}
	return nil, a.gone(ctx, out)
}

// nextTry returns when a mail that was just handed over is due again: by the plan, and
// in time to be sealed anew.
func (a *Account) nextTry(ctx context.Context, q querier, d *due) time.Time {
	now := a.now()
	next := now.Add(jitter(retryAfter(d.tries)))
	expires := d.expires
	if d.inHand != nil {
		expires = d.inHand.expires
	}
	reseal := expires.Time().Add(-resealBefore)
	if reseal.After(now) && reseal.Before(next) && a.expires(readLimits(ctx, q).retention, d.end) > expires {
		return reseal
	}
	return next
}

// markAccepted notes that the node took mails, with one of the account's ways to write.
func (a *Account) markAccepted(ctx context.Context, write func(context.Context, func(*sql.Tx) error) error, group []*due) (accepted int, err error) {
	if len(group) == 0 {
		return 0, nil
	}
	err = write(ctx, func(tx *sql.Tx) error {
		accepted = 0
		for _, d := range group {
			next := millis(a.nextTry(ctx, tx, d))
			was, held, err := stateOf(ctx, tx, d.n)
			if err != nil {
				return err
			}
			moved, err := a.move(ctx, tx, d.n, was, Accepted, held, "stored by the node", next)
			if err != nil {
				return err
			}
			if moved {
				accepted++
				continue
			}
			_, err = tx.ExecContext(ctx, `UPDATE outgoing SET tries = tries + 1, next = ?, reason = CASE WHEN state = ? AND held = 0 THEN reason ELSE '' END
				WHERE n = ? AND state < ?`, next, Held, d.n, Unconfirmed)
			if err != nil {
				return err
			}
		}
		return dropBodies(ctx, tx)
	})
	return accepted, err
}

// markRefused keeps why the node did not take a mail. It did not take all of it, so it
// can be cancelled again, unless it was offered before and perhaps taken.
func (s *session) markRefused(ctx context.Context, d *due, r clientapi.Refusal) error {
	why := "the node did not take it: " + r.Reason.String()
	if r.Text != "" {
		why += ": " + message.CleanLine(r.Text)
	}
	ended := r.Reason == clientapi.ReasonEnded || r.Reason == clientapi.ReasonTooFar
	if ended && s.off.Abs() > maxClockOff {
		why += fmt.Sprintf(" (this device's clock and the node's differ by %v)", s.off.Abs())
	}
	return s.a.write(ctx, func(tx *sql.Tx) error {
		next := s.a.nextTry(ctx, tx, d)
		_, err := tx.ExecContext(ctx, "UPDATE outgoing SET offered = ?, tries = tries + 1, next = ? WHERE n = ?", d.offered && !d.untried, millis(next), d.n)
		if err != nil {
			return err
		}
		if ended {
			if _, err := tx.ExecContext(ctx, "UPDATE outgoing SET sealed_for = x'' WHERE n = ?", d.n); err != nil {
				return err
			}
		}
		return setReason(ctx, tx, d.n, why)
	})
}

// nextDue returns how long it is until small or large mail is to be handed over.
func (a *Account) nextDue(ctx context.Context, large bool) (time.Duration, error) {
	var next sql.NullInt64
	// For each state by its index: of small mail most often the first there is.
	const first = "SELECT * FROM (SELECT o.next FROM outgoing o JOIN mails m ON m.n = o.mail WHERE o.state = %s AND o.lifetime_end > ?4 AND (m.count > ?5) = ?6 ORDER BY o.next LIMIT 1)"
	query := "SELECT min(next) FROM (" + fmt.Sprintf(first, "?1") + " UNION ALL " + fmt.Sprintf(first, "?2") + " UNION ALL " + fmt.Sprintf(first, "?3") + ")"
	err := a.db.QueryRowContext(ctx, query, Queued, Accepted, Held, millis(a.now()), smallMail, large).Scan(&next)
	if err != nil || !next.Valid {
		return longestWait, err
	}
	return max(0, fromMillis(next.Int64).Sub(a.now())), nil
}
