package noise_test

import (
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"

	"filippo.io/edwards25519"

	"github.com/asmtp/asmtp/internal/asmtptest/vectors"
	"github.com/asmtp/asmtp/noise"
)

func checkStream(c struct {
	Seed             hexBytes `json:"seed"`
	Stream           hexBytes `json:"stream_160"`
	EdSecret         hexBytes `json:"ed25519_secret"`
	EdPublic         hexBytes `json:"ed25519_public"`
	Curve25519Secret hexBytes `json:"curve25519_secret"`
	Curve25519Public hexBytes `json:"curve25519_public"`
}) error {
	if err := must32(c.Seed); err != nil {
		return err
	}
	k, err := noise.GenerateKey(noise.NewStream([32]byte(c.Seed)))
	s, err2 := noise.GenerateShared(noise.NewStream([32]byte(c.Seed)))
	if err := first(err, err2); err != nil {
		return err
	}
	public, shared := k.Public(), s.Public()
	return first(
		same("stream", stream(c.Seed, 160), c.Stream),
		same("secret", k.Bytes(), c.EdSecret), same("public", public[:], c.EdPublic),
		same("shared secret", s.Bytes(), c.Curve25519Secret), same("shared public", shared[:], c.Curve25519Public))
}

func checkSignature(c struct{ Secret, Public, Message, Signature hexBytes }) error {
	k, err := noise.NewPrivateKey(c.Secret)
	if err != nil {
		return err
	}
	public := k.Public()
	if !public.Verify(c.Message, c.Signature) {
		return errors.New("signature is refused")
	}
	return first(same("public", public[:], c.Public), same("signature", k.Sign(c.Message), c.Signature))
}

// Where s is not below the order of the group we refuse, whatever the original does.
func checkVerify(c struct {
	Public, Message, Signature hexBytes
	Verifies                   bool
	SCanonical                 bool `json:"s_canonical"`
}) error {
	if err := must32(c.Public); err != nil {
		return err
	}
	_, bad := edwards25519.NewScalar().SetCanonicalBytes(c.Signature[ed25519.SignatureSize/2:])
	if (bad == nil) != c.SCanonical {
		return errors.New("s_canonical is wrong")
	}
	if got, want := noise.PublicKey(c.Public).Verify(c.Message, c.Signature), c.Verifies && c.SCanonical; got != want {
		return fmt.Errorf("verifies: got %v, want %v", got, want)
	}
	return nil
}

type exchange struct {
	Kind    string
	SecretA hexBytes `json:"secret_a"`
	SecretB hexBytes `json:"secret_b"`
	PublicA hexBytes `json:"public_a"`
	PublicB hexBytes `json:"public_b"`
	Shared  hexBytes
}

// refusal is the rule by which we refuse an exchange that the original does.
func (c exchange) refusal(edwards bool) string {
	if edwards {
		if _, err := new(edwards25519.Point).SetBytes(c.PublicB); err != nil {
			return "no point of the curve"
		}
	}
	if [32]byte(c.Shared) == [32]byte{} {
		return "the result is zero"
	}
	return ""
}

// judge compares the result, or makes sure that a case we refuse by rule is refused.
func (c exchange) judge(edwards bool, got []byte, err error) error {
	if rule := c.refusal(edwards); rule != "" {
		if err == nil {
			return fmt.Errorf("accepted, although %s", rule)
		}
		return fmt.Errorf("%w: %s", errByDesign, rule)
	}
	return first(err, same("shared", got, c.Shared))
}

func checkExchange(c exchange) error {
	if err := must32(c.PublicA, c.PublicB, c.Shared); err != nil {
		return err
	}
	a, err := noise.NewPrivateKey(c.SecretA)
	if err != nil {
		return err
	}
	public := a.Public()
	if err := same("public a", public[:], c.PublicA); err != nil {
		return err
	}
	got, err := a.DH(noise.PublicKey(c.PublicB))
	if err := c.judge(true, got, err); err != nil || c.Kind != "pair" {
		return err
	}
	b, err := noise.NewPrivateKey(c.SecretB)
	if err != nil {
		return err
	}
	public = b.Public()
	back, err := b.DH(noise.PublicKey(c.PublicA))
	return first(err, same("public b", public[:], c.PublicB), same("shared, other way", back, c.Shared))
}

