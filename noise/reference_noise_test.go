package noise_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/asmtp/asmtp/internal/asmtptest/vectors"
	"github.com/asmtp/asmtp/noise"
)

const edwards = "ed25519"

// oneShot is a case of noise_x, noise_x_invalid or noise_n.
type oneShot struct {
	KeyType         string   `json:"key_type"`
	Protocol        string   `json:"protocol_name"`
	Prologue        hexBytes `json:"prologue"`
	PSK             hexBytes `json:"psk"`
	SenderSecret    hexBytes `json:"sender_secret"`
	SenderPublic    hexBytes `json:"sender_public"`
	Recovered       hexBytes `json:"recovered_sender"`
	RecipientSecret hexBytes `json:"recipient_secret"`
	RecipientPublic hexBytes `json:"recipient_public"`
	EphemeralSecret hexBytes `json:"ephemeral_secret"`
	EphemeralPublic hexBytes `json:"ephemeral_public"`
	RngSeed         hexBytes `json:"rng_seed"`
	Result          vectors.Result

	Payload       hexBytes `json:"payload"`
	PayloadLen    int      `json:"payload_len"`
	PayloadSHA256 hexBytes `json:"payload_sha256"`
	PayloadSeed   hexBytes `json:"payload_seed"`
	Message       hexBytes `json:"message"`
	MessageLen    int      `json:"message_len"`
	MessageHead   hexBytes `json:"message_head"`
	MessageTail   hexBytes `json:"message_tail"`
	MessageSHA256 hexBytes `json:"message_sha256"`
}

func (c oneShot) payload() long {
	return long{whole: c.Payload, length: c.PayloadLen, sha256: c.PayloadSHA256, seed: c.PayloadSeed}
}

func (c oneShot) message() long {
	return long{whole: c.Message, length: c.MessageLen, sha256: c.MessageSHA256, head: c.MessageHead, tail: c.MessageTail}
}

// public returns the public key of a secret of the kind, as the case should have it.
func public(keyType string, secret []byte) ([]byte, error) {
	if keyType == edwards {
		k, err := noise.NewPrivateKey(secret)
		if err != nil {
			return nil, err
		}
		p := k.Public()
		return p[:], nil
	}
	k, err := noise.NewSharedPrivate(secret)
	if err != nil {
		return nil, err
	}
	p := k.Public()
	return p[:], nil
}

// keyPair compares a public key of a case with its secret.
func keyPair(keyType string, secret, want []byte) error {
	got, err := public(keyType, secret)
	return first(err, same("public key", got, want))
}

// drawn compares an ephemeral secret with the random stream it was drawn from.
func drawn(keyType string, seed, secret []byte) error {
	if err := must32(seed, secret); err != nil {
		return err
	}
	s := noise.NewStream([32]byte(seed))
	if keyType == edwards {
		k, err := noise.GenerateKey(s)
		return first(err, same("drawn secret", k.Bytes(), secret))
	}
	k, err := noise.GenerateShared(s)
	return first(err, same("drawn secret", k.Bytes(), secret))
}

func checkX(c oneShot) error {
	name := "Noise_X_25519_ChaChaPoly_BLAKE2b"
	if c.KeyType == edwards {
		name = "Noise_X_ed25519_ChaChaPoly_BLAKE2b"
	}
	payload, err := c.payload().bytes()
	err = first(err, same("protocol", []byte(name), []byte(c.Protocol)),
		keyPair(c.KeyType, c.SenderSecret, c.SenderPublic),
		keyPair(c.KeyType, c.RecipientSecret, c.RecipientPublic),
		keyPair(c.KeyType, c.EphemeralSecret, c.EphemeralPublic),
		drawn(c.KeyType, c.RngSeed, c.EphemeralSecret),
		same("recovered sender", c.SenderPublic, c.Recovered))
	if err != nil {
		return err
	}
	message, err := c.sealX(payload)
	if err := first(err, c.message().is(message)); err != nil {
		return err
	}
	if len(message) != len(payload)+noise.XOverhead {
		return errors.New("XOverhead is wrong")
	}
	got, from, err := c.openX(message)
	return first(answer(c.Result, err), same("payload", got, payload), same("sender", from, c.SenderPublic))
}

