// Package account is the engine of an ASMTP client: the keys, contacts, mail and
// mail states of one user on one device, kept encrypted in one directory, and the
// exchange with the user's node.
//
// Make an account with [Create], open it with [Open], name its nodes with
// [Account.Connect], and add people with [Account.AddContact]. [Account.Send] puts
// mail into the outbox, [Account.Sync] sends what is due and takes in what came,
// [Account.Inbox] and [Account.Mail] show it, [Account.Outgoing] says how far one's
// own mail got.
//
// # What it promises
//
// A mail that Send returned is on disk, fsynced, before Send returns. A mail that
// arrives is acknowledged to the node after it is on disk, and its receipt is queued
// in the transaction that stores it. It is shown once, however often it arrives and
// from however many nodes. A mail's [State] is what somebody confirmed and never moves
// back; how many members hold it is what the nodes say now, and may fall.
//
// What is handed over goes through the first node that answers, in the order of
// connecting, and is handed over again, by a plan, until it is answered or its lifetime
// ends: mail until a receipt comes, receipts until another member of the mesh has them.
// What is in the mailboxes comes from all nodes at the same time.
//
// A database of an older version is migrated when it is opened, after a copy of its file
// was made beside it. Several processes may use one account at once; any of them may be killed at any
// moment. No plaintext and no key is written to disk, but for the key file of an
// account that was made without a passphrase.
//
// # What it does not do
//
// The encryption of the database does not authenticate: who can write to the disk can
// put back older sectors. Passports are checked by their signatures whenever they are
// read, and what the user decided about a contact carries a keyed hash, so that no
// sector can turn one contact into another; an older state as a whole goes unseen.
package account
