package account

import (
	"bytes"
	"context"
	"crypto/hmac"
	"database/sql"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
	"github.com/asmtp/asmtp/topic"
)

// oldKeys is how long after its replacement a shared key is still good for mail that
// was on its way: the longest time that any mesh keeps mail, and some more.
const oldKeys = 42 * 24 * time.Hour

// peer is somebody mail is exchanged with: a contact, or the user's own devices.
type peer struct {
	id       passport.ID
	name     string
	verified bool
	added    time.Time
	pass     *passport.Passport // nil: not known yet
	problem  string             // why its shared key cannot be used, and thus nothing be exchanged
	taken    string             // with problem: the contact that has the same key
	self     bool
}

// usable reports whether mail can be sealed for p now.
func (p *peer) usable() bool { return p.pass != nil && p.problem == "" }

// waiting returns why mail for p has to wait; empty if it need not.
func (p *peer) waiting() string {
	switch {
	case p.problem != "":
		return p.problem
	case p.pass == nil:
		return "the passport of " + p.name + " is not known yet"
	}
	if _, ok := p.pass.Shared(); !ok {
		return "the passport of " + p.name + " has no shared key yet"
	}
	return ""
}

// pair is one shared key of each side: what parts are sealed and tagged with.
type pair struct {
	peer    passport.ID
	own     noise.SharedPublic
	theirs  noise.SharedPublic
	tainted bool // a removed device of theirs may know their key
	sealer  *envelope.Sealer
	in      topic.PairSecret
}

// cache holds what is slow to compute and does not change.
type cache struct {
	sync.Mutex
	own   map[noise.SharedPublic]*noise.SharedPrivate
	pairs map[pairKey]*pair
	// parsed passports by tip: a chain is checked once in a process.
	passports map[passport.ID]*passport.Passport
	roster    *roster
	asOf      uint64 // peersChanged when roster was found to be that of the database
}

// roster is everybody mail is exchanged with, as of a version of the table meta's entry
// peers. It is shared and not changed.
type roster struct {
	version []byte
	limits  limits
	own     *passport.Passport
	peers   map[passport.ID]*peer
	dir     *directory
}

// knownRoster returns the roster without asking the database. What another process changed
// it may lack for as long as that is not noticed: good enough to send mail, which is sealed
// anew if the keys changed, and for what can be opened, but not to say that something cannot.
// nil: the database is to be asked.
func (a *Account) knownRoster() *roster {
	a.cache.Lock()
	defer a.cache.Unlock()
	if !a.watching.Load() || a.cache.asOf != a.peersChanged.Load() {
		return nil
	}
	return a.cache.roster
}

// roster returns it as it is now. Within a transaction that changes it, use peers.
func (a *Account) roster(ctx context.Context) (*roster, error) {
	asOf := a.peersChanged.Load()
	version, err := getMeta(ctx, a.db, metaPeers)
	if err != nil {
		return nil, fmt.Errorf("database: %w", err)
	}
	a.cache.Lock()
	r := a.cache.roster
	if r != nil && len(version) > 0 && bytes.Equal(r.version, version) {
		a.cache.asOf = asOf
		a.cache.Unlock()
		return r, nil
	}
	a.cache.Unlock()
	// What changes meanwhile comes with another version.
	r = &roster{version: version}
	r.limits = readLimits(ctx, a.db)
	if r.own, err = a.self(ctx, a.db); err != nil {
		return nil, err
	}
	if r.peers, err = a.peers(ctx, a.db); err != nil {
		return nil, err
	}
	r.dir = newDirectory(a.ID(), a.name, r.peers)
	a.cache.Lock()
	a.cache.roster, a.cache.asOf = r, asOf
	a.cache.Unlock()
	return r, nil
}

type pairKey struct {
	peer        passport.ID
	own, theirs noise.SharedPublic
}

