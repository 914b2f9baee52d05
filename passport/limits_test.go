package passport_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
)

// longest returns the export of a chain of MaxBlocks blocks, made once.
var longest = sync.OnceValues(func() ([]byte, error) {
	a, err := testKey("a")
	if err != nil {
		return nil, err
	}
	p, _, err := passport.Create(nil, a, start)
	if err != nil {
		return nil, err
	}
	export, tip := p.Export(), p.Tip()
	for range passport.MaxBlocks - 1 {
		b, err := passport.SignBlock(a, start, tip, []passport.Entry{passport.BigShared(1, start)})
		if err != nil {
			return nil, err
		}
		tip = b.Hash()
		export = append(binary.BigEndian.AppendUint32(export, uint32(b.Size())), b.Bytes()...)
	}
	return export, nil
})

// The longest chain works, and no block more.
func TestMaxBlocks(t *testing.T) {
	export, err := longest()
	if err != nil {
		t.Fatal(err)
	}
	p, err := passport.Parse(export)
	if err != nil {
		t.Fatal(err)
	}
	if p.Len() != passport.MaxBlocks || !bytes.Equal(p.Export(), export) {
		t.Fatalf("%d blocks", p.Len())
	}
	if first := p.Blocks()[0]; !p.Contains(first.Hash()) {
		t.Error("the first block is not found")
	}
	if _, _, err := p.Change(nil, key(t, "a"), start, passport.Change{Rotate: true}); !errors.Is(err, passport.ErrLimit) {
		t.Errorf("a block more: %v", err)
	}
	b, err := passport.SignBlock(key(t, "a"), start, p.Tip(), nil)
	if err != nil {
		t.Fatal(err)
	}
	export = append(binary.BigEndian.AppendUint32(export, uint32(b.Size())), b.Bytes()...)
	if _, err := passport.Parse(export); !errors.Is(err, passport.ErrLimit) {
		t.Errorf("export with a block more: %v", err)
	}
	fork, err := passport.SignBlock(key(t, "a"), start+1, p.Blocks()[2000].Hash(), nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.Append(fork)
	if f, ok := errors.AsType[*passport.ForkError](err); !ok || f.Ours.Hash() != p.Blocks()[2001].Hash() {
		t.Errorf("fork in the middle of a full chain: %v", err)
	}
}

func TestMaxSize(t *testing.T) {
	a, p := key(t, "a"), create(t, "a")
	var blocks [][]byte
	for _, b := range p.Blocks() {
		blocks = append(blocks, b.Bytes())
	}
	for p.Size() <= passport.MaxSize {
		b, err := passport.SignBlock(a, start, p.Tip(), []passport.Entry{passport.BigShared(255, start), passport.BigShared(255, start)})
		if err != nil {
			t.Fatal(err)
		}
		blocks = append(blocks, b.Bytes())
		next, err := p.Append(b)
		if err == nil {
			p = next
			continue
		}
		if !errors.Is(err, passport.ErrLimit) || p.Size()+4+b.Size() <= passport.MaxSize {
			t.Fatalf("%d bytes and %d more: %v", p.Size(), b.Size(), err)
		}
		if _, err := passport.Parse(export(blocks...)); !errors.Is(err, passport.ErrLimit) {
			t.Errorf("export of more than the limit: %v", err)
		}
		return
	}
	t.Errorf("passport of %d bytes", p.Size())
}

// 255 devices work and can all open the shared key; one more is refused.
func TestMaxKeys(t *testing.T) {
	p := create(t, "a")
	id := p.ID()
	var c passport.Change
	for i := range passport.MaxKeys - 1 {
		name := fmt.Sprint("device ", i)
		c.Register = append(c.Register, request(t, id, name, name, start))
	}
	p, _, err := p.Change(nil, key(t, "a"), start, passport.Change{Register: c.Register[:200]})
	if err != nil {
		t.Fatal(err)
	}
	p, secret, err := p.Change(nil, key(t, "a"), start, passport.Change{Register: c.Register[200:], Rotate: true})
	if err != nil || len(p.Active()) != passport.MaxKeys {
		t.Fatalf("%v", err)
	}
	shared, _ := p.Shared()
	last := fmt.Sprint("device ", passport.MaxKeys-2)
	if got, err := p.Unshield(shared, key(t, last), noise.EmptyPassphrasePSK); err != nil || !got.Equal(secret) {
		t.Errorf("%s: %v", last, err)
	}
	one := passport.Change{Register: []passport.Register{request(t, id, "one", "one", start)}}
	if _, _, err := p.Change(nil, key(t, "a"), start, one); !errors.Is(err, passport.ErrLimit) {
		t.Errorf("a key more: %v", err)
	}
	one.Deregister = append(one.Deregister, key(t, last).Public())
	if _, _, err := p.Change(nil, key(t, "a"), start, one); !errors.Is(err, passport.ErrLimit) {
		t.Errorf("a key more for a moment: %v", err)
	}
}

// More than fits into a block is refused when writing.
func TestMaxContent(t *testing.T) {
	p := create(t, "a")
	if _, err := passport.SignBlock(key(t, "a"), start, p.Tip(), []passport.Entry{
		passport.BigShared(255, start), passport.BigShared(255, start), passport.BigShared(255, start),
	}); !errors.Is(err, passport.ErrLimit) {
		t.Errorf("67,437 bytes: %v", err)
	}
}

// Lengths that lie are found before anything is made of them.
func TestParseLyingLengths(t *testing.T) {
	for _, tt := range []struct {
		name   string
		export []byte
		want   error
	}{
		{"empty", nil, passport.ErrExport},
		{"length without block", []byte{0, 0, 0, 200}, passport.ErrExport},
		{"largest length", append([]byte{0xff, 0xff, 0xff, 0xff}, make([]byte, 300)...), passport.ErrExport},
		{"blocks of nothing", make([]byte, 4*passport.MaxBlocks), passport.ErrExport},
		{"too many blocks of nothing", make([]byte, 4*passport.MaxBlocks+4), passport.ErrLimit},
		{"too large", make([]byte, passport.MaxSize+1), passport.ErrLimit},
	} {
		var err error
		n := testing.AllocsPerRun(1, func() { _, err = passport.Parse(tt.export) })
		if !errors.Is(err, tt.want) || !errors.Is(err, passport.ErrExport) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
		if n > 60 {
			t.Errorf("%s: %v allocations", tt.name, n)
		}
	}
}
