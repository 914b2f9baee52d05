package clientapi

import (
	"context"
	"time"

	"github.com/asmtp/asmtp/internal/clientapi/nodepb"
)

// Raw returns the generated client, to send what a Client would not.
func (c *Client) Raw() nodepb.NodeClient { return c.call }

// Invoke makes a call that may not exist.
func (c *Client) Invoke(ctx context.Context, method string, request, reply any) error {
	return c.rpc.Invoke(ctx, method, request, reply)
}

// SetPatience sets how long the client waits for what is due.
func (c *Client) SetPatience(d time.Duration) { c.limit = d }

// The limits that tests go up to and beyond.
const (
	MaxStreams  = maxStreams
	MaxMessage  = maxMessage
	MaxSubmits  = maxSubmits
	OfferSize   = offerSize
	TagKeyBatch = tagKeyBatch
	PutBytes    = putBytes
)

// FromStatus is what the client makes of a call's error.
var FromStatus = fromStatus
