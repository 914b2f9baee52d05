// Package store is what a node keeps on disk: envelopes and the mailboxes of its
// users, passports, the mesh and its statements, users, peers, stamps, tokens and
// the custody of others. Start with [Open].
//
// # What it promises
//
// A method that writes returns nil only after what it wrote, and everything it
// depended on, is synced to the disk. Every such call is one atomic step: after a
// crash it is there wholly or not at all. Calls that wait at the same time share one
// transaction and its sync (commit.go), and take effect in the order in which they
// were taken up. A call whose context ends before it is taken up has no effect; one
// that is taken up runs to its end and says how it ended.
//
// Once a commit has failed nobody knows what reached the disk, so the store takes no
// further write until it is opened again, [ErrFailed]; reading goes on.
//
// # When there is no room
//
// Two quotas bound the own users' envelopes, and once more those that are kept for others;
// of these each neighbour may fill a share (quota.go). The free space of the disk is looked
// at before each transaction (space.go). What finds no room is refused, [envelope.Full] or
// [ErrDiskFull], before anything is written; what is stored is not touched, reading and
// expiring go on, and so does writing as soon as there is room.
//
// # What it does not do
//
// It decides nothing: whether an envelope is acceptable and for whom it is comes from
// package spool, who may connect from the gates. It checks no signature except those
// of passports. It forgets nothing silently; what ends, ends by [Store.ExpireEnvelopes].
// Secrets (the mesh secret, tag keys) lie on disk in clear: the directory is 0700.
//
// # Format
//
// The keys and records are listed in keys.go. The record "schema" holds the number of
// the format; a store of a later format is refused, [ErrNewer], one of an earlier format is
// brought to this one when it is opened (migrate.go). [Store.Backup] and [Restore] have a
// format of their own (backup.go).
package store
