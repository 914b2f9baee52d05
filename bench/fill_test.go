package bench_test

import (
	"math/rand/v2"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/store/storetest"
	"github.com/asmtp/asmtp/passport"
	"github.com/asmtp/asmtp/topic"
)

func someUser() passport.ID { return passport.ID{15: 1} }

// tagKeys returns tag keys of the epoch in which the envelopes of a source end.
func tagKeys(n int) []envelope.TagKey {
	r := rand.New(rand.NewPCG(1, 1))
	list := make([]envelope.TagKey, n)
	for i := range list {
		list[i].Epoch = topic.Epoch(uint32(storetest.Hour(48)))
		for j := range list[i].Handle {
			list[i].Handle[j] = byte(r.Uint32())
		}
		for j := range list[i].Key {
			list[i].Key[j] = byte(r.Uint32())
		}
	}
	return list
}
