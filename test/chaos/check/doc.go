// Package check decides whether what was seen of a mesh under chaos is what the product
// promises. It knows no process and no file: a harness tells it what clients said and
// what stood in the stores, so every rule is tested with histories made by hand.
//
// [Mails] takes in what clients say of mail, in any order, each with the time span in
// which it was asked: two answers contradict each other only if one was complete before
// the other was asked for. [Stores] compares what the stores of stopped nodes hold.
//
// A rule says nothing about what nobody saw: a state that came and went between two
// questions, an envelope that was lost and sent again between two looks into the stores.
package check

import (
	"fmt"
	"time"
)

// Violation is a promise that was not kept.
type Violation struct {
	Rule string // a short name
	Mail string // the id of the mail, if it is about one
	What string
}

// String returns what happened on one line.
func (v Violation) String() string {
	if v.Mail == "" {
		return fmt.Sprintf("%s: %s", v.Rule, v.What)
	}
	return fmt.Sprintf("%s: mail %s: %s", v.Rule, v.Mail, v.What)
}

// Span is when something was seen, since the start of the run: asked for at From, known at Until.
type Span struct{ From, Until time.Duration }

// before reports whether s was over when t began.
func (s Span) before(t Span) bool { return s.Until < t.From }

// String returns the span in seconds.
func (s Span) String() string { return fmt.Sprintf("%.2f-%.2f s", s.From.Seconds(), s.Until.Seconds()) }
