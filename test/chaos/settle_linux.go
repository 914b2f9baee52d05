package chaos

import (
	"context"
	"syscall"
	"time"
)

// settle heals the world, lets time pass until every mail has come to its end, and
// checks what must hold then.
func (r *run) settle(ctx context.Context) error {
	select {
	case <-r.found:
		r.stopPeople()
		return nil
	default:
	}
	r.say("all is healed; clocks are brought together")
	if err := r.heal(ctx); err != nil {
		return err
	}
	r.stopPeople()
	for _, a := range r.accounts {
		a.endFollow(syscall.SIGKILL)
	}
	steps := []time.Duration{time.Minute, 2 * time.Minute, 7 * time.Minute, 20 * time.Minute, 80 * time.Minute}
	for round := 0; ; round++ {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		left := r.round()
		r.say("settling, round %d: %d mails on their way, %d not in their inbox yet", round+1, left, r.mails.Missing())
		r.look()
		if left == 0 && r.mails.Missing() == 0 {
			break
		}
		if round == 16 {
			break
		}
		if err := r.clocks.jump(steps[min(round, len(steps)-1)] + time.Duration(round/8)*5*time.Hour); err != nil {
			return err
		}
		pause(ctx, time.Duration(1+round/2)*time.Second)
	}
	for _, a := range r.accounts {
		a.askAll()
	}
	r.mails.End(r.clocks.now(), r.lives())
	r.stopAll(syscall.SIGTERM)
	for _, n := range r.nodes {
		if res := r.command(n.name, "asmtpd", nil, longPatience, "store", "verify", "--data", n.data); res.code != 0 {
			r.fault("store does not verify", "asmtpd store verify of %s: exit code %d: %s %s", n.name, res.code, res.text, res.out)
		}
	}
	return r.compare(ctx, syscall.SIGTERM)
}

// heal ends all faults and waits until all nodes are connected. No clock goes back: the
// world goes to where the clock is that was farthest ahead.
func (r *run) heal(ctx context.Context) error {
	for _, d := range r.later {
		d.do()
	}
	r.later = nil
	r.proxies.Heal()
	if err := r.clocks.jump(2 * time.Hour); err != nil {
		return err
	}
	for _, n := range r.nodes {
		if n.disk != nil {
			n.disk.free()
		}
		if err := r.clocks.set(n.name, 0); err != nil {
			return err
		}
		if n.quota { // else what is refused for want of room would never come
			n.term()
			if err := n.narrow("4GiB", "1GiB"); err != nil {
				return err
			}
		}
		r.restart(n)
	}
	for _, a := range r.accounts {
		if err := r.clocks.set(a.name, 0); err != nil {
			return err
		}
	}
	if err := r.whole(ctx); err != nil && ctx.Err() == nil {
		r.fault("mesh does not heal", "%v", err)
	}
	pause(ctx, 500*time.Millisecond) // for stamps of restored accounts whose node was away
	return nil
}

// round has every account sync twice and asks it; it returns how many mails are on their way.
func (r *run) round() (left int) {
	for range 2 {
		for _, a := range r.accounts {
			if res := a.cli(2*patience, nil, "sync"); res.code != 0 {
				r.note("settling: sync of %s: exit code %d: %s", a.name, res.code, res.text)
			}
		}
	}
	for _, a := range r.accounts {
		a.askQueue()
		a.askInbox(1000)
		left += len(a.onTheWay())
	}
	return left
}

// askAll asks for every mail of which something is known.
func (a *account) askAll() {
	for _, id := range a.r.mails.Of(a.name, a.lineage) {
		a.askStatus(id)
	}
	a.askInbox(1 << 20)
}
