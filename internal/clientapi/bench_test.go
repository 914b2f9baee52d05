package clientapi_test

import (
	"testing"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/clientapi"
)

// BenchmarkStatus is the time of one call there and back, over loopback.
func BenchmarkStatus(b *testing.B) {
	_, _, c, _ := start(b)
	for b.Loop() {
		if _, err := c.Status(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSubmit is the way of a large mail to the node, without its disk.
func BenchmarkSubmit(b *testing.B) {
	n, _, c, _ := start(b)
	var list []*envelope.Envelope
	for i := range 200 {
		list = append(list, seal(3, i))
	}
	o := newOutbox(list...)
	b.SetBytes(int64(len(list)) * envelope.MaxSize)
	for b.Loop() {
		clear(n.stored)
		if _, err := c.Submit(b.Context(), o.ids, o.fetch); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSync is the way of a full mailbox to the client, without the node's disk.
func BenchmarkSync(b *testing.B) {
	n, _, c, _ := start(b)
	for i := range 200 {
		n.deliver(envelope.Delivery{Number: uint64(i + 1), Envelope: seal(3, i).Bytes()})
	}
	b.SetBytes(200 * envelope.MaxSize)
	for b.Loop() {
		if err := c.Sync(b.Context(), clientapi.Position{}, false, func(clientapi.Item) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}
