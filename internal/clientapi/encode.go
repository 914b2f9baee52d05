package clientapi

import (
	"github.com/asmtp/asmtp/envelope"
)

// unpack cuts b into ids, handles or the like, at most limit.
func unpack[T ~[16]byte | ~[32]byte](b []byte, limit int) ([]T, error) {
	var zero T
	size := len(zero)
	if len(b)%size != 0 || len(b) > limit*size {
		return nil, invalid("%d bytes of names, want a multiple of %d and at most %d", len(b), size, limit*size)
	}
	list := make([]T, 0, len(b)/size)
	for ; len(b) > 0; b = b[size:] {
		list = append(list, T(b[:size]))
	}
	return list, nil
}

// pack is the inverse of unpack.
func pack[T ~[16]byte | ~[32]byte](list []T) []byte {
	var zero T
	b := make([]byte, 0, len(list)*len(zero))
	for _, v := range list {
		for i := range len(v) {
			b = append(b, v[i])
		}
	}
	return b
}

// fixed reads one name.
func fixed[T ~[16]byte | ~[32]byte](b []byte) (v T, err error) {
	if len(b) != len(v) {
		return v, invalid("%d bytes, want %d", len(b), len(v))
	}
	return T(b), nil
}

// distinct returns ids without those that occur again, in order.
func distinct(ids []envelope.ID) []envelope.ID {
	seen := make(map[envelope.ID]bool, len(ids))
	list := make([]envelope.ID, 0, len(ids))
	for _, id := range ids {
		if !seen[id] {
			seen[id] = true
			list = append(list, id)
		}
	}
	return list
}