func (c oneShot) sealX(payload []byte) ([]byte, error) {
	random := bytes.NewReader(c.EphemeralSecret)
	if c.KeyType == edwards {
		from, err := noise.NewPrivateKey(c.SenderSecret)
		if err != nil {
			return nil, err
		}
		return noise.SealXEd25519(random, c.Prologue, from, noise.PublicKey(c.RecipientPublic), payload)
	}
	from, err := noise.NewSharedPrivate(c.SenderSecret)
	if err != nil {
		return nil, err
	}
	return noise.SealX(random, c.Prologue, from, noise.SharedPublic(c.RecipientPublic), payload)
}

func (c oneShot) openX(message []byte) (payload, from []byte, err error) {
	if c.KeyType == edwards {
		own, err := noise.NewPrivateKey(c.RecipientSecret)
		if err != nil {
			return nil, nil, err
		}
		return noise.OpenXEd25519(c.Prologue, own, message)
	}
	own, err := noise.NewSharedPrivate(c.RecipientSecret)
	if err != nil {
		return nil, nil, err
	}
	payload, sender, err := noise.OpenX(c.Prologue, own, message)
	return payload, sender[:], err
}

func checkXInvalid(c oneShot) error {
	_, _, err := c.openX(c.Message)
	return answer(c.Result, err)
}

func checkN(c oneShot) error {
	var psk *[32]byte
	name := "Noise_K_"
	if c.PSK != nil {
		if err := must32(c.PSK); err != nil {
			return err
		}
		psk = (*[32]byte)(c.PSK)
		name = "Noise_Kpsk0_"
	}
	if c.KeyType == edwards {
		name += "ed"
	}
	err := first(same("protocol", []byte(name+"25519_ChaChaPoly_BLAKE2b"), []byte(c.Protocol)),
		keyPair(c.KeyType, c.RecipientSecret, c.RecipientPublic))
	if err != nil {
		return err
	}
	got, err := c.openN(psk)
	if err := answer(c.Result, err); err != nil || !c.Result.OK {
		return err
	}
	err = first(same("payload", got, c.Payload), keyPair(c.KeyType, c.EphemeralSecret, c.EphemeralPublic),
		drawn(c.KeyType, c.RngSeed, c.EphemeralSecret))
	if err != nil {
		return err
	}
	random := bytes.NewReader(c.EphemeralSecret)
	var message []byte
	if c.KeyType == edwards {
		message, err = noise.SealN(random, psk, noise.PublicKey(c.RecipientPublic), c.Payload)
	} else {
		message, err = noise.SealNX25519(random, psk, noise.SharedPublic(c.RecipientPublic), c.Payload)
	}
	if len(message) != len(c.Payload)+noise.NOverhead {
		return errors.New("NOverhead is wrong")
	}
	return first(err, same("message", message, c.Message))
}

func (c oneShot) openN(psk *[32]byte) ([]byte, error) {
	if c.KeyType == edwards {
		own, err := noise.NewPrivateKey(c.RecipientSecret)
		if err != nil {
			return nil, err
		}
		return noise.OpenN(psk, own, c.Message)
	}
	own, err := noise.NewSharedPrivate(c.RecipientSecret)
	if err != nil {
		return nil, err
	}
	return noise.OpenNX25519(psk, own, c.Message)
}

// peers are both sides' keys of a handshake.
type peers struct {
	InitiatorSecret    hexBytes `json:"initiator_secret"`
	InitiatorPublic    hexBytes `json:"initiator_public"`
	InitiatorEphemeral hexBytes `json:"initiator_ephemeral_secret"`
	InitiatorSeed      hexBytes `json:"initiator_rng_seed"`
	ResponderSecret    hexBytes `json:"responder_secret"`
	ResponderPublic    hexBytes `json:"responder_public"`
	ResponderEphemeral hexBytes `json:"responder_ephemeral_secret"`
	ResponderSeed      hexBytes `json:"responder_rng_seed"`
}