// loadPassport returns the chain of id; nil if it is not known.
func (a *Account) loadPassport(ctx context.Context, q querier, id passport.ID) (*passport.Passport, error) {
	var export []byte
	err := q.QueryRowContext(ctx, "SELECT export FROM passports WHERE id = ?", id[:]).Scan(&export)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("database: %w", err)
	}
	a.cache.Lock()
	defer a.cache.Unlock()
	if p := a.cache.passports[id]; p != nil && p.Size() == len(export) {
		return p, nil // chains only grow, so the same size is the same chain
	}
	p, err := passport.Parse(export)
	if err != nil || p.ID() != id {
		return nil, fmt.Errorf("passport of %s: %w", id, ErrTampered)
	}
	if a.cache.passports == nil {
		a.cache.passports = make(map[passport.ID]*passport.Passport)
	}
	a.cache.passports[id] = p
	return p, nil
}

func putPassport(ctx context.Context, q querier, p *passport.Passport) error {
	id := p.ID()
	_, err := q.ExecContext(ctx, "INSERT INTO passports VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET export = excluded.export", id[:], p.Export())
	return err
}

// self returns the user's own passport.
func (a *Account) self(ctx context.Context, q querier) (*passport.Passport, error) {
	p, err := a.loadPassport(ctx, q, a.ID())
	if err == nil && p == nil {
		err = fmt.Errorf("own passport: %w", ErrTampered)
	}
	return p, err
}

// Passport returns the user's own passport.
func (a *Account) Passport(ctx context.Context) (*passport.Passport, error) { return a.self(ctx, a.db) }

// PassportOf returns the passport of a contact; nil if it is not known yet.
func (a *Account) PassportOf(ctx context.Context, id passport.ID) (*passport.Passport, error) {
	return a.loadPassport(ctx, a.db, id)
}

// ownSecret opens one of the user's shared keys.
func (a *Account) ownSecret(own *passport.Passport, key noise.SharedPublic) (*noise.SharedPrivate, error) {
	a.cache.Lock()
	defer a.cache.Unlock()
	if s := a.cache.own[key]; s != nil {
		return s, nil
	}
	s, err := own.Unshield(key, a.secrets.master, noise.EmptyPassphrasePSK)
	if err != nil {
		return nil, err
	}
	if a.cache.own == nil {
		a.cache.own = make(map[noise.SharedPublic]*noise.SharedPrivate)
	}
	a.cache.own[key] = s
	return s, nil
}

// peers returns all contacts and, under the user's own id, the user.
func (a *Account) peers(ctx context.Context, q querier) (map[passport.ID]*peer, error) {
	own, err := a.self(ctx, q)
	if err != nil {
		return nil, err
	}
	peers := map[passport.ID]*peer{a.ID(): {id: a.ID(), name: a.name, verified: true, pass: own, self: true}}
	tips := make(map[passport.ID]passport.Hash)
	err = each(ctx, q, "SELECT id, name, verified, tip, added, mac FROM contacts ORDER BY added, id", nil, func(rows *sql.Rows) error {
		p, tip, mac := new(peer), passport.Hash{}, []byte(nil)
		var added int64
		if err := rows.Scan(into{p.id[:]}, &p.name, &p.verified, into{tip[:]}, &added, &mac); err != nil {
			return err
		}
		if !hmac.Equal(mac, a.contactMAC(p.id, p.name, p.verified, tip)) {
			return fmt.Errorf("contact %q: %w", p.name, ErrTampered)
		}
		p.added = fromMillis(added)
		peers[p.id], tips[p.id] = p, tip
		return nil
	})
	if err != nil {
		return nil, err
	}
	for id, tip := range tips {
		p := peers[id]
		if p.pass, err = a.loadPassport(ctx, q, id); err != nil {
			return nil, err
		}
		if !tip.IsZero() && (p.pass == nil || !p.pass.Contains(tip)) {
			return nil, fmt.Errorf("passport of contact %q: %w", p.name, ErrTampered)
		}
	}
	checkPeers(own, peers)
	return peers, nil
}

