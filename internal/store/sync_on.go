//go:build !nosync

package store

// syncWrites has every commit reach the disk before it is answered. Only the test of
// test/powerloss builds without, to see that it finds what is lost then.
const syncWrites = true
