package reconcile_test

import (
	"crypto/aes"
	"errors"
	"math"
	"math/big"
	"slices"
	"testing"

	"crypto/hkdf"
	"crypto/sha512"

	"github.com/asmtp/asmtp/internal/reconcile"
)

// A set takes items in their order only.
func TestSetIsOrdered(t *testing.T) {
	var s reconcile.Set
	for _, it := range []reconcile.Item{{Expires: 1, ID: reconcile.ID{9}}, {Expires: 2, ID: reconcile.ID{1}}, {Expires: 2, ID: reconcile.ID{1, 1}}} {
		if err := s.Add(it); err != nil {
			t.Fatal(err)
		}
	}
	for _, it := range []reconcile.Item{{Expires: 2, ID: reconcile.ID{1, 1}}, {Expires: 2, ID: reconcile.ID{1}}, {Expires: 1, ID: reconcile.ID{200}}} {
		if err := s.Add(it); !errors.Is(err, reconcile.ErrOrder) {
			t.Errorf("%v: %v", it, err)
		}
	}
	if s.Len() != 3 {
		t.Errorf("%d items", s.Len())
	}
}

// Fingerprints are what the package comment says: computed here with big numbers.
func TestFingerprint(t *testing.T) {
	all := items(random(3), 1000)
	slices.SortFunc(all, reconcile.Item.Compare)
	v := reconcile.NewView(reconcile.SetOf(all), 0, math.MaxUint32, secret)
	key := func(name string) []byte {
		k, err := hkdf.Key(sha512.New, secret[:], nil, "asmtp/2 reconcile "+name, 16)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	encrypt := func(k, b []byte) []byte {
		c, err := aes.NewCipher(k)
		if err != nil {
			t.Fatal(err)
		}
		out := make([]byte, 16)
		c.Encrypt(out, b)
		return out
	}
	for _, r := range [][2]int{{0, 1000}, {0, 0}, {5, 6}, {31, 33}, {32, 64}, {999, 1000}, {100, 900}} {
		total := new(big.Int)
		for _, it := range all[r[0]:r[1]] {
			b := encrypt(key("ids"), it.ID[:16])
			for i := range b {
				b[i] ^= it.ID[16+i]
			}
			total.Add(total, new(big.Int).SetBytes(encrypt(key("ids"), b)))
		}
		total.Mod(total, new(big.Int).Lsh(big.NewInt(1), 128))
		total.Xor(total, big.NewInt(int64(r[1]-r[0])))
		want := [16]byte(encrypt(key("initiator"), total.FillBytes(make([]byte, 16))))
		if got := v.PrintOf(r[0], r[1]); got != want {
			t.Errorf("%v: %x, want %x", r, got, want)
		}
	}
}

// The same ids look different in another session, and in the other side's words.
func TestFingerprintIsKeyed(t *testing.T) {
	s := reconcile.SetOf(items(random(4), 100))
	own, answer := reconcile.NewView(s, 0, math.MaxUint32, secret).Print()
	other, _ := reconcile.NewView(s, 0, math.MaxUint32, [reconcile.KeySize]byte{9}).Print()
	if own == answer || own == other {
		t.Errorf("%x, %x, %x", own, answer, other)
	}
}

// A window has the items from its begin to in front of its end, and two views of
// different sets agree if they differ outside of it only.
func TestWindow(t *testing.T) {
	r := random(5)
	common := items(r, 500)
	from, to := common[0].Expires, common[0].Expires+50*3600
	var a, b, inside []reconcile.Item
	for i, it := range items(r, 2000) {
		in := it.Expires >= from && it.Expires < to
		switch {
		case in:
			inside = append(inside, it)
			a, b = append(a, it), append(b, it)
		case i%2 == 0:
			a = append(a, it)
		default:
			b = append(b, it)
		}
	}
	va, vb := reconcile.NewView(reconcile.SetOf(a), from, to, secret), reconcile.NewView(reconcile.SetOf(b), from, to, secret)
	if va.Len() != len(inside) || vb.Len() != len(inside) || len(inside) == 0 {
		t.Fatalf("%d and %d items, want %d", va.Len(), vb.Len(), len(inside))
	}
	o := between(t, va, vb, reconcile.Limits{})
	if o.trips != 1 || len(o.Lacking())+len(o.Missing()) != 0 {
		t.Errorf("%d round trips, %d and %d differences", o.trips, len(o.Lacking()), len(o.Missing()))
	}
	if empty := reconcile.NewView(reconcile.SetOf(a), to, from, secret); empty.Len() != 0 {
		t.Errorf("%d items in a window that ends before it begins", empty.Len())
	}
}