// checkPeers finds the contacts whose shared key cannot be used.
func checkPeers(own *passport.Passport, peers map[passport.ID]*peer) {
	var ownKeys []noise.SharedPublic
	for _, k := range own.SharedKeys() {
		ownKeys = append(ownKeys, k.Key)
	}
	users := make(map[noise.SharedPublic][]*peer)
	for _, p := range peers {
		if p.pass == nil || p.self {
			continue
		}
		for _, k := range p.pass.SharedKeys() {
			users[k.Key] = append(users[k.Key], p)
		}
	}
	for _, p := range peers {
		if p.pass == nil || p.self {
			continue
		}
		for _, k := range p.pass.SharedKeys() {
			var others []noise.SharedPublic
			for _, u := range users[k.Key] {
				if u != p && older(u, p) {
					others, p.taken = append(others, k.Key), u.name
				}
			}
			if err := topic.CheckContact(k.Key, ownKeys, others); err != nil {
				p.problem = err.Error()
				if errors.Is(err, topic.ErrTakenKey) {
					p.problem += fmt.Sprintf(" (%s)", p.taken)
				}
				break
			}
		}
	}
}

// older decides which of two contacts keeps a shared key that both claim.
func older(a, b *peer) bool {
	if !a.added.Equal(b.added) {
		return a.added.Before(b.added)
	}
	return a.id.String() < b.id.String()
}

// contactMAC is the keyed hash over what the user decided about a contact and the
// newest block that was seen of it.
func (a *Account) contactMAC(id passport.ID, name string, verified bool, tip passport.Hash) []byte {
	v := []byte{0}
	if verified {
		v[0] = 1
	}
	sum := noise.H32(a.macKey[:], []byte("contact"), id[:], tip[:], v, []byte(name))
	return sum[:]
}

// knownPair returns a pair from the cache; nil if it is not there.
func (a *Account) knownPair(key pairKey) *pair {
	a.cache.Lock()
	defer a.cache.Unlock()
	return a.cache.pairs[key]
}

// pair returns the pair of two shared keys, from the cache or computed. topics must
// hold its topic if it is not there.
func (a *Account) pair(own *passport.Passport, p *peer, ours, theirs noise.SharedPublic, topics map[[2]noise.SharedPublic]topic.Topic) (*pair, error) {
	key := pairKey{p.id, ours, theirs}
	pr := a.knownPair(key)
	if pr == nil {
		t := topics[[2]noise.SharedPublic{ours, theirs}]
		secret, err := a.ownSecret(own, ours)
		if err != nil {
			return nil, err
		}
		me, other := topic.Party{ID: a.ID(), Key: ours}, topic.Party{ID: p.id, Key: theirs}
		out, err := topic.NewPairSecret(t, secret, me, other)
		if err != nil {
			return nil, err
		}
		in, err := topic.NewPairSecret(t, secret, other, me)
		if err != nil {
			return nil, err
		}
		pr = &pair{peer: p.id, own: ours, theirs: theirs, in: in,
			sealer: &envelope.Sealer{Own: secret, OwnID: a.ID(), PeerID: p.id, PeerKey: theirs, Out: out}}
		a.cache.Lock()
		if a.cache.pairs == nil {
			a.cache.pairs = make(map[pairKey]*pair)
		}
		a.cache.pairs[key] = pr
		a.cache.Unlock()
	}
	c := *pr
	for _, k := range p.pass.SharedKeys() {
		if k.Key == theirs {
			c.tainted = k.Tainted
		}
	}
	return &c, nil
}

// wantedPairs returns the keys of every pair of p that mail may come under now.
func wantedPairs(own *passport.Passport, p *peer, now time.Time) []pairKey {
	if !p.usable() {
		return nil
	}
	var keys []pairKey
	for _, mine := range recentKeys(own, now) {
		if p.self {
			keys = append(keys, pairKey{p.id, mine, mine})
			continue
		}
		for _, theirs := range recentKeys(p.pass, now) {
			keys = append(keys, pairKey{p.id, mine, theirs})
		}
	}
	return keys
}