// check compares those fields that the case has.
func (k peers) check(keyType string) error {
	for _, f := range []struct{ secret, public, ephemeral, seed []byte }{
		{k.InitiatorSecret, k.InitiatorPublic, k.InitiatorEphemeral, k.InitiatorSeed},
		{k.ResponderSecret, k.ResponderPublic, k.ResponderEphemeral, k.ResponderSeed},
	} {
		if f.public != nil {
			if err := keyPair(keyType, f.secret, f.public); err != nil {
				return err
			}
		}
		if f.seed != nil {
			if err := drawn(keyType, f.seed, f.ephemeral); err != nil {
				return err
			}
		}
	}
	return nil
}

// version1 are the parameters of the reference's network.
func version1(prologue, ephemeral []byte) noise.Params {
	return noise.Params{Prefix: []byte{1}, Prologue: prologue, Random: bytes.NewReader(ephemeral)}
}

func (k peers) keys() (initiator, responder *noise.PrivateKey, err error) {
	initiator, err = noise.NewPrivateKey(k.InitiatorSecret)
	if err != nil {
		return nil, nil, err
	}
	responder, err = noise.NewPrivateKey(k.ResponderSecret)
	return initiator, responder, err
}

// respond gives the responder the bytes that an initiator sent. The caller of
// noise.Server reads the version byte.
func (k peers) respond(prologue, request []byte) (*noise.Conn, *wire, error) {
	_, own, err := k.keys()
	if err != nil {
		return nil, nil, err
	}
	if request[0] != 1 {
		return nil, nil, fmt.Errorf("version %d", request[0])
	}
	w := newWire(request[1:])
	c, err := noise.Server(context.Background(), w, version1(prologue, k.ResponderEphemeral), own,
		func(noise.PublicKey, []byte) ([]byte, error) { return nil, nil })
	if out := w.out.Bytes(); err != nil && len(out) > 0 {
		return nil, nil, fmt.Errorf("%d bytes were answered although: %w", len(out), err)
	}
	return c, w, err
}

// initiate runs an initiator that reads response, and returns what it has sent.
func (k peers) initiate(prologue, response []byte) (c *noise.Conn, w *wire, request []byte, err error) {
	own, responder, err := k.keys()
	if err != nil {
		return nil, nil, nil, err
	}
	w = newWire(response)
	c, _, err = noise.Client(context.Background(), w, version1(prologue, k.InitiatorEphemeral), own, responder.Public(), nil)
	return c, w, w.take(), err
}

// frame is a message of a connection: of noise_ik without, of session with the length field.
type frame struct {
	From string
	// Nonce is given in noise_ik.
	Nonce           *uint64
	Plaintext       hexBytes
	PlaintextLen    int      `json:"plaintext_len"`
	PlaintextHead   hexBytes `json:"plaintext_head"`
	PlaintextTail   hexBytes `json:"plaintext_tail"`
	PlaintextSeed   hexBytes `json:"plaintext_seed"`
	PlaintextSHA256 hexBytes `json:"plaintext_sha256"`

	Ciphertext       hexBytes
	CiphertextLen    int      `json:"ciphertext_len"`
	CiphertextHead   hexBytes `json:"ciphertext_head"`
	CiphertextTail   hexBytes `json:"ciphertext_tail"`
	CiphertextSHA256 hexBytes `json:"ciphertext_sha256"`

	Frame       hexBytes
	FrameLen    int      `json:"frame_len"`
	FrameHead   hexBytes `json:"frame_head"`
	FrameTail   hexBytes `json:"frame_tail"`
	FrameSHA256 hexBytes `json:"frame_sha256"`
}

