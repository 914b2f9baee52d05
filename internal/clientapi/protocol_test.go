package clientapi_test

import (
	"errors"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/asmtp/asmtp/internal/clientapi"
	"github.com/asmtp/asmtp/internal/clientapi/nodepb"
)

func offer(b []byte) *nodepb.SubmitRequest {
	return &nodepb.SubmitRequest{Step: &nodepb.SubmitRequest_Offer{Offer: b}}
}

func all(b []byte) *nodepb.SubmitRequest {
	return &nodepb.SubmitRequest{Step: &nodepb.SubmitRequest_All{All: b}}
}

func bytesOf(b []byte) *nodepb.SubmitRequest {
	return &nodepb.SubmitRequest{Step: &nodepb.SubmitRequest_Envelope{Envelope: b}}
}

// Whoever breaks the protocol gets an error that says so, and nothing is stored.
func TestBrokenSubmissionsAreRefused(t *testing.T) {
	one, many := make([]byte, 32), make([]byte, 32*(clientapi.OfferSize+1))
	for i := range clientapi.OfferSize + 1 {
		many[32*i], many[32*i+1] = byte(i), byte(i>>8)
	}
	for name, steps := range map[string][]*nodepb.SubmitRequest{
		"nothing in it":    {{}},
		"no ids":           {offer(nil)},
		"cut id":           {offer(one[:31])},
		"an id twice":      {offer(append(one, one...))},
		"too many":         {offer(many)},
		"no offer":         {bytesOf(one)},
		"offer in a batch": {offer(one), offer(one)},
		"empty step":       {offer(one), {}},
		"end in a batch":   {offer(one)},
		"all of none":      {all(nil)},
		"all, a cut id":    {all(one[:31])},
		"all, an id twice": {all(append(one, one...))},
		"all of too many":  {all(many)},
		"all, and an end":  {all(one)},
		"all, then all":    {all(one), all(one)},
	} {
		t.Run(name, func(t *testing.T) {
			n, _, c, _ := start(t)
			stream, err := c.Raw().Submit(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range steps {
				if err := stream.Send(s); err != nil {
					t.Fatal(err)
				}
			}
			if err := stream.CloseSend(); err != nil {
				t.Fatal(err)
			}
			for err == nil {
				_, err = stream.Recv()
			}
			if err := clientapi.FromStatus(t.Context(), err); !errors.Is(err, clientapi.ErrInvalid) {
				t.Errorf("got %v, want %v", err, clientapi.ErrInvalid)
			}
			if len(n.stored) > 0 {
				t.Error("something was stored")
			}
		})
	}
}

func TestBrokenRequestsAreRefused(t *testing.T) {
	n, _, c, _ := start(t)
	raw, ctx := c.Raw(), t.Context()
	keys := func(k ...*nodepb.TagKey) *nodepb.RegisterTagKeysRequest {
		return &nodepb.RegisterTagKeysRequest{Keys: k}
	}
	calls := map[string]func() error{
		"no handle": func() error {
			_, err := raw.RegisterTagKeys(ctx, keys(&nodepb.TagKey{Key: make([]byte, 32)}))
			return err
		},
		"short key": func() error {
			_, err := raw.RegisterTagKeys(ctx, keys(&nodepb.TagKey{Handle: make([]byte, 16), Key: make([]byte, 31)}))
			return err
		},
		"many keys": func() error {
			_, err := raw.RegisterTagKeys(ctx, keys(make([]*nodepb.TagKey, clientapi.TagKeyBatch+1)...))
			return err
		},
		"cut handle": func() error {
			_, err := raw.DeregisterTagKeys(ctx, &nodepb.DeregisterTagKeysRequest{Handles: make([]byte, 17)})
			return err
		},
		"many numbers": func() error {
			_, err := raw.Acknowledge(ctx, &nodepb.AcknowledgeRequest{Numbers: make([]uint64, 5000)})
			return err
		},
		"no passport": func() error {
			stream, err := raw.PutPassport(ctx)
			if err != nil {
				return err
			}
			_, err = stream.CloseAndRecv()
			return err
		},
		"no block": func() error {
			stream, err := raw.PutPassport(ctx)
			if err != nil {
				return err
			}
			if err := stream.Send(&nodepb.PutPassportRequest{Block: []byte("block")}); err != nil {
				return err
			}
			_, err = stream.CloseAndRecv()
			return err
		},
		"cut watched id": func() error {
			stream, err := raw.WatchCustody(ctx)
			if err != nil {
				return err
			}
			if err := stream.Send(&nodepb.WatchCustodyRequest{Ids: make([]byte, 33)}); err != nil {
				return err
			}
			_, err = stream.Recv()
			return err
		},
	}
	for name, call := range calls {
		if err := clientapi.FromStatus(ctx, call()); !errors.Is(err, clientapi.ErrInvalid) {
			t.Errorf("%s: got %v, want %v", name, err, clientapi.ErrInvalid)
		}
	}
	if len(n.keys)+len(n.acked)+len(n.changes) > 0 {
		t.Error("something was stored")
	}
}

func TestMessagesAndHeadersAreBounded(t *testing.T) {
	_, _, c, _ := start(t)
	ctx := t.Context()
	request := &nodepb.DeregisterTagKeysRequest{Handles: make([]byte, clientapi.MaxMessage)}
	if _, err := c.Raw().DeregisterTagKeys(ctx, request); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("message, by the client: got %v", err)
	}
	_, err := c.Raw().DeregisterTagKeys(ctx, request, grpc.MaxCallSendMsgSize(1<<20))
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("message, by the node: got %v", err)
	}
	large := metadata.AppendToOutgoingContext(ctx, "x", strings.Repeat("x", 9<<10))
	if _, err := c.Raw().Status(large, &nodepb.StatusRequest{}); err == nil {
		t.Error("headers of 9 KiB were taken")
	}
}

func TestNoReflection(t *testing.T) {
	_, _, c, _ := start(t)
	var reply nodepb.StatusReply
	for _, method := range []string{"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "/grpc.health.v1.Health/Check", "/asmtp.node.v1.Node/None"} {
		if err := c.Invoke(t.Context(), method, &nodepb.StatusRequest{}, &reply); status.Code(err) != codes.Unimplemented {
			t.Errorf("%s: got %v", method, err)
		}
	}
}
