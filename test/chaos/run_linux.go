package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/asmtp/asmtp/test/chaos/check"
	"github.com/asmtp/asmtp/test/chaos/proxy"
)

// Config says what to run.
type Config struct {
	Seed     uint64
	Duration time.Duration // of the faults; settling comes on top
	Nodes    int           // 5 to 9
	Accounts int           // at least 5; 0: 8 to 11, drawn
	Rate     float64       // mails per second that are aimed at; 0: 2.5
	Break    string        // a fault of package fault, as a build tag has it, with hyphens
	Race     bool          // build the programs with the race detector
	Source   string        // the module's folder
	Keep     bool          // keep the folder also after a good run
	Out      io.Writer
}

// breaks are the faults of package fault.
var breaks = []string{"ack-before-fsync", "forget-custody", "double-accept", "early-expiry"}

// Errors of Run.
var (
	// ErrViolation: a promise was broken.
	ErrViolation = errors.New("a promise was broken")
	// ErrNotFound: nothing was found although a fault was built in.
	ErrNotFound = errors.New("the fault that was built in was not found")
)

// run is one run.
type run struct {
	Config
	dir, bin string
	started  time.Time
	rand     *rand.Rand // of the event loop alone
	start    *starter
	proxies  *proxy.Net
	clocks   *clocks
	mails    *check.Mails
	nodes    []*node
	accounts []*account
	counts   counts
	log      *os.File

	replays sync.RWMutex   // read-held while a first flight is sent again
	people  sync.WaitGroup // goroutines that use the world
	quit    chan struct{}  // closed when they shall end
	settled chan struct{}  // closed when stamps that are not reset will not be
	found   chan struct{}  // closed at the first violation
	hurry   gate           // probes do not pause while it is open
	mu      sync.Mutex
	stores  map[string]*check.Store // of the last checkpoint
	acks    []check.Ack             // of probes
	wrong   []check.Violation       // beyond those of mails
	foundAt time.Duration
	later   []deferred
	tokens  int
	shared  pool          // envelopes of probes
	began   time.Duration // when the chaos began
}

// Run runs a world and returns nil if it kept its promises. With Break it returns nil if
// the fault was found.
func Run(ctx context.Context, c Config) error {
	if c.Nodes < 5 || c.Nodes > 9 {
		return fmt.Errorf("%d nodes: want 5 to 9", c.Nodes)
	}
	if c.Break != "" && !slices.Contains(breaks, c.Break) {
		return fmt.Errorf("no fault %q: want one of %v", c.Break, breaks)
	}
	r := &run{Config: c, started: time.Now(), quit: make(chan struct{}), settled: make(chan struct{}), found: make(chan struct{}), mails: check.NewMails()}
	r.rand = rand.New(rand.NewPCG(c.Seed, 1))
	if r.Accounts == 0 {
		r.Accounts = 8 + r.rand.IntN(4)
	}
	if r.Rate == 0 {
		r.Rate = 2.5
	}
	dir, err := os.MkdirTemp("", "asmtp-chaos-")
	if err != nil {
		return err
	}
	r.dir = dir
	err = r.all(ctx)
	bad := errors.Is(err, ErrViolation) || errors.Is(err, ErrNotFound)
	if bad || c.Keep {
		r.say("logs and data are kept in %s", dir)
		return err
	}
	return errors.Join(err, os.RemoveAll(dir))
}

// all is Run without the folder.
func (r *run) all(ctx context.Context) (err error) {
	if r.log, err = os.Create(filepath.Join(r.dir, "events.log")); err != nil {
		return err
	}
	defer r.log.Close()
	r.say("seed %d, %v, %d nodes, %d accounts%s", r.Seed, r.Duration, r.Nodes, r.Accounts, map[bool]string{true: ", with the fault " + r.Break}[r.Break != ""])
	if err := r.build(ctx); err != nil {
		return err
	}
	r.say("the programs are built")
	r.start = newStarter()
	defer r.start.close()
	r.clocks = newClocks(filepath.Join(r.dir, "clocks"))
	r.proxies = proxy.New(r.owner)
	defer r.proxies.Close()
	defer r.end()
	if err := r.makeWorld(ctx); err != nil {
		return fmt.Errorf("make the world: %w", err)
	}
	r.began = r.now()
	r.say("the world is made; chaos begins")
	r.live()
	err = r.events(ctx)
	if err == nil {
		err = r.settle(ctx)
	}
	return r.verdict(err)
}

// end stops every process of the world.
func (r *run) end() {
	r.stopPeople()
	for _, n := range r.nodes {
		n.kill()
	}
	for _, n := range r.nodes {
		n.unmount()
	}
}

func (r *run) stopPeople() {
	select {
	case <-r.quit:
	default:
		close(r.quit)
		close(r.settled)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.people.Wait()
	}()
	for tick := time.NewTicker(50 * time.Millisecond); ; {
		for _, a := range r.accounts {
			a.endFollow(syscall.SIGKILL)
		}
		select {
		case <-done:
			tick.Stop()
			return
		case <-tick.C:
		}
	}
}

// now is the time since the start.
func (r *run) now() time.Duration { return time.Since(r.started) }

// say tells the user, and note the log alone.
func (r *run) say(format string, args ...any) {
	line := fmt.Sprintf("%7.1f s  %s\n", r.now().Seconds(), fmt.Sprintf(format, args...))
	fmt.Fprint(r.Out, line)
	if r.log != nil {
		fmt.Fprint(r.log, line)
	}
}

func (r *run) note(format string, args ...any) {
	fmt.Fprintf(r.log, "%7.1f s  %s\n", r.now().Seconds(), fmt.Sprintf(format, args...))
}

// fault notes a violation that is not about the state of a mail.
func (r *run) fault(rule, format string, args ...any) {
	r.faults(check.Violation{Rule: rule, What: fmt.Sprintf(format, args...)})
}

func (r *run) faults(list ...check.Violation) {
	r.mu.Lock()
	r.wrong = append(r.wrong, list...)
	r.mu.Unlock()
	r.look()
}

// look ends the run at the first violation.
func (r *run) look() {
	if len(r.violations()) == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.foundAt == 0 {
		r.foundAt = r.now()
		close(r.found)
	}
}

func (r *run) violations() []check.Violation {
	list := r.mails.Violations()
	r.mu.Lock()
	defer r.mu.Unlock()
	return append(list, r.wrong...)
}

// verdict reports how the run went.
func (r *run) verdict(err error) error {
	list := r.violations()
	const most = 4 // of one rule
	rules := map[string]int{}
	for _, v := range list {
		if rules[v.Rule]++; rules[v.Rule] > most {
			continue
		}
		r.say("VIOLATION %s", v)
		if v.Mail != "" {
			fmt.Fprint(r.Out, r.mails.Story(v.Mail))
			fmt.Fprint(r.log, r.mails.Story(v.Mail))
		}
	}
	for rule, n := range rules {
		if n > most {
			r.say("%q is violated %d times in all", rule, n)
		}
	}
	mails, states := r.mails.Counts(r.lives())
	r.say("seed %d: %d mails sent; furthest states told, per recipient: %v; %s", r.Seed, mails, states, r.counts.String())
	switch {
	case r.Break != "" && len(list) > 0:
		r.say("found the fault %s after %.1f s of chaos", r.Break, (r.foundAt - r.began).Seconds())
		return nil
	case len(list) > 0:
		return ErrViolation
	case err != nil:
		return err
	case r.Break != "":
		return ErrNotFound
	}
	r.say("no violation")
	return nil
}
