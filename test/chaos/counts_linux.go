package chaos

import (
	"fmt"
	"sort"
	"strings"
	"sync"
)

// counts counts by name what happened.
type counts struct {
	mu sync.Mutex
	n  map[string]int
}

func (c *counts) add(name string, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == nil {
		c.n = map[string]int{}
	}
	c.n[name] += n
}

// String lists all, by name.
func (c *counts) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []string
	for name, n := range c.n {
		list = append(list, fmt.Sprintf("%s %d", name, n))
	}
	sort.Strings(list)
	return strings.Join(list, ", ")
}

// gate is open or not.
type gate struct {
	mu   sync.Mutex
	open chan struct{}
	is   bool
}

// set opens or closes the gate.
func (g *gate) set(open bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open == nil {
		g.open = make(chan struct{})
	}
	if open && !g.is {
		close(g.open)
	}
	if !open && g.is {
		g.open = make(chan struct{})
	}
	g.is = open
}

// opened returns a channel that is closed while the gate is open.
func (g *gate) opened() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open == nil {
		g.open = make(chan struct{})
	}
	return g.open
}
