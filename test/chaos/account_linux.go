package chaos

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/test/chaos/check"
)

// account is one user with one device.
type account struct {
	r        *run
	name     string
	home     string
	key      noise.PublicKey
	nodes    []*node
	contacts []string

	// folder is read-held by every command and follower, and held while the folder is
	// put back to an older copy.
	folder  sync.RWMutex
	lineage int          // guarded by folder, written with mu held too
	clock   sync.RWMutex // read-held while a mail is written
	backup  string       // folder of a copy, if there is one

	mu     sync.Mutex
	follow *exec.Cmd
	queue  map[string]bool     // ids that were on their way when last asked; of the watcher
	parts  map[string][]string // envelopes of mails on their way, by id and recipient
}

// cli runs asmtp-cli for the account. The caller holds folder.
func (a *account) cli(limit time.Duration, stdin []byte, args ...string) result {
	return a.r.command(a.name, "asmtp-cli", stdin, limit, append([]string{"--home", a.home, "--json"}, args...)...)
}

// must is cli for what has to succeed while the world is made.
func (a *account) must(args ...string) ([]byte, error) {
	res := a.cli(longPatience, nil, args...)
	if res.code != 0 {
		return nil, fmt.Errorf("asmtp-cli %v of %s: exit code %d: %s", args, a.name, res.code, res.text)
	}
	return res.out, nil
}

// longPatience is how long what needs no node may take on a machine that does other work.
const longPatience = 2 * time.Minute

// local is cli for what needs no node: it must not fail.
func (a *account) local(args ...string) (result, bool) {
	res := a.cli(longPatience, nil, args...)
	if res.code != 0 {
		a.r.fault("command failed", "asmtp-cli %v of %s: exit code %d after %.1f s: %s", args, a.name, res.code, (res.Until - res.From).Seconds(), res.text)
		return res, false
	}
	return res, true
}

// each decodes the lines of JSON that a command printed.
func each[T any](out []byte, fn func(T)) error {
	for d := json.NewDecoder(bytes.NewReader(out)); d.More(); {
		var v T
		if err := d.Decode(&v); err != nil {
			return err
		}
		fn(v)
	}
	return nil
}

// keepFollowing runs "sync --follow", again whenever it was ended.
func (a *account) keepFollowing() {
	for pause := 100 * time.Millisecond; ; {
		select {
		case <-a.r.quit:
			return
		case <-time.After(pause):
		}
		a.followOnce()
	}
}

// followOnce runs "sync --follow" until it ends, which it does only when it is asked to.
func (a *account) followOnce() {
	a.folder.RLock()
	defer a.folder.RUnlock()
	cmd := exec.Command(filepath.Join(a.r.bin, "asmtp-cli"), "--home", a.home, "--json", "sync", "--follow")
	cmd.Env, cmd.Dir = a.r.environment(a.name), a.r.dir
	var problems bytes.Buffer
	cmd.Stderr = &problems
	out, err := cmd.StdoutPipe()
	if err != nil {
		a.r.fault("harness", "%v", err)
		return
	}
	if err := a.r.start.start(cmd); err != nil {
		a.r.fault("harness", "start asmtp-cli: %v", err)
		return
	}
	a.mu.Lock()
	a.follow = cmd
	a.mu.Unlock()
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var l struct{ ID, From, Subject string }
		if json.Unmarshal(lines.Bytes(), &l) == nil && l.ID != "" {
			at := a.r.now()
			a.r.mails.Shown(check.Shown{Span: check.Span{From: at, Until: at}, Account: a.name, Lineage: a.lineage, Line: check.Line{ID: l.ID, Subject: l.Subject}})
			a.r.counts.add("announced", 1)
		}
	}
	err = cmd.Wait()
	a.mu.Lock()
	asked := a.follow == nil
	a.follow = nil
	a.mu.Unlock()
	if line := alarming(problems.Bytes()); line != "" {
		a.r.fault("program fault", "sync --follow of %s: %s", a.name, problems.String())
	}
	if !asked {
		a.r.fault("process ended unasked", "sync --follow of %s: %v: %s", a.name, err, problems.String())
	}
	a.r.look()
}

// endFollow sends a signal to the follower, if there is one.
func (a *account) endFollow(s syscall.Signal) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.follow == nil {
		return false
	}
	signal(a.follow, s)
	a.follow = nil
	return true
}

// lives says which life each account is in.
func (r *run) lives() map[string]int {
	m := map[string]int{}
	for _, a := range r.accounts {
		a.mu.Lock()
		m[a.name] = a.lineage
		a.mu.Unlock()
	}
	return m
}
