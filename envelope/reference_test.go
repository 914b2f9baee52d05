package envelope_test

import (
	"bytes"
	"testing"

	"github.com/asmtp/asmtp/internal/asmtptest/vectors"
	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
	"github.com/asmtp/asmtp/topic"
)

type endToEnd struct {
	Text              string
	Ciphertext        vectors.Hex
	Topic             string
	EphemeralSecret   vectors.Hex `json:"ephemeral_secret"`
	RNGSeed           vectors.Hex `json:"rng_seed"`
	SenderPassport    vectors.Hex `json:"sender_passport_export"`
	SenderMaster      vectors.Hex `json:"sender_master_secret"`
	SenderSeed        vectors.Hex `json:"sender_passphrase_seed"`
	SenderKey         string      `json:"sender_shared_key"`
	RecipientPassport vectors.Hex `json:"recipient_passport_export"`
	RecipientMaster   vectors.Hex `json:"recipient_master_secret"`
	RecipientSeed     vectors.Hex `json:"recipient_passphrase_seed"`
	RecipientKey      string      `json:"recipient_shared_key"`
	TopicMessage      vectors.Hex `json:"topic_message"`
}

// TestReferenceEndToEnd does what the reference does from two passports to the bytes
// of a topic message (FORMAT.md section 8), and back.
func TestReferenceEndToEnd(t *testing.T) {
	vectors.Each(t, "end_to_end", func(t *testing.T, v endToEnd) {
		sender := unshield(t, v.SenderPassport, v.SenderMaster, v.SenderSeed, v.SenderKey)
		recipient := unshield(t, v.RecipientPassport, v.RecipientMaster, v.RecipientSeed, v.RecipientKey)

		name := topic.Derive(sender.Public(), recipient.Public())
		if name.String() != v.Topic {
			t.Errorf("topic = %v, want %s", name, v.Topic)
		}
		for from, random := range map[string]*bytes.Reader{
			"ephemeral": bytes.NewReader(v.EphemeralSecret),
			"stream":    bytes.NewReader(stream(t, v.RNGSeed)),
		} {
			sealed, err := noise.SealX(random, nil, sender, recipient.Public(), []byte(v.Text))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(sealed, v.Ciphertext) {
				t.Errorf("ciphertext by %s = %x, want %x", from, sealed, v.Ciphertext)
			}
			message := append(append([]byte{2}, name[:]...), sealed...)
			if !bytes.Equal(message, v.TopicMessage) {
				t.Errorf("topic message by %s = %x, want %x", from, message, v.TopicMessage)
			}
		}
		text, from, err := noise.OpenX(nil, recipient, v.TopicMessage[1+topic.Size:])
		if err != nil {
			t.Fatal(err)
		}
		if string(text) != v.Text || from != sender.Public() {
			t.Errorf("opened %q from %v", text, from)
		}
	})
}

// stream returns the first 32 bytes of the random stream of a seed.
func stream(t *testing.T, seed []byte) []byte {
	t.Helper()
	b := make([]byte, 32)
	if _, err := noise.NewStream([32]byte(seed)).Read(b); err != nil {
		t.Fatal(err)
	}
	return b
}

// unshield returns the current shared key out of a passport.
func unshield(t *testing.T, export, master, psk []byte, key string) *noise.SharedPrivate {
	t.Helper()
	p, err := passport.Parse(export)
	if err != nil {
		t.Fatal(err)
	}
	current, ok := p.Shared()
	if !ok || current.String() != key {
		t.Fatalf("shared key = %v, %v, want %s", current, ok, key)
	}
	own, err := noise.NewPrivateKey(master)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := p.Unshield(current, own, [32]byte(psk))
	if err != nil {
		t.Fatal(err)
	}
	return secret
}