func checkSharedExchange(c exchange) error {
	if err := must32(c.PublicA, c.PublicB, c.Shared); err != nil {
		return err
	}
	a, err := noise.NewSharedPrivate(c.SecretA)
	if err != nil {
		return err
	}
	public := a.Public()
	if err := same("public a", public[:], c.PublicA); err != nil {
		return err
	}
	got, err := a.DH(noise.SharedPublic(c.PublicB))
	if err := c.judge(false, got, err); err != nil || c.Kind != "pair" {
		return err
	}
	b, err := noise.NewSharedPrivate(c.SecretB)
	if err != nil {
		return err
	}
	public = b.Public()
	back, err := b.DH(noise.SharedPublic(c.PublicA))
	return first(err, same("public b", public[:], c.PublicB), same("shared, other way", back, c.Shared))
}

func checkShared(c struct {
	Seed           hexBytes `json:"rng_seed"`
	Secret, Public hexBytes
}) error {
	if err := must32(c.Seed); err != nil {
		return err
	}
	k, err := noise.GenerateShared(noise.NewStream([32]byte(c.Seed)))
	if err != nil {
		return err
	}
	public := k.Public()
	again, err := noise.NewSharedPrivate(c.Secret)
	if err != nil {
		return err
	}
	if !again.Equal(k) {
		return errors.New("the secret reads as another one")
	}
	return first(same("secret", k.Bytes(), c.Secret), same("public", public[:], c.Public))
}

func checkSecretParse(c struct {
	Secret hexBytes
	Result vectors.Result
}) error {
	k, err := noise.NewSharedPrivate(c.Secret)
	if err := answer(c.Result, err); err != nil || k == nil {
		return err
	}
	return same("secret", k.Bytes(), c.Secret)
}

func checkSeed(c struct {
	Key, Password, Seed hexBytes
	Iterations          int
	EdSecret            hexBytes `json:"ed25519_secret"`
	EdPublic            hexBytes `json:"ed25519_public"`
	EntropyFile         *string  `json:"entropy_file"`
	PasswordText        *string  `json:"password_text"`
	PassphraseText      *string  `json:"passphrase_text"`
}) error {
	if c.Iterations != 1_000_000 {
		return fmt.Errorf("%d iterations", c.Iterations)
	}
	if err := must32(c.Seed); err != nil {
		return err
	}
	// From what the user types to what is derived from, by the ways of FORMAT.md section 1.4.
	var err error
	var seed [32]byte
	switch {
	case c.PasswordText != nil: // node key
		var entropy []byte
		if entropy, err = hex.DecodeString(*c.EntropyFile); err != nil {
			return err
		}
		k, err := noise.NodeKey(entropy, *c.PasswordText)
		if err != nil {
			return err
		}
		public := k.Public()
		err = first(same("node key", k.Bytes(), c.EdSecret), same("node key's public", public[:], c.EdPublic),
			same("entropy", entropy, c.Key), same("password", []byte(*c.PasswordText), c.Password))
		if err != nil {
			return err
		}
		seed = [32]byte(c.Seed) // NodeKey has derived it; whether it is this one, its stream tells
	case c.EntropyFile != nil: // key file
		phrase := noise.H32([]byte(*c.PassphraseText))
		entropy, err := hex.DecodeString(*c.EntropyFile)
		if err := first(err, same("entropy", entropy, c.Key), same("password", phrase[:], c.Password)); err != nil {
			return err
		}
		seed = noise.DeriveSeed(entropy, phrase[:])
	default:
		key := noise.H32([]byte(*c.PassphraseText))
		if err := first(same("key", key[:], c.Key), same("password", nil, c.Password)); err != nil {
			return err
		}
		if seed = noise.PassphrasePSK(*c.PassphraseText); *c.PassphraseText == "" && seed != noise.EmptyPassphrasePSK {
			return errors.New("EmptyPassphrasePSK is wrong")
		}
	}
	k, err := noise.GenerateKey(noise.NewStream(seed))
	if err != nil {
		return err
	}
	public := k.Public()
	return first(same("seed", seed[:], c.Seed), same("secret", k.Bytes(), c.EdSecret), same("public", public[:], c.EdPublic))
}