// exchangeFrames sends all frames in order, each from its side, and compares what is
// on the wire and what arrives.
func exchangeFrames(frames []frame, initiator, responder *noise.Conn, wi, wr *wire) error {
	sent := map[string]uint64{}
	for i, f := range frames {
		from, to, out, in := initiator, responder, wi, wr
		switch f.From {
		case "initiator":
		case "responder":
			from, to, out, in = responder, initiator, wr, wi
		default:
			return fmt.Errorf("frame from %q", f.From)
		}
		plain, err := long{whole: f.Plaintext, length: f.PlaintextLen, sha256: f.PlaintextSHA256, seed: f.PlaintextSeed,
			head: f.PlaintextHead, tail: f.PlaintextTail}.bytes()
		if err != nil {
			return err
		}
		if f.Nonce != nil && *f.Nonce != sent[f.From] {
			return fmt.Errorf("frame %d: nonce %d", i, *f.Nonce)
		}
		sent[f.From]++
		if err := from.WriteMessage(plain); err != nil {
			return err
		}
		b := out.take()
		if f.FrameLen > 0 {
			err = long{whole: f.Frame, length: f.FrameLen, sha256: f.FrameSHA256, head: f.FrameHead, tail: f.FrameTail}.is(b)
		} else {
			err = long{whole: f.Ciphertext, length: f.CiphertextLen, sha256: f.CiphertextSHA256, head: f.CiphertextHead, tail: f.CiphertextTail}.is(b[2:])
		}
		if err != nil {
			return fmt.Errorf("frame %d: %w", i, err)
		}
		in.feed(b)
		got, err := to.ReadMessage()
		if err := first(err, same("plaintext", got, plain)); err != nil {
			return fmt.Errorf("frame %d: %w", i, err)
		}
	}
	return nil
}

func checkIK(c struct {
	peers
	KeyType            string `json:"key_type"`
	Protocol           string `json:"protocol_name"`
	Prologue           hexBytes
	InitiatorEphemeral hexBytes `json:"initiator_ephemeral_public"`
	ResponderEphemeral hexBytes `json:"responder_ephemeral_public"`
	MessageA           hexBytes `json:"message_a"`
	MessageB           hexBytes `json:"message_b"`
	Hash               hexBytes `json:"handshake_hash"`
	Transport          []frame
}) error {
	name := "Noise_IK_25519_ChaChaPoly_BLAKE2b"
	if c.KeyType == edwards {
		name = "Noise_IK_ed25519_ChaChaPoly_BLAKE2b"
	}
	err := first(same("protocol", []byte(name), []byte(c.Protocol)), c.peers.check(c.KeyType),
		keyPair(c.KeyType, c.peers.InitiatorEphemeral, c.InitiatorEphemeral),
		keyPair(c.KeyType, c.peers.ResponderEphemeral, c.ResponderEphemeral))
	if err != nil {
		return err
	}
	var ends [2]*noise.Conn
	var wires [2]*wire
	var messages [2][]byte
	if c.KeyType == edwards {
		ends[1], wires[1], err = c.respond(c.Prologue, append([]byte{1}, c.MessageA...))
		if err != nil {
			return err
		}
		messages[1] = wires[1].take()[1:]
		ends[0], wires[0], messages[0], err = c.initiate(c.Prologue, append([]byte{1}, messages[1]...))
		if err != nil {
			return err
		}
		messages[0] = messages[0][1:]
	} else {
		a, err := noise.NewSharedPrivate(c.InitiatorSecret)
		b, err2 := noise.NewSharedPrivate(c.ResponderSecret)
		if err := first(err, err2); err != nil {
			return err
		}
		wires = [2]*wire{newWire(nil), newWire(nil)}
		messages, ends, err = noise.IKX25519(noise.Params{Prologue: c.Prologue}, bytes.NewReader(c.peers.InitiatorEphemeral),
			bytes.NewReader(c.peers.ResponderEphemeral), a, b, wires[0], wires[1])
		if err != nil {
			return err
		}
	}
	from := ends[1].PeerKey()
	return first(same("message a", messages[0], c.MessageA), same("message b", messages[1], c.MessageB),
		same("peer", from[:], c.InitiatorPublic),
		same("hash", ends[0].SessionID(), c.Hash), same("hash", ends[1].SessionID(), c.Hash),
		exchangeFrames(c.Transport, ends[0], ends[1], wires[0], wires[1]))
}

