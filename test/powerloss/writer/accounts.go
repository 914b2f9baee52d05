package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/asmtp/asmtp/internal/account"
	"golang.org/x/sync/errgroup"
)

// writeAccounts opens the accounts of alice and bob, who know each other and a node, and
// lets mail flow from alice to bob until something fails. The lines are
//
//	open           both accounts are open
//	sent ID        Send returned
//	state ID STATE Status said so, at alice
//	mail ID        bob was told of new mail
func writeAccounts(ctx context.Context, dir string) error {
	o := account.Options{ReceiptDelay: -1}
	alice, err := account.Open(ctx, filepath.Join(dir, "alice"), o)
	if err != nil {
		return err
	}
	bob, err := account.Open(ctx, filepath.Join(dir, "bob"), o)
	if err != nil {
		return err
	}
	promised("open")
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		_, err := bob.Sync(ctx, account.SyncOptions{Follow: true, OnMail: func(s account.Summary) { promised("mail %s", s.ID) }})
		return err
	})
	g.Go(func() error {
		_, err := alice.Sync(ctx, account.SyncOptions{Follow: true})
		return err
	})
	for w := range 3 {
		g.Go(func() error {
			for i := 0; ; i++ {
				if err := sendOne(ctx, alice, fmt.Sprintf("%d %d", w, i)); err != nil {
					return err
				}
			}
		})
	}
	return g.Wait()
}

// sendOne sends a mail and looks at it until it is delivered, or somewhat later.
func sendOne(ctx context.Context, alice *account.Account, subject string) error {
	out, err := alice.Send(ctx, account.Draft{To: []string{"bob"}, Subject: subject, Text: subject})
	if err != nil {
		return err
	}
	id := out[0].ID
	promised("sent %s", id)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range 5 {
		list, err := alice.Status(ctx, id)
		if err != nil {
			return err
		}
		promised("state %s %s", id, list[0].State)
		if list[0].State == account.Delivered {
			return nil
		}
		<-tick.C
	}
	return nil
}
