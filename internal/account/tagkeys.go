package account

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"fmt"
	"math/rand/v2"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
	"github.com/asmtp/asmtp/topic"
)

const (
	// epochsBack and epochsAhead are the epochs around the present one for which the
	// node recognises mail: ahead far enough that mail matches while the user is away.
	epochsBack, epochsAhead = 1, 6
	// tagKeyBatch is how many tag keys or handles go into one call.
	tagKeyBatch = 500
)

type tagKeyRow struct {
	pair   pairKey
	epoch  uint32
	handle envelope.Handle
}

// registerTagKeys brings the node's list of tag keys up to date: new contacts, new
// keys, new epochs in; removed contacts out. It draws a random handle for every key and
// sends them in random order, so that the node cannot tell which belong together, and
// other handles for every node, so that two nodes cannot.
func (s *session) registerTagKeys(ctx context.Context) error {
	a := s.a
	o, err := a.newOpener(ctx)
	if err != nil {
		return err
	}
	byKey := make(map[pairKey]*pair)
	for _, p := range o.pairs {
		byKey[pairKey{p.peer, p.own, p.theirs}] = p
	}
	now := topic.Epoch(uint32(passport.TimeOf(a.now())))
	if err := a.drawHandles(ctx, s.node.Key, byKey, now); err != nil {
		return fmt.Errorf("tag keys: %w", err)
	}
	gen := binary.BigEndian.AppendUint64(nil, s.generation)
	var fresh []tagKeyRow
	var gone []envelope.Handle
	err = each(ctx, a.db, "SELECT handle, peer, own_key, peer_key, epoch, generation, gone FROM tagkeys WHERE node = ?", []any{s.node.Key[:]}, func(rows *sql.Rows) error {
		var r tagKeyRow
		var known []byte
		var g bool
		if err := rows.Scan(into{r.handle[:]}, into{r.pair.peer[:]}, into{r.pair.own[:]}, into{r.pair.theirs[:]}, &r.epoch, &known, &g); err != nil {
			return err
		}
		if g {
			gone = append(gone, r.handle)
		} else if !bytes.Equal(known, gen) && byKey[r.pair] != nil && r.epoch+epochsBack >= now {
			fresh = append(fresh, r)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("tag keys: %w", err)
	}
	rand.Shuffle(len(fresh), func(i, j int) { fresh[i], fresh[j] = fresh[j], fresh[i] })
	for len(fresh) > 0 {
		n := min(len(fresh), tagKeyBatch)
		if err := s.registerBatch(ctx, byKey, fresh[:n], gen); err != nil {
			return fmt.Errorf("register tag keys: %w", err)
		}
		fresh = fresh[n:]
	}
	for len(gone) > 0 {
		n := min(len(gone), tagKeyBatch)
		if err := s.deregisterBatch(ctx, gone[:n]); err != nil {
			return fmt.Errorf("deregister tag keys: %w", err)
		}
		gone = gone[n:]
	}
	return nil
}

// drawHandles makes the rows of the keys that are missing, and removes those that the
// node has forgotten by itself.
func (a *Account) drawHandles(ctx context.Context, node noise.PublicKey, pairs map[pairKey]*pair, now uint32) error {
	have := make(map[pairKey]map[uint32]bool)
	old := false
	err := each(ctx, a.db, "SELECT peer, own_key, peer_key, epoch, gone FROM tagkeys WHERE node = ?", []any{node[:]}, func(rows *sql.Rows) error {
		var k pairKey
		var epoch uint32
		var gone bool
		if err := rows.Scan(into{k.peer[:]}, into{k.own[:]}, into{k.theirs[:]}, &epoch, &gone); err != nil {
			return err
		}
		old = old || epoch+epochsBack+1 < now
		if gone {
			return nil
		}
		if have[k] == nil {
			have[k] = make(map[uint32]bool)
		}
		have[k][epoch] = true
		return nil
	})
	if err != nil {
		return err
	}
	var missing []tagKeyRow
	for k := range pairs {
		for epoch := now - min(now, epochsBack); epoch <= now+epochsAhead; epoch++ {
			if !have[k][epoch] {
				h, err := envelope.NewHandle(nil)
				if err != nil {
					return err
				}
				missing = append(missing, tagKeyRow{k, epoch, h})
			}
		}
	}
	if len(missing) == 0 && !old {
		return nil
	}
	return a.write(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "DELETE FROM tagkeys WHERE epoch < ?", int64(now)-epochsBack-1); err != nil {
			return err
		}
		for _, r := range missing {
			_, err := tx.ExecContext(ctx, "INSERT OR IGNORE INTO tagkeys (handle, peer, own_key, peer_key, epoch, node) VALUES (?, ?, ?, ?, ?, ?)",
				r.handle[:], r.pair.peer[:], r.pair.own[:], r.pair.theirs[:], r.epoch, node[:])
			if err != nil {
				return err
			}
		}
		return a.bumpPeers(ctx, tx)
	})
}

func (s *session) registerBatch(ctx context.Context, byKey map[pairKey]*pair, rows []tagKeyRow, gen []byte) error {
	keys := make([]envelope.TagKey, len(rows))
	for i, r := range rows {
		keys[i] = envelope.TagKey{Epoch: r.epoch, Handle: r.handle, Key: byKey[r.pair].in.TagKey(r.epoch)}
	}
	if err := s.c.RegisterTagKeys(ctx, keys); err != nil {
		return err
	}
	return s.a.write(ctx, func(tx *sql.Tx) error {
		for _, r := range rows {
			if _, err := tx.ExecContext(ctx, "UPDATE tagkeys SET generation = ? WHERE handle = ?", gen, r.handle[:]); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *session) deregisterBatch(ctx context.Context, handles []envelope.Handle) error {
	if err := s.c.DeregisterTagKeys(ctx, handles); err != nil {
		return err
	}
	return s.a.write(ctx, func(tx *sql.Tx) error {
		for _, h := range handles {
			if _, err := tx.ExecContext(ctx, "DELETE FROM tagkeys WHERE handle = ? AND gone = 1", h[:]); err != nil {
				return err
			}
		}
		return nil
	})
}
