package check_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/asmtp/asmtp/test/chaos/check"
)

// begin is when every history of these tests begins.
var begin = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

// at is a span of a tenth of a second that begins after so many seconds.
func at(seconds float64) check.Span {
	from := time.Duration(seconds * float64(time.Second))
	return check.Span{From: from, Until: from + 100*time.Millisecond}
}

// history is a story of one mail from alice to bob, and what the checker says of it.
type history struct {
	*check.Mails
	lineage map[string]int
}

func newHistory() *history {
	h := &history{check.NewMails(), map[string]int{}}
	h.Sent(check.Sent{Span: at(0), Account: "alice", ID: "m1", Token: "one", To: []string{"bob"}, Hash: "h1",
		Lifetime: 14 * 24 * time.Hour, End: begin.Add(14 * 24 * time.Hour)})
	return h
}

func (h *history) told(seconds float64, state string, past ...string) {
	h.Status(check.Status{Span: at(seconds), Account: "alice", Lineage: h.lineage["alice"], ID: "m1", To: "bob", State: state, History: past, Clock: begin})
}

func (h *history) inbox(seconds float64, mails ...check.Line) {
	h.Inbox(check.Inbox{Span: at(seconds), Account: "bob", Lineage: h.lineage["bob"], Mails: mails})
}

func (h *history) end(world time.Time) { h.End(world, h.lineage) }

func (h *history) announced(seconds float64) {
	h.Shown(check.Shown{Span: at(seconds), Account: "bob", Lineage: h.lineage["bob"], Line: one})
}

var one = check.Line{ID: "m1", Subject: "one"}

// rules returns the rules that were violated, each once.
func (h *history) rules() (list []string) {
	for _, v := range h.Violations() {
		if !slices.Contains(list, v.Rule) {
			list = append(list, v.Rule)
		}
	}
	slices.Sort(list)
	return list
}

// Each rule about mails is violated by the histories that break it, and by no other.
func TestMailRules(t *testing.T) {
	later := begin.Add(30 * 24 * time.Hour)
	for _, tt := range []struct {
		name  string
		story func(*history)
		want  []string
	}{
		{"a good life", func(h *history) {
			h.told(1, "queued")
			h.inbox(2)
			h.told(3, "accepted", "queued", "accepted")
			h.announced(4)
			h.told(5, "held", "queued", "accepted", "held", "held")
			h.inbox(6, one)
			h.Body("bob", "m1", "one", "h1")
			h.told(7, "delivered", "queued", "accepted", "held", "held", "delivered")
			h.inbox(8, one)
			h.end(later)
		}, nil},
		{"queued to the end", func(h *history) { h.told(1, "queued"); h.inbox(2); h.end(begin) }, nil},
		{"accepted and never shown", func(h *history) { h.told(1, "accepted"); h.inbox(2); h.told(3, "delivered"); h.end(begin) }, []string{"lost"}},
		{"held to the end", func(h *history) { h.told(1, "held"); h.inbox(2, one); h.end(begin) }, []string{"no end"}},
		{"held after its lifetime", func(h *history) { h.told(1, "held"); h.inbox(2); h.end(later) }, []string{"no end"}},
		{"delivered, and not in the inbox", func(h *history) { h.inbox(0); h.told(1, "delivered"); h.inbox(2) }, []string{"delivered, but not there"}},
		{"delivered, the inbox was listed meanwhile", func(h *history) {
			h.inbox(0)
			h.told(1, "delivered")
			h.Inbox(check.Inbox{Span: check.Span{From: time.Second, Until: 3 * time.Second}, Account: "bob"})
			h.inbox(4, one)
			h.end(begin)
		}, nil},
		{"back from held to accepted", func(h *history) { h.told(1, "held"); h.told(2, "accepted") }, []string{"state moved back"}},
		{"told late of an earlier state", func(h *history) { h.told(2, "accepted"); h.told(1, "held") }, []string{"state moved back"}},
		{"two questions at the same time", func(h *history) { h.told(1, "held"); h.told(1.05, "accepted") }, nil},
		{"back from delivered to refused", func(h *history) { h.told(1, "delivered"); h.told(2, "refused") }, []string{"refused without a reason", "state moved back"}},
		{"accepted after cancelled", func(h *history) { h.told(1, "cancelled"); h.told(2, "accepted") }, []string{"state moved back"}},
		{"cancelled after accepted", func(h *history) { h.told(1, "accepted"); h.told(2, "cancelled") }, []string{"state moved back"}},
		{"back in an older backup", func(h *history) {
			h.told(1, "held")
			h.lineage["alice"]++
			h.told(2, "accepted")
			h.told(3, "delivered")
			h.inbox(4, one)
			h.end(begin)
		}, nil},
		{"lost by an older backup, sent by its node", func(h *history) { h.told(1, "accepted"); h.lineage["alice"]++; h.inbox(2, one); h.end(begin) }, nil},
		{"lost by an older backup and by its node", func(h *history) { h.told(1, "accepted"); h.lineage["alice"]++; h.inbox(2); h.end(begin) }, []string{"lost"}},
		{"a history that moves back", func(h *history) { h.told(1, "accepted", "held", "accepted") }, []string{"state moved back"}},
		{"a history that forgets", func(h *history) {
			h.told(1, "held", "queued", "accepted", "held")
			h.told(2, "held", "queued", "held")
		}, []string{"history changed"}},
		{"a history that ends elsewhere", func(h *history) { h.told(1, "held", "queued", "accepted") }, []string{"history and state differ"}},
		{"refused without a reason", func(h *history) { h.told(1, "refused") }, []string{"refused without a reason"}},
		{"unconfirmed in time", func(h *history) {
			h.Status(check.Status{Span: at(1), Account: "alice", ID: "m1", To: "bob", State: "unconfirmed", Clock: later})
			h.inbox(2)
			h.end(later)
		}, nil},
		{"unconfirmed before its end", func(h *history) { h.told(1, "unconfirmed") }, []string{"ended too early"}},
		{"a late receipt", func(h *history) {
			h.Status(check.Status{Span: at(1), Account: "alice", ID: "m1", To: "bob", State: "unconfirmed", Clock: later})
			h.told(2, "delivered")
			h.inbox(3, one)
			h.end(later)
		}, nil},
		{"an unknown state", func(h *history) { h.told(1, "lost") }, []string{"unknown state"}},
		{"announced twice", func(h *history) { h.announced(1); h.announced(2) }, []string{"shown twice"}},
		{"announced again by an older backup", func(h *history) { h.announced(1); h.lineage["bob"]++; h.announced(2) }, nil},
		{"twice in the inbox", func(h *history) { h.inbox(1, one, one) }, []string{"shown twice"}},
		{"twice in the inbox under two ids", func(h *history) { h.inbox(1, one, check.Line{ID: "m2", Subject: "one"}) }, []string{"shown twice"}},
		{"gone from the inbox", func(h *history) { h.inbox(1, one); h.inbox(2) }, []string{"vanished"}},
		{"gone with an older backup", func(h *history) { h.inbox(1, one); h.lineage["bob"]++; h.inbox(2); h.inbox(3, one) }, nil},
		{"shown to somebody else", func(h *history) {
			h.Inbox(check.Inbox{Span: at(1), Account: "carol", Mails: []check.Line{one}})
		}, []string{"shown to somebody else"}},
		{"another text", func(h *history) { h.inbox(1, one); h.Body("bob", "m1", "one", "h2") }, []string{"text differs"}},
		{"a notice in the inbox", func(h *history) { h.inbox(1, check.Line{ID: "m9", Subject: "Undelivered: one"}) }, nil},
	} {
		h := newHistory()
		tt.story(h)
		if got := h.rules(); !slices.Equal(got, tt.want) {
			t.Errorf("%s: violated %q, want %q\n%v", tt.name, got, tt.want, h.Violations())
		}
	}
}

