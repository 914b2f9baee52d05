package check

import (
	"fmt"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"
)

// rank orders the states as design.md section 4 does. Cancelled stands beside the rest:
// it follows queued alone and nothing follows it.
var rank = map[string]int{
	"queued": 0, "cancelled": 1, "accepted": 2, "held": 3, "unconfirmed": 4, "refused": 5, "delivered": 6, "read": 7,
}

// Sent is a mail that was given to a client.
type Sent struct {
	Span
	Account  string
	Lineage  int
	ID       string // empty if the client was killed before it said so
	Token    string // the subject
	To       []string
	Hash     string        // of the text
	Lifetime time.Duration // as asked for
	End      time.Time     // the earliest end of the lifetime, by the client's clock
}

// Status is what a client said of a mail to one recipient.
type Status struct {
	Span
	Account string
	Lineage int // counts the restored backups of the account; states of two lineages are not compared
	ID, To  string
	State   string
	Held    int
	Reason  string
	History []string // the states in its history, nil if it was not asked for
	Clock   time.Time
}

// Line is one mail of an inbox.
type Line struct{ ID, Subject string }

// Inbox is the whole inbox of an account.
type Inbox struct {
	Span
	Account string
	Lineage int
	Mails   []Line
}

// Shown is a mail that a following client announced.
type Shown struct {
	Span
	Account string
	Lineage int
	Line
}

// key names a mail to one recipient.
type key struct{ id, to string }

// lineKey names what one life of an account says of such a mail.
type lineKey struct {
	account string
	lineage int
	key
}

// step is the first time a state was known.
type step struct {
	Span
	state string
	held  int
	note  string
}

// Mails collects what is said of mail and finds what contradicts a promise. It is safe
// for concurrent use.
type Mails struct {
	mu         sync.Mutex
	sent       map[string]*Sent       // by token
	byID       map[string]*Sent       // those with an id
	steps      map[lineKey][]step     // per state, in the order they were told
	histories  map[lineKey][]string   // the longest history told
	shown      map[string][]string    // by account, lineage and id: spans
	boxes      map[string]Inbox       // the last inbox of an account
	bodies     map[string]bool        // account and id whose text was compared
	reached    map[key]string         // furthest state told in any lineage
	delivered  map[key]deliveredSince // told to be delivered
	violations []Violation
}

// deliveredSince says when a receipt was first known, and in which life of the recipient.
type deliveredSince struct {
	Span
	lineage int
}

// NewMails returns an empty collection.
func NewMails() *Mails {
	return &Mails{
		sent: map[string]*Sent{}, byID: map[string]*Sent{}, steps: map[lineKey][]step{}, histories: map[lineKey][]string{},
		shown: map[string][]string{}, boxes: map[string]Inbox{}, bodies: map[string]bool{}, reached: map[key]string{},
		delivered: map[key]deliveredSince{},
	}
}

func (m *Mails) report(rule, mail, format string, args ...any) {
	v := Violation{rule, mail, fmt.Sprintf(format, args...)}
	if !slices.Contains(m.violations, v) {
		m.violations = append(m.violations, v)
	}
}

// Violations returns what was found so far.
func (m *Mails) Violations() []Violation {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.violations)
}

// Sent notes a mail. Call it before the client is started, and again once its id is known.
func (m *Mails) Sent(s Sent) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sent[s.Token] = &s
	if s.ID != "" {
		m.byID[s.ID] = &s
	}
}

// Status notes a state and compares it with what was known before: no state moves
// back, a history only grows, a refusal has a reason, no end before the lifetime's.
func (m *Mails) Status(s Status) {
	m.mu.Lock()
	defer m.mu.Unlock()
	k := lineKey{s.Account, s.Lineage, key{s.ID, s.To}}
	now, ok := rank[s.State]
	if !ok {
		m.report("unknown state", s.ID, "%s to %s is %q", s.Account, s.To, s.State)
		return
	}
	known := false
	for i, old := range m.steps[k] {
		switch before := rank[old.state]; {
		case old.Span.before(s.Span) && (before > now || old.state == "cancelled" && s.State != "cancelled"),
			s.Span.before(old.Span) && (before < now || s.State == "cancelled" && old.state != "cancelled"):
			m.report("state moved back", s.ID, "%s to %s was %s at %s and %s at %s", s.Account, s.To, old.state, old.Span, s.State, s.Span)
		}
		if old.state == s.State {
			known = true
			if s.Until < old.Until {
				m.steps[k][i].Span = s.Span
			}
		}
	}
	if !known {
		m.steps[k] = append(m.steps[k], step{s.Span, s.State, s.Held, s.Reason})
	}
	m.history(k, s)
	m.further(k.key, s)
}