func checkSession(c struct {
	peers
	Initialize hexBytes       `json:"handshake_initialize"`
	Response   hexBytes       `json:"handshake_response"`
	SessionID  hexBytes       `json:"session_id"`
	SendTooBig vectors.Result `json:"send_65518_bytes"`
	Frames     []frame
}) error {
	if err := c.check(edwards); err != nil {
		return err
	}
	responder, wr, err := c.respond(nil, c.Initialize)
	if err != nil {
		return err
	}
	initiator, wi, request, err := c.initiate(nil, c.Response)
	if err != nil {
		return err
	}
	err = first(same("response", wr.take(), c.Response), same("request", request, c.Initialize),
		same("session", initiator.SessionID(), c.SessionID), same("session", responder.SessionID(), c.SessionID))
	if err != nil {
		return err
	}
	tooBig := initiator.WriteMessage(make([]byte, noise.MaxMessage+1))
	return first(answer(c.SendTooBig, tooBig), exchangeFrames(c.Frames, initiator, responder, wi, wr))
}

func checkHandshake(c struct {
	peers
	Side         string
	Initialize   hexBytes `json:"handshake_initialize"`
	Response     hexBytes `json:"handshake_response"`
	Result       vectors.Result
	RemotePublic hexBytes `json:"remote_public"`
	SessionID    hexBytes `json:"session_id"`
}) error {
	if c.Side == "responder" {
		conn, w, err := c.respond(nil, c.Initialize)
		if err := answer(c.Result, err); err != nil || err == nil && conn == nil {
			return err
		}
		peer := conn.PeerKey()
		own, _, err := c.keys()
		if err != nil {
			return err
		}
		want := own.Public()
		// The initiator of the case must be able to read the answer.
		_, _, request, err := c.initiate(nil, w.take())
		return first(err, same("request", request, c.Initialize), same("remote", peer[:], c.RemotePublic), same("remote", peer[:], want[:]))
	}
	conn, _, request, err := c.initiate(nil, c.Response)
	if err := same("request", request, c.Initialize); err != nil {
		return err
	}
	if err := answer(c.Result, err); err != nil || conn == nil {
		return err
	}
	// The responder of the case must give this answer.
	_, w, err := c.respond(nil, c.Initialize)
	if err != nil {
		return err
	}
	return first(same("response", w.take(), c.Response), same("session", conn.SessionID(), c.SessionID))
}

func checkFrame(c struct {
	peers
	Frame     hexBytes          `json:"first_frame"`
	FrameHead hexBytes          `json:"first_frame_head"`
	Second    hexBytes          `json:"then_good_second_frame"`
	Results   []json.RawMessage `json:"original_results"`
}) error {
	_, _, request, err := c.initiate(nil, nil) // its first message; no answer is needed
	if !errors.Is(err, io.EOF) {
		return err
	}
	responder, w, err := c.respond(nil, request)
	if err != nil {
		return err
	}
	first := []byte(c.Frame)
	if first == nil {
		n := int(c.FrameHead[0])<<8 | int(c.FrameHead[1])
		first = append(first, c.FrameHead...)
		first = append(first, make([]byte, n)...)
	}
	w.feed(first)
	w.feed(c.Second)
	for i, raw := range c.Results {
		got, err := responder.ReadMessage()
		if err := frameResult(raw, got, err, w); err != nil {
			return fmt.Errorf("result %d: %w", i, err)
		}
	}
	return nil
}

// frameResult compares one read with the original's: a plaintext, an error, or "closed".
func frameResult(raw json.RawMessage, got []byte, err error, w *wire) error {
	var want struct {
		Plaintext *string
		Error     []string
	}
	if string(raw) == `"closed"` {
		if err == nil {
			return errors.New("a message after the end")
		}
		return nil
	}
	if e := json.Unmarshal(raw, &want); e != nil {
		return e
	}
	if want.Plaintext != nil {
		if err != nil {
			return err
		}
		if hex.EncodeToString(got) != *want.Plaintext {
			return errors.New("another plaintext")
		}
		return nil
	}
	if !errors.Is(err, noise.ErrFrame) || !w.isClosed() {
		return fmt.Errorf("a damaged frame gives %v and a connection that is closed: %v", err, w.isClosed())
	}
	return nil
}

var _ net.Conn = (*noise.Conn)(nil)
