package main

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/asmtp/asmtp/internal/account"
)

// progress shows what a sync is doing in one line on stderr, if that is a terminal.
type progress struct {
	mu    sync.Mutex
	w     io.Writer // nil: nothing is shown
	now   func() time.Time
	used  bool
	drawn time.Time
	of    map[string]*pace // by step and node
}

// pace is since when and from which byte on a step has been watched.
type pace struct {
	since      time.Time
	from, done int64
}

const (
	redraw   = 100 * time.Millisecond // a line that changes more often cannot be read
	paceFrom = time.Second            // a shorter time says nothing of a rate
)

func (a *app) progress() *progress {
	p := &progress{now: time.Now, of: map[string]*pace{}}
	if a.errTerminal() {
		p.w = a.err
	}
	return p
}

// show replaces the line.
func (p *progress) show(s account.Progress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.w == nil {
		return
	}
	text, now := s.Step, p.now()
	if s.All > 0 {
		rate := p.rate(s, now)
		if 0 < s.Done && s.Done < s.All && now.Sub(p.drawn) < redraw {
			return
		}
		text += fmt.Sprintf(" %s of %s (%d %%)%s", byteCount(s.Done), byteCount(s.All), 100*s.Done/s.All, rate)
	} else if s.Done > 0 {
		text += " " + byteCount(s.Done)
	}
	if s.Err != nil {
		text += ": " + s.Err.Error()
	}
	fmt.Fprintf(p.w, "\r\x1b[K%s", text)
	p.used, p.drawn = true, now
}

// rate says how fast a step goes and how long it will take, once that can be told.
func (p *progress) rate(s account.Progress, now time.Time) string {
	key := s.Step + " " + s.Node.Key.String()
	at := p.of[key]
	if at == nil || s.Done < at.done { // the next mail
		at = &pace{since: now, from: s.Done}
		p.of[key] = at
	}
	at.done = s.Done
	took, moved := now.Sub(at.since), s.Done-at.from
	if took < paceFrom || moved <= 0 || s.Done == s.All {
		return ""
	}
	perSecond := float64(moved) / took.Seconds()
	left := time.Duration(float64(s.All-s.Done) / perSecond * float64(time.Second))
	return fmt.Sprintf(", %s/s, %s left", byteCount(int64(perSecond)), max(left.Round(time.Second), time.Second))
}

// count shows how many mails of a folder are dealt with.
func (p *progress) count(folder string, done, all int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	if p.w == nil || now.Sub(p.drawn) < redraw {
		return
	}
	text := fmt.Sprintf("%s: %d mails", folder, done)
	if all > 0 {
		text = fmt.Sprintf("%s: %d of %d mails", folder, done, all)
	}
	fmt.Fprintf(p.w, "\r\x1b[K%s", text)
	p.used, p.drawn = true, now
}

// done clears the line.
func (p *progress) done() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.used {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.used = false
	}
}