// further keeps how far a mail got, whoever says so.
func (m *Mails) further(k key, s Status) {
	if old, ok := m.reached[k]; !ok || rank[old] < rank[s.State] {
		m.reached[k] = s.State
	}
	switch s.State {
	case "refused":
		if s.Reason == "" {
			m.report("refused without a reason", s.ID, "%s to %s", s.Account, s.To)
		}
	case "unconfirmed":
		if sent := m.byID[s.ID]; sent != nil && s.Clock.Before(sent.End) {
			m.report("ended too early", s.ID, "%s to %s is unconfirmed at %s by its clock, its lifetime ends at %s", s.Account, s.To, s.Clock, sent.End)
		}
	case "delivered", "read":
		since := deliveredSince{s.Span, m.boxes[s.To].Lineage}
		if old, ok := m.delivered[k]; !ok || s.Until < old.Until {
			m.delivered[k] = since
		}
	}
}

// history compares a history with the longest one known of this life of the account.
func (m *Mails) history(k lineKey, s Status) {
	if s.History == nil {
		return
	}
	for i := 1; i < len(s.History); i++ {
		if rank[s.History[i-1]] > rank[s.History[i]] {
			m.report("state moved back", s.ID, "history of %s to %s: %s", s.Account, s.To, strings.Join(s.History, ", "))
			break
		}
	}
	if n := len(s.History); n == 0 || s.History[n-1] != s.State {
		m.report("history and state differ", s.ID, "%s to %s is %s, its history is %s", s.Account, s.To, s.State, strings.Join(s.History, ", "))
	}
	known := m.histories[k]
	n := min(len(known), len(s.History))
	if !slices.Equal(known[:n], s.History[:n]) {
		m.report("history changed", s.ID, "%s to %s: it was %s, it is %s", s.Account, s.To, strings.Join(known, ", "), strings.Join(s.History, ", "))
	}
	if len(s.History) > len(known) {
		m.histories[k] = s.History
	}
}

// Shown notes that a following client announced a mail, which it must do once.
func (m *Mails) Shown(s Shown) {
	m.mu.Lock()
	defer m.mu.Unlock()
	k := fmt.Sprintf("%s/%d/%s", s.Account, s.Lineage, s.ID)
	m.shown[k] = append(m.shown[k], s.Span.String())
	if n := len(m.shown[k]); n > 1 {
		m.report("shown twice", s.ID, "%s announced it at %s", s.Account, strings.Join(m.shown[k], " and "))
	}
}

// Inbox notes an inbox: each mail stands in it once, is one that was sent to this
// account, and stays; what its sender was told to be delivered is there. After a
// restored backup that may take a while, so it is looked at again only at the end.
func (m *Mails) Inbox(b Inbox) {
	m.mu.Lock()
	defer m.mu.Unlock()
	here := map[string]string{}
	tokens := map[string]string{}
	for _, l := range b.Mails {
		if _, twice := here[l.ID]; twice {
			m.report("shown twice", l.ID, "in the inbox of %s at %s", b.Account, b.Span)
		}
		here[l.ID] = l.Subject
		sent := m.sent[l.Subject]
		if sent == nil {
			continue // a notice
		}
		if other, twice := tokens[l.Subject]; twice {
			m.report("shown twice", l.ID, "%q is in the inbox of %s as %s too", l.Subject, b.Account, other)
		}
		tokens[l.Subject] = l.ID
		if !slices.Contains(sent.To, b.Account) {
			m.report("shown to somebody else", l.ID, "%q to %v is in the inbox of %s", l.Subject, sent.To, b.Account)
		}
		if sent.ID == "" { // its client was killed before it told the id
			sent.ID = l.ID
			m.byID[l.ID] = sent
		}
	}
	old, known := m.boxes[b.Account]
	if known && old.Lineage == b.Lineage && old.Span.before(b.Span) {
		for _, l := range old.Mails {
			if _, ok := here[l.ID]; !ok {
				m.report("vanished", l.ID, "it was in the inbox of %s at %s, at %s it is not", b.Account, old.Span, b.Span)
			}
		}
	}
	for k, d := range m.delivered {
		if _, ok := here[k.id]; k.to == b.Account && !ok && b.Lineage == 0 && d.lineage == 0 && d.Span.before(b.Span) {
			m.report("delivered, but not there", k.id, "%s was told to have it at %s, its inbox at %s lacks it", b.Account, d.Span, b.Span)
		}
	}
	if !known || old.Lineage < b.Lineage || old.From <= b.From {
		m.boxes[b.Account] = b
	}
}

// Body notes the text of a mail as its recipient reads it.
func (m *Mails) Body(account, id, subject, hash string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	sent := m.sent[subject]
	if sent == nil {
		return
	}
	m.bodies[account+"/"+id] = true
	if sent.Hash != hash {
		m.report("text differs", id, "%s reads a text with hash %s, %s was sent", account, hash, sent.Hash)
	}
}

