package topic_test

import (
	"encoding/hex"
	"testing"

	"github.com/asmtp/asmtp/internal/asmtptest/vectors"
	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/topic"
)

func TestReferenceTopic(t *testing.T) {
	type vector struct {
		Key1, Key2   noise.SharedPublic
		Topic        string
		TopicSwapped string `json:"topic_swapped"`
	}
	vectors.Each(t, "topic", func(t *testing.T, v vector) {
		if got := topic.Derive(v.Key1, v.Key2).String(); got != v.Topic {
			t.Errorf("Derive(key1, key2) = %s, want %s", got, v.Topic)
		}
		if got := topic.Derive(v.Key2, v.Key1).String(); got != v.TopicSwapped {
			t.Errorf("Derive(key2, key1) = %s, want %s", got, v.TopicSwapped)
		}
	})
}

func TestReferenceMessageID(t *testing.T) {
	type vector struct {
		Time      uint32
		Content   vectors.Hex
		MessageID string `json:"message_id"`
		Hash      string
		WantTime  uint32 `json:"id_time"`
	}
	vectors.Each(t, "message_id", func(t *testing.T, v vector) {
		id := topic.NewMessageID(v.Time, v.Content)
		if id.String() != v.MessageID {
			t.Errorf("id = %v, want %s", id, v.MessageID)
		}
		if id.Time() != v.WantTime {
			t.Errorf("time = %d, want %d", id.Time(), v.WantTime)
		}
		if got := hex.EncodeToString(id[4:]); got != v.Hash {
			t.Errorf("hash = %s, want %s", got, v.Hash)
		}
	})
}

func BenchmarkDerive(b *testing.B) {
	var k1, k2 noise.SharedPublic
	for b.Loop() {
		topic.Derive(k1, k2)
	}
}
