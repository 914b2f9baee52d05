package p2p

import (
	"encoding/binary"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
	"github.com/asmtp/asmtp/topic"
)

// Kinds of messages of /asmtp/custody/1.
const (
	kindOffer     = 1
	kindAnswer    = 2
	kindEnvelope  = 3
	kindGone      = 4
	kindGet       = 5
	kindChallenge = 6
	kindProof     = 7
)

// Codes of an answer.
const (
	codeStored  = 0 // on disk there
	codeWant    = 1 // send it
	codeRefused = 2 // not taken: too old, or no room
	codeLater   = 3 // another neighbour is just sending it; ask again
	lastCode    = codeLater
)

// Limits of /asmtp/custody/1.
const (
	maxOffer     = 256
	maxGet       = 16
	idSize       = len(envelope.ID{})
	maxOfferSize = 2 + maxOffer*idSize

	maxChallenge  = 16
	nonceSize     = 16
	questionSize  = nonceSize + idSize
	proofSize     = 1 + 32
	maxProofsSize = 2 + maxChallenge*proofSize
)

func encodeIDs(ids []envelope.ID) []byte {
	b := appendCount(make([]byte, 0, 2+len(ids)*idSize), len(ids))
	for _, id := range ids {
		b = append(b, id[:]...)
	}
	return b
}

// parseIDs reads the ids of an offer or a get. An id that stands there twice is
// refused: the answers could not be told apart.
func parseIDs(b []byte, most int) ([]envelope.ID, error) {
	n, b, err := cutFixed(b, idSize, most)
	if err != nil {
		return nil, err
	}
	ids := make([]envelope.ID, n)
	seen := make(map[envelope.ID]struct{}, n)
	for i := range ids {
		ids[i] = envelope.ID(b[i*idSize:])
		if _, twice := seen[ids[i]]; twice {
			return nil, foreign("an id twice in one message")
		}
		seen[ids[i]] = struct{}{}
	}
	return ids, nil
}

func encodeAnswer(codes []byte) []byte { return append(appendCount(nil, len(codes)), codes...) }

// parseAnswer reads the codes for n ids.
func parseAnswer(b []byte, n int) ([]byte, error) {
	got, codes, err := cutFixed(b, 1, maxOffer)
	if err != nil {
		return nil, err
	}
	if got != n {
		return nil, foreign("answer for %d of %d ids", got, n)
	}
	for _, c := range codes {
		if c > lastCode {
			return nil, foreign("unknown answer %d", c)
		}
	}
	return codes, nil
}

// question asks for the proof that an envelope is stored.
type question struct {
	nonce [nonceSize]byte
	id    envelope.ID
}

func encodeChallenge(questions []question) []byte {
	b := appendCount(make([]byte, 0, 2+len(questions)*questionSize), len(questions))
	for _, q := range questions {
		b = append(append(b, q.nonce[:]...), q.id[:]...)
	}
	return b
}

func parseChallenge(b []byte) ([]question, error) {
	n, b, err := cutFixed(b, questionSize, maxChallenge)
	if err != nil {
		return nil, err
	}
	questions := make([]question, n)
	for i := range questions {
		at := b[i*questionSize:]
		questions[i] = question{nonce: [nonceSize]byte(at), id: envelope.ID(at[nonceSize:])}
	}
	return questions, nil
}

// Codes of a proof.
const (
	proofGiven = 0
	proofNone  = 1 // the envelope is not stored; the hash is zero
)

// proof answers a question.
type proof struct {
	code byte
	hash [32]byte
}

// proofOf is what the node with a key can answer if it stores an envelope. The key keeps it
// from handing the question on to another node and giving that one's answer as its own.
func proofOf(prover noise.PublicKey, nonce [nonceSize]byte, envelope []byte) [32]byte {
	return noise.H32(nonce[:], prover[:], envelope)
}

func encodeProofs(proofs []proof) []byte {
	b := appendCount(make([]byte, 0, 2+len(proofs)*proofSize), len(proofs))
	for _, p := range proofs {
		b = append(append(b, p.code), p.hash[:]...)
	}
	return b
}

// parseProofs reads the answers to n questions.
func parseProofs(b []byte, n int) ([]proof, error) {
	got, b, err := cutFixed(b, proofSize, maxChallenge)
	if err != nil {
		return nil, err
	}
	if got != n {
		return nil, foreign("%d proofs for %d questions", got, n)
	}
	proofs := make([]proof, n)
	for i := range proofs {
		p := proof{code: b[i*proofSize], hash: [32]byte(b[i*proofSize+1:])}
		if p.code > proofNone || p.code == proofNone && p.hash != [32]byte{} {
			return nil, foreign("unknown proof %d", p.code)
		}
		proofs[i] = p
	}
	return proofs, nil
}

// Types of a gossip message.
const (
	gossipWhole    = 0
	gossipAnnounce = 1
)

const (
	largest      = len(envelope.Sizes) - 1 // the size class that is only announced
	announceSize = 1 + 4 + len(topic.Tag{}) + 32
	hourSeconds  = 3600
)

// gossip is one parsed gossip message.
type gossip struct {
	id       envelope.ID
	expires  passport.Time
	envelope *envelope.Envelope // nil: only announced
}

// encodeGossip makes the message by which e is spread.
func encodeGossip(e *envelope.Envelope) []byte {
	if e.Class() != largest {
		return append([]byte{gossipWhole}, e.Bytes()...)
	}
	seal := e.SealHash()
	b := binary.BigEndian.AppendUint32([]byte{gossipAnnounce}, uint32(e.Expires))
	b = append(b, e.Tag[:]...)
	return append(b, seal[:]...)
}

// parseGossip refuses what no honest node sends.
func parseGossip(b []byte) (gossip, error) {
	if len(b) == 0 {
		return gossip{}, foreign("empty gossip message")
	}
	switch b[0] {
	case gossipWhole:
		e, err := envelope.Parse(b[1:])
		if err != nil {
			return gossip{}, foreign("gossip: %v", err)
		}
		if e.Class() == largest {
			return gossip{}, foreign("envelope of the largest class as gossip")
		}
		return gossip{id: e.ID(), expires: e.Expires, envelope: e}, nil
	case gossipAnnounce:
		return parseAnnounce(b)
	default:
		return gossip{}, foreign("gossip of type %d", b[0])
	}
}

func parseAnnounce(b []byte) (gossip, error) {
	if len(b) != announceSize {
		return gossip{}, foreign("announcement of %d bytes", len(b))
	}
	expires := binary.BigEndian.Uint32(b[1:])
	if expires%hourSeconds != 0 {
		return gossip{}, foreign("announcement with a crooked end")
	}
	tag, seal := b[5:21], b[21:]
	return gossip{id: noise.H32(seal, tag), expires: passport.Time(expires)}, nil
}
