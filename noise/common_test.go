package noise_test

import (
	"bytes"
	"testing"

	"github.com/asmtp/asmtp/noise"
)

// What a key remembers changes nothing of what it seals and opens, is bounded, and is not
// filled by those who write to it.
func TestCommonSecretsAreRemembered(t *testing.T) {
	alice, err := noise.GenerateShared(nil)
	if err != nil {
		t.Fatal(err)
	}
	random := bytes.Repeat([]byte{7}, 32)
	_, most := noise.KnownSecrets(alice)
	for i := range most + 10 {
		bob, err := noise.GenerateShared(nil)
		if err != nil {
			t.Fatal(err)
		}
		var sealed [2][]byte
		for j := range sealed { // the second time with what is known
			if sealed[j], err = noise.SealX(bytes.NewReader(random), nil, alice, bob.Public(), []byte("hello")); err != nil {
				t.Fatal(err)
			}
			if text, from, err := noise.OpenX(nil, bob, sealed[j]); err != nil || string(text) != "hello" || from != alice.Public() {
				t.Fatalf("opened %q from %v: %v", text, from, err)
			}
		}
		if !bytes.Equal(sealed[0], sealed[1]) {
			t.Fatal("the same mail is sealed in two ways")
		}
		if n, _ := noise.KnownSecrets(bob); n != 0 {
			t.Fatal("a key remembers who wrote to it")
		}
		if n, _ := noise.KnownSecrets(alice); n > most || i < most && n != i+1 {
			t.Fatalf("%d secrets are remembered after %d", n, i+1)
		}
	}
}
