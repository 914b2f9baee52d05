//go:build nosync

package store

const syncWrites = false
