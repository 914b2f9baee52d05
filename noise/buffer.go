package noise

import (
	"encoding/binary"
	"sync"
)

// frameData is the plaintext of a full frame of a stream. Larger frames save
// little (feasibility.md section 1) and make the receiver wait longer before it can begin.
const frameData = 32 << 10

// batchFrames is how many frames one system call sends at most.
const batchFrames = 8

const (
	frameStride = headerSize + frameData + tagSize
	batchData   = batchFrames * frameData
)

// batch is room for the frames of one system call: frame i at i*frameStride, all full
// but the last. Plaintext is put where its ciphertext will stand.
type batch struct {
	n   int // bytes of plaintext
	buf [batchFrames * frameStride]byte
}

var batches = sync.Pool{New: func() any { return new(batch) }}

// add copies from p as much as there is room for.
func (b *batch) add(p []byte) (n int) {
	for len(p) > 0 && b.n < batchData {
		i, off := b.n/frameData, b.n%frameData
		data := b.buf[i*frameStride+headerSize:][:frameData]
		k := copy(data[off:], p)
		b.n, n, p = b.n+k, n+k, p[k:]
	}
	return n
}

// seal makes frames of what was added, in place, and returns them.
func (b *batch) seal(s *cipherState) ([]byte, error) {
	end := 0
	for done := 0; done < b.n; done += frameData {
		n := min(frameData, b.n-done)
		frame := b.buf[end:]
		if err := sealFrame(s, frame, frame[headerSize:headerSize+n]); err != nil {
			return nil, err
		}
		end += headerSize + n + tagSize
	}
	return b.buf[:end], nil
}

// sealFrame writes the frame of plaintext to dst, which has room for it. plaintext
// may stand where its ciphertext will.
func sealFrame(s *cipherState, dst, plaintext []byte) error {
	binary.BigEndian.PutUint16(dst, uint16(len(plaintext)+tagSize))
	_, err := s.seal(dst[headerSize:headerSize], plaintext)
	return err
}
