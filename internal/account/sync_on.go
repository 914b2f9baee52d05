//go:build !nosync

package account

// synchronous is how SQLite syncs. Only the test of test/powerloss builds without, to
// see that it finds what is lost then.
const synchronous = "full"
