package clientapi

import (
	"context"
	"errors"
	"fmt"

	"github.com/asmtp/asmtp/internal/invite"
	"github.com/asmtp/asmtp/internal/port"
	"github.com/asmtp/asmtp/mesh"
	"github.com/asmtp/asmtp/noise"
)

// Redeem uses a user line, by which the node that made it admits the device with key
// own. It tries the line's addresses in turn and returns the one that answered, which
// with line.Node is what [Dial] needs. To use a line again with the same key is no error.
//
// Errors wrap [invite.ErrUsed], [invite.ErrEnded], [invite.ErrNotAllowed] or
// [invite.ErrLater] if the node answered, else they are those of [port.Dial], all of
// the addresses tried.
func Redeem(ctx context.Context, line *mesh.Line, own *noise.PrivateKey, stamps port.StampSource) (addr string, err error) {
	payload, err := port.PackCertificate(nil, port.CertificateSpace)
	if err != nil {
		return "", fmt.Errorf("redeem an invitation: %w", err)
	}
	var failed []error
	for _, addr := range line.Addresses {
		conn, _, err := port.Dial(ctx, addr, port.JoinParams(line.Token), own, line.Node, stamps, payload)
		if err != nil {
			failed = append(failed, err)
			if ctx.Err() != nil {
				break
			}
			continue
		}
		_, err = invite.Ask(ctx, conn, invite.BeUser)
		conn.Close()
		if err == nil {
			return addr, nil
		}
		if answered(err) {
			return "", fmt.Errorf("node %s: %w", line.Node.Short(), err)
		}
		failed = append(failed, fmt.Errorf("%s: %w", addr, err))
	}
	if len(failed) == 0 {
		return "", errors.New("redeem an invitation: the line names no address")
	}
	return "", fmt.Errorf("redeem an invitation: %w", errors.Join(failed...))
}

// answered reports whether err is a node's answer, so that asking the same node at
// another address is of no use.
func answered(err error) bool {
	return errors.Is(err, invite.ErrUsed) || errors.Is(err, invite.ErrEnded) ||
		errors.Is(err, invite.ErrNotAllowed) || errors.Is(err, invite.ErrLater)
}
