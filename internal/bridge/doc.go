// Package bridge makes an account look like a mail server on this machine, so that any
// mail program can be used with it: IMAP (RFC 9051 and 3501) for reading and filing, SMTP
// submission (RFC 6409) for writing.
//
// Start at [Bridge]: [New] takes the accounts it serves, [Bridge.Run] listens and serves
// until its context ends.
//
// It keeps nothing of its own: mailboxes, flags and the outbox are those of
// internal/account, so that asmtp-cli, several mail programs and other processes see one
// truth. It speaks with mail programs only; the exchange with nodes is the account's.
package bridge
