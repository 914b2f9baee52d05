package main

import (
	"fmt"
	"io"
	"sync"

	"github.com/asmtp/asmtp/internal/account"
)

// progress shows what a sync is doing in one line on stderr, if that is a terminal.
type progress struct {
	mu   sync.Mutex
	w    io.Writer // nil: nothing is shown
	used bool
}

func (a *app) progress() *progress {
	p := new(progress)
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
	text := s.Step
	if s.All > 0 {
		text += fmt.Sprintf(" %s of %s (%d %%)", byteCount(s.Done), byteCount(s.All), 100*s.Done/s.All)
	} else if s.Done > 0 {
		text += " " + byteCount(s.Done)
	}
	if s.Err != nil {
		text += ": " + s.Err.Error()
	}
	fmt.Fprintf(p.w, "\r\x1b[K%s", text)
	p.used = true
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
