// Package backup writes and reads the backup of a node: one file with all that makes this
// node this node. [Write] makes one, [Open] reads its manifest and [Reader.Restore]
// unpacks it.
//
// It knows the files of a node and treats the store as a stream of bytes; package store
// says what is in it. What a restored node must be told, and that the old one must not
// run again, is the caller's.
//
// # Format 1
//
// An age file (age-encryption.org/v1), sealed with a password or to recipients, around a
// tar archive, so that "age -d FILE | tar x" opens it without this program. In this order:
//
//	manifest.json       format, node, mesh, made, program
//	config.yaml         the configuration
//	entropy.txt         what the node's key is made of
//	password.txt        the key's password; only if the configuration names such a file
//	join                an invitation that was not used yet; only if there is one
//	store/00000000 …    the stream of the store, cut into pieces of 1 MiB
//
// Each file is regular, of mode 0600 and at most 1 MiB. A name that is not listed here, or
// is out of order, is an error: a later program that adds files uses another format number.
//
// age authenticates every byte, so a file that was altered or cut off anywhere is
// refused. That holds against who does not know the password. Recipients are public: who
// knows one can make another backup for it, which is why the node's id is shown.
package backup
