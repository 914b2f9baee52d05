package chaos

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/asmtp/asmtp/test/chaos/check"
)

// senders is how many mails are written at the same time.
const senders = 3

// outgoing is what asmtp-cli says of a mail.
type outgoing struct {
	ID, To, State, Reason string
	Held                  int
	History               []struct{ State string }
	Envelopes             []string
}

// keepSending writes mails until the run ends: slower when the machine does not keep up.
func (r *run) keepSending(i uint64) {
	random := rand.New(rand.NewPCG(r.Seed, 100+i))
	pause := time.Duration(float64(time.Second) * senders / r.Rate)
	for {
		began := time.Now()
		select {
		case <-r.quit:
			return
		case <-time.After(time.Duration(float64(pause) * (0.2 + 1.6*random.Float64()))):
		}
		a := r.accounts[random.IntN(len(r.accounts))]
		a.sendOne(random)
		if took := time.Since(began); took > 10*pause {
			r.counts.add("slow sends", 1)
		}
	}
}

// sendOne writes a mail to one to three contacts.
func (a *account) sendOne(random *rand.Rand) {
	a.folder.RLock()
	defer a.folder.RUnlock()
	a.clock.RLock()
	defer a.clock.RUnlock()
	r := a.r
	text := letter(random)
	sum := sha256.Sum256(text)
	r.mu.Lock()
	r.tokens++
	token := fmt.Sprintf("chaos %d-%06d", r.Seed, r.tokens)
	r.mu.Unlock()
	args := []string{"send", "--subject", token}
	var to []string
	for _, i := range random.Perm(len(a.contacts))[:1+random.IntN(3)*random.IntN(2)] {
		if !contains(to, a.contacts[i]) {
			to = append(to, a.contacts[i])
			args = append(args, "--to", a.contacts[i])
		}
	}
	lifetime := 14 * 24 * time.Hour
	if random.IntN(12) == 0 {
		lifetime = time.Duration(3+random.IntN(30)) * time.Hour
		args = append(args, "--lifetime", lifetime.String())
	}
	limit := patience
	if random.IntN(25) == 0 {
		limit = time.Duration(random.IntN(60)) * time.Millisecond // a client that is killed while it sends
	}
	sent := check.Sent{Account: a.name, Lineage: a.lineage, Token: token, To: to, Hash: hex.EncodeToString(sum[:]),
		Lifetime: lifetime, End: r.clocks.of(a.name).Add(lifetime - 2*time.Second)}
	sent.From = r.now()
	sent.Until = sent.From
	r.mails.Sent(sent)
	res := a.cli(limit, text, args...)
	sent.Until = res.Until
	if res.code > 0 && !res.killed {
		r.fault("send failed", "asmtp-cli %v of %s: exit code %d: %s", args, a.name, res.code, res.text)
	}
	if res.killed {
		r.counts.add("sends killed", 1)
	}
	err := each(res.out, func(o outgoing) {
		if sent.ID == "" {
			sent.ID = o.ID
			r.mails.Sent(sent)
		}
		a.told(res.Span, o)
	})
	if err != nil && !res.killed {
		r.fault("harness", "send of %s: %v", a.name, err)
	}
	r.look()
}

// told hands what a client said of a mail to the checker.
func (a *account) told(span check.Span, o outgoing) {
	s := check.Status{Span: span, Account: a.name, Lineage: a.lineage, ID: o.ID, To: o.To, State: o.State, Held: o.Held, Reason: o.Reason, Clock: a.r.clocks.highest(a.name)}
	if o.History != nil {
		s.History = []string{}
		for _, h := range o.History {
			s.History = append(s.History, h.State)
		}
	}
	a.r.mails.Status(s)
}

// letter is a text that does not compress well: mostly short, sometimes of many parts.
func letter(random *rand.Rand) []byte {
	size := 100 + random.IntN(1500)
	switch random.IntN(20) {
	case 0, 1:
		size = 2000 + random.IntN(30_000)
	case 2:
		size = 30_000 + random.IntN(170_000)
	}
	raw := make([]byte, size*3/4)
	for i := range raw {
		raw[i] = byte(random.Uint32())
	}
	text := base64.StdEncoding.EncodeToString(raw)
	var b strings.Builder
	for len(text) > 72 {
		b.WriteString(text[:72] + "\n")
		text = text[72:]
	}
	b.WriteString(text + "\n")
	return []byte(b.String())
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}
