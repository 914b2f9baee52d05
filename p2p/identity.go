package p2p

import (
	"crypto/ed25519"
	"fmt"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/asmtp/asmtp/noise"
)

// identity is a node's key in the forms that libp2p wants.
type identity struct {
	private crypto.PrivKey
	id      peer.ID
}

func newIdentity(key *noise.PrivateKey) (identity, error) {
	private, err := crypto.UnmarshalEd25519PrivateKey(ed25519.NewKeyFromSeed(key.Bytes()))
	if err != nil {
		return identity{}, fmt.Errorf("key for libp2p: %w", err)
	}
	id, err := peer.IDFromPrivateKey(private)
	if err != nil {
		return identity{}, fmt.Errorf("libp2p id: %w", err)
	}
	return identity{private: private, id: id}, nil
}

// peerID returns libp2p's name of a node.
func peerID(key noise.PublicKey) (peer.ID, error) {
	public, err := crypto.UnmarshalEd25519PublicKey(key[:])
	if err != nil {
		return "", fmt.Errorf("libp2p id of %s: %w", key.Short(), err)
	}
	return peer.IDFromPublicKey(public)
}

// nodeKey returns the key that a libp2p id stands for; an Ed25519 id holds it.
func nodeKey(id peer.ID) (key noise.PublicKey, err error) {
	public, err := id.ExtractPublicKey()
	if err != nil {
		return key, fmt.Errorf("key of a libp2p id: %w", err)
	}
	raw, err := public.Raw()
	if err != nil {
		return key, fmt.Errorf("key of a libp2p id: %w", err)
	}
	if public.Type() != crypto.Ed25519 || len(raw) != len(key) {
		return key, fmt.Errorf("libp2p id is of no Ed25519 key")
	}
	return noise.PublicKey(raw), nil
}
