package account

import "context"

// MailLimit returns the largest mail that may be sent, as the mesh said last.
func (a *Account) MailLimit(ctx context.Context) int64 {
	return readLimits(ctx, a.db).mail
}
