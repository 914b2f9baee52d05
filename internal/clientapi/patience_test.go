package clientapi_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/clientapi"
)

// A node that is connected and answers nothing more keeps no call for ever; a mailbox
// that is followed may be still for as long as it wants.
func TestStalledNodeEndsCalls(t *testing.T) {
	n, _, c, device := start(t)
	p := chainOf(t, device, 1)
	if err := c.PutPassport(patient(t), p); err != nil {
		t.Fatal(err)
	}
	c.SetPatience(100 * time.Millisecond)
	ctx, stop := context.WithCancel(patient(t))
	defer stop()
	caught, ended := follow(ctx, c)
	within(t, caught, "the mailbox is read")
	ids := []envelope.ID{{1}}
	n.mu.Lock()
	for name, call := range map[string]func() error{
		"status":   func() error { _, err := c.Status(patient(t)); return err },
		"tag keys": func() error { return c.RegisterTagKeys(patient(t), []envelope.TagKey{{}}) },
		"passport": func() error { return c.PutPassport(patient(t), p) },
		"passports": func() error {
			return c.PassportsChanged(patient(t), 0, 0, true, func(clientapi.PassportChange) error { return nil })
		},
		"sync": func() error {
			return c.Sync(patient(t), clientapi.Position{}, true, func(clientapi.Item) error { return nil })
		},
		"custody": func() error {
			return c.WatchCustody(patient(t), ids, false, func(envelope.ID, int) error { return nil })
		},
		"submit": func() error {
			_, err := c.Submit(patient(t), ids, func(envelope.ID) ([]byte, error) { return nil, nil })
			return err
		},
	} {
		if err := call(); !errors.Is(err, clientapi.ErrUnavailable) {
			t.Errorf("%s: error is %v, want that the node is not available", name, err)
		}
	}
	n.mu.Unlock()
	select {
	case err := <-ended:
		t.Errorf("the mailbox that is followed ended: %v", err)
	default:
	}
	stop()
	result(t, ended, "the end of following")
}
