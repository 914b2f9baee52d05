package chaos

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"
)

// clocks are the files that the programs add to the machine's clock: that of the world,
// and how far each process is off it.
type clocks struct {
	dir   string
	mu    sync.Mutex
	world time.Duration
	skew  map[string]time.Duration
	high  map[string]time.Time // the latest that a clock was when it was last set
}

func newClocks(dir string) *clocks {
	return &clocks{dir: dir, skew: map[string]time.Duration{}, high: map[string]time.Time{}}
}

func (c *clocks) file(name string) string { return filepath.Join(c.dir, name) }

// set sets how far a process is off the world; a new name is made known.
func (c *clocks) set(name string, skew time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.skew[name]; known {
		c.high[name] = c.highestLocked(name)
	}
	c.skew[name] = skew
	return c.write(name)
}

// jump moves the clock of the world, and with it every other, forward.
func (c *clocks) jump(by time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.world += by
	var errs []error
	for name := range c.skew {
		errs = append(errs, c.write(name))
	}
	return errors.Join(errs...)
}

// write replaces the file of a clock whole, since it is read at any moment.
func (c *clocks) write(name string) error {
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return err
	}
	tmp := c.file(name) + ".new"
	if err := os.WriteFile(tmp, []byte(strconv.Itoa(int((c.world+c.skew[name])/time.Second))), 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, c.file(name))
}

// of returns what the clock of a process shows.
func (c *clocks) of(name string) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.world + c.skew[name])
}

// now is the clock of the world.
func (c *clocks) now() time.Time { return c.of("") }

// highest returns the latest that the clock of a process has ever shown.
func (c *clocks) highest(name string) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.highestLocked(name)
}

func (c *clocks) highestLocked(name string) time.Time {
	now := time.Now().Add(c.world + c.skew[name])
	if c.high[name].After(now) {
		return c.high[name]
	}
	return now
}

// advanced returns how far the world's clock is before the machine's.
func (c *clocks) advanced() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.world
}
