// Package oracle compares internal/reconcile with another implementation of the
// protocol that it follows, go-nostr's negentropy. It is a module of its own, so that
// nothing of what go-nostr needs gets into the main one; it has tests alone.
package oracle