// Unread returns the mails in the last inbox of an account whose text was not compared yet.
func (m *Mails) Unread(account string) (list []Line) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range m.boxes[account].Mails {
		if m.sent[l.Subject] != nil && !m.bodies[account+"/"+l.ID] {
			list = append(list, l)
		}
	}
	return list
}

// Missing returns how many mails that a client called accepted are in no inbox of their
// recipient yet, apart from those that ended.
func (m *Mails) Missing() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.missing())
}

func (m *Mails) missing() (list []key) {
	boxes := map[string]map[string]bool{}
	for account, b := range m.boxes {
		boxes[account] = map[string]bool{}
		for _, l := range b.Mails {
			boxes[account][l.ID] = true
		}
	}
	for k, state := range m.reached {
		if !boxes[k.to][k.id] && state != "queued" && state != "cancelled" && state != "unconfirmed" && state != "refused" {
			list = append(list, k)
		}
	}
	return list
}

// End checks what must hold once all is healed and every client has said and shown
// what it has: world is the latest clock that a client had, lives is which life each
// account is in, 0 if it is not named.
func (m *Mails) End(world time.Time, lives map[string]int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, k := range m.missing() {
		sent := m.byID[k.id]
		if sent != nil && sent.End.Before(world) && m.reached[k] != "delivered" && m.reached[k] != "read" {
			continue // its lifetime is over; that its sender says so is checked below
		}
		m.report("lost", k.id, "to %s: it was %s, and is not in the inbox", k.to, m.reached[k])
	}
	for k, steps := range m.steps {
		if k.lineage != lives[k.account] {
			continue
		}
		if last := furthest(steps); last.state == "accepted" || last.state == "held" {
			m.report("no end", k.id, "%s to %s is still %s after all was healed", k.account, k.to, last.state)
		}
	}
}

// Story returns all that is known of a mail, for people.
func (m *Mails) Story(id string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var b strings.Builder
	if s := m.byID[id]; s != nil {
		fmt.Fprintf(&b, "  sent by %s (life %d) to %v at %s as %q, lifetime %v\n", s.Account, s.Lineage, s.To, s.Span, s.Token, s.Lifetime)
	}
	var lines []string
	for k, steps := range m.steps {
		if k.id != id {
			continue
		}
		for _, s := range steps {
			lines = append(lines, fmt.Sprintf("  %9.2f s  %s (life %d) to %s: %s, held by %d %s\n", s.Until.Seconds(), k.account, k.lineage, k.to, s.state, s.held, s.note))
		}
		if h := m.histories[k]; h != nil {
			lines = append(lines, fmt.Sprintf("  %9s    history of %s to %s: %s\n", "", k.account, k.to, strings.Join(h, ", ")))
		}
	}
	for k, spans := range m.shown {
		if strings.HasSuffix(k, "/"+id) {
			lines = append(lines, fmt.Sprintf("  announced by %s at %s\n", strings.TrimSuffix(k, "/"+id), strings.Join(spans, ", ")))
		}
	}
	for account, box := range m.boxes {
		for _, l := range box.Mails {
			if l.ID == id {
				lines = append(lines, fmt.Sprintf("  in the inbox of %s (life %d) at %s\n", account, box.Lineage, box.Span))
			}
		}
	}
	sort.Strings(lines)
	return b.String() + strings.Join(lines, "")
}

// Counts returns how many mails to one recipient got how far, as the life that each
// account is in says; "in ended lives" are those that only an earlier life knew.
func (m *Mails) Counts(lives map[string]int) (mails int, states map[string]int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	states = map[string]int{}
	current := map[key]bool{}
	for k, steps := range m.steps {
		if k.lineage != lives[k.account] {
			continue
		}
		current[k.key] = true
		states[furthest(steps).state]++
	}
	if ended := len(m.reached) - len(current); ended > 0 {
		states["in ended lives"] = ended
	}
	return len(m.sent), states
}

// furthest returns the last state of a mail.
func furthest(steps []step) step {
	last := steps[0]
	for _, s := range steps[1:] {
		if rank[s.state] > rank[last.state] {
			last = s
		}
	}
	return last
}

// Of returns the ids of the mails of which one life of an account said something.
func (m *Mails) Of(account string, lineage int) (ids []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	seen := map[string]bool{}
	for k := range m.steps {
		if k.account == account && k.lineage == lineage && !seen[k.id] {
			seen[k.id] = true
			ids = append(ids, k.id)
		}
	}
	return ids
}

// longestEnd is the farthest that the end of an envelope may be away when it is sealed.
const longestEnd = 14*24*time.Hour - 4*time.Hour

// EnvelopeEnd returns the earliest end that the envelopes of a mail can have; false if
// the mail is not known.
func (m *Mails) EnvelopeEnd(id string) (time.Time, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.byID[id]
	if s == nil {
		return time.Time{}, false
	}
	end := s.End
	if s.Lifetime > longestEnd {
		end = end.Add(longestEnd - s.Lifetime)
	}
	return end.Truncate(time.Hour), true
}