// The mail of a client that was killed before it told the id is known by its subject.
func TestUnknownID(t *testing.T) {
	m := check.NewMails()
	m.Sent(check.Sent{Span: at(0), Account: "alice", Token: "one", To: []string{"bob"}, Hash: "h1"})
	m.Inbox(check.Inbox{Span: at(1), Account: "bob", Mails: []check.Line{one}})
	if list := m.Unread("bob"); !slices.Equal(list, []check.Line{one}) {
		t.Fatalf("to read: %v", list)
	}
	m.Body("bob", "m1", "one", "h1")
	if list := m.Unread("bob"); len(list) > 0 || len(m.Violations()) > 0 {
		t.Fatalf("to read: %v, violations %v", list, m.Violations())
	}
	m.Inbox(check.Inbox{Span: at(2), Account: "bob", Mails: []check.Line{one, {ID: "m2", Subject: "one"}}})
	if v := m.Violations(); len(v) != 1 || v[0].Rule != "shown twice" {
		t.Fatal(v)
	}
}

// A story names all that is known of a mail.
func TestStory(t *testing.T) {
	h := newHistory()
	h.told(1, "queued")
	h.told(2, "held", "queued", "accepted", "held")
	h.announced(3)
	h.inbox(4, one)
	story := h.Story("m1")
	for _, want := range []string{"sent by alice", "queued", "held", "announced by bob", "inbox of bob"} {
		if !strings.Contains(story, want) {
			t.Errorf("no %q in\n%s", want, story)
		}
	}
	if mails, states := h.Counts(nil); mails != 1 || states["held"] != 1 {
		t.Fatalf("%d mails, %v", mails, states)
	}
	if _, states := h.Counts(map[string]int{"alice": 1}); states["in ended lives"] != 1 || len(states) != 1 {
		t.Fatalf("after a restored backup: %v", states)
	}
}

// The end of envelopes is never thought later than it can be: a full hour, and so far
// away as the mesh keeps mail.
func TestEnvelopeEnd(t *testing.T) {
	m := check.NewMails()
	for id, life := range map[string]time.Duration{"long": 14 * 24 * time.Hour, "short": 5*time.Hour + 30*time.Minute} {
		m.Sent(check.Sent{ID: id, Token: id, Lifetime: life, End: begin.Add(life)})
	}
	for id, want := range map[string]time.Duration{"long": 14*24*time.Hour - 4*time.Hour, "short": 5 * time.Hour} {
		if end, ok := m.EnvelopeEnd(id); !ok || !end.Equal(begin.Add(want)) {
			t.Errorf("%s: %v, %v", id, end, ok)
		}
	}
	if _, ok := m.EnvelopeEnd("none"); ok {
		t.Error("an end of a mail that is not known")
	}
}
