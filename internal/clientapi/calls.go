package clientapi

import (
	"context"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/clientapi/nodepb"
	"github.com/asmtp/asmtp/topic"
)

// Status implements the call.
func (s *Server) Status(ctx context.Context, _ *nodepb.StatusRequest) (*nodepb.StatusReply, error) {
	c := callerOf(ctx)
	st, err := s.b.Status(ctx, c.user)
	if err != nil {
		return nil, err
	}
	reply := &nodepb.StatusReply{
		Node: st.Node[:], Version: st.Version, Protocol: Protocol, Time: s.now().Unix(),
		Generation: s.b.Generation(), LastNumber: st.LastNumber, Mesh: st.Mesh[:],
		MailLimit: st.MailLimit, Retention: uint64(st.Retention.Seconds()),
		Members: uint32(st.Members), Peers: uint32(st.Peers),
		Envelopes: uint64(st.Envelopes), Bytes: uint64(st.Bytes), TagKeys: uint64(st.TagKeys),
		Addresses: st.Addresses,
	}
	if c.known {
		reply.Passport = c.user[:]
	}
	return reply, nil
}

// RegisterTagKeys implements the call.
func (s *Server) RegisterTagKeys(ctx context.Context, r *nodepb.RegisterTagKeysRequest) (*nodepb.RegisterTagKeysReply, error) {
	c, err := userOf(ctx)
	if err != nil {
		return nil, err
	}
	if len(r.Keys) > tagKeyBatch {
		return nil, invalid("%d tag keys in one call, at most %d", len(r.Keys), tagKeyBatch)
	}
	keys := make([]envelope.TagKey, len(r.Keys))
	for i, k := range r.Keys {
		handle, err := fixed[envelope.Handle](k.GetHandle())
		if err != nil {
			return nil, err
		}
		key, err := fixed[topic.TagKey](k.GetKey())
		if err != nil {
			return nil, err
		}
		keys[i] = envelope.TagKey{Epoch: k.GetEpoch(), Handle: handle, Key: key}
	}
	return &nodepb.RegisterTagKeysReply{}, s.b.RegisterTagKeys(ctx, c.user, keys)
}

// DeregisterTagKeys implements the call.
func (s *Server) DeregisterTagKeys(ctx context.Context, r *nodepb.DeregisterTagKeysRequest) (*nodepb.DeregisterTagKeysReply, error) {
	c, err := userOf(ctx)
	if err != nil {
		return nil, err
	}
	handles, err := unpack[envelope.Handle](r.Handles, handleBatch)
	if err != nil {
		return nil, err
	}
	return &nodepb.DeregisterTagKeysReply{}, s.b.DeregisterTagKeys(ctx, c.user, handles)
}

// Acknowledge implements the call.
func (s *Server) Acknowledge(ctx context.Context, r *nodepb.AcknowledgeRequest) (*nodepb.AcknowledgeReply, error) {
	c, err := userOf(ctx)
	if err != nil {
		return nil, err
	}
	if len(r.Numbers) > acknowledgeSize {
		return nil, invalid("%d numbers in one call, at most %d", len(r.Numbers), acknowledgeSize)
	}
	return &nodepb.AcknowledgeReply{}, s.b.Acknowledge(ctx, c.user, c.device, r.Numbers)
}