// recentKeys returns the current shared key and those replaced not long ago.
func recentKeys(p *passport.Passport, now time.Time) []noise.SharedPublic {
	current, ok := p.Shared()
	if !ok {
		return nil
	}
	out := []noise.SharedPublic{current}
	all := p.SharedKeys()
	for i, k := range all {
		if k.Key != current && i+1 < len(all) && now.Sub(all[i+1].Created.Time()) < oldKeys {
			out = append(out, k.Key)
		}
	}
	return out
}

// pairs returns the pairs of the given peers under which mail may come, deriving and
// keeping the topics that are missing: in parallel, since each takes milliseconds. It
// must not be called inside a transaction.
func (a *Account) pairs(ctx context.Context, own *passport.Passport, peers map[passport.ID]*peer) ([]*pair, error) {
	var keys []pairKey
	for _, p := range peers {
		keys = append(keys, wantedPairs(own, p, a.now())...)
	}
	topics, err := a.topics(ctx, keys)
	if err != nil {
		return nil, err
	}
	var out []*pair
	for _, k := range keys {
		pr, err := a.pair(own, peers[k.peer], k.own, k.theirs, topics)
		if errors.Is(err, passport.ErrNotShared) || errors.Is(err, passport.ErrUnshield) {
			a.log.Warn("own shared key cannot be opened", "key", k.own, "error", err)
			continue // a key from before this device was one
		}
		if err != nil {
			return nil, fmt.Errorf("secret with %s: %w", peers[k.peer].name, err)
		}
		out = append(out, pr)
	}
	return out, nil
}

// outPair returns the pair of both current keys, with which mail to p is sealed now.
func (a *Account) outPair(ctx context.Context, own *passport.Passport, p *peer) (*pair, error) {
	mine, ok := own.Shared()
	theirs, ok2 := p.pass.Shared()
	if !ok || !ok2 {
		return nil, fmt.Errorf("%s: %w", p.name, passport.ErrNotShared)
	}
	topics, err := a.topics(ctx, []pairKey{{p.id, mine, theirs}})
	if err != nil {
		return nil, err
	}
	return a.pair(own, p, mine, theirs, topics)
}

// topics returns the topics of the pairs that are not in the cache.
func (a *Account) topics(ctx context.Context, keys []pairKey) (map[[2]noise.SharedPublic]topic.Topic, error) {
	keys = slices.DeleteFunc(slices.Clone(keys), func(k pairKey) bool { return a.knownPair(k) != nil })
	if len(keys) == 0 {
		return nil, nil
	}
	topics := make(map[[2]noise.SharedPublic]topic.Topic)
	err := each(ctx, a.db, "SELECT own, peer, topic FROM topics", nil, func(rows *sql.Rows) error {
		var k [2]noise.SharedPublic
		var t topic.Topic
		if err := rows.Scan(into{k[0][:]}, into{k[1][:]}, into{t[:]}); err != nil {
			return err
		}
		topics[k] = t
		return nil
	})
	if err != nil {
		return nil, err
	}
	fresh := make(map[[2]noise.SharedPublic]topic.Topic)
	var mu sync.Mutex
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	queued := make(map[[2]noise.SharedPublic]bool)
	for _, key := range keys {
		k := [2]noise.SharedPublic{key.own, key.theirs}
		if _, ok := topics[k]; ok || queued[k] {
			continue
		}
		queued[k] = true
		g.Go(func() error {
			if err := gctx.Err(); err != nil {
				return err
			}
			t := topic.Derive(k[0], k[1])
			mu.Lock()
			defer mu.Unlock()
			fresh[k] = t
			return nil
		})
	}
	if err := g.Wait(); err != nil || len(fresh) == 0 {
		return topics, err
	}
	return topics, a.write(ctx, func(tx *sql.Tx) error {
		for k, t := range fresh {
			topics[k] = t
			if _, err := tx.ExecContext(ctx, "INSERT OR IGNORE INTO topics VALUES (?, ?, ?)", k[0][:], k[1][:], t[:]); err != nil {
				return err
			}
		}
		return nil
	})
}
