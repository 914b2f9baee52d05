// Package asmtptest holds what tests of several packages need. Its own tests hold
// the structure of the whole module: which package may import which.
//
// It is imported by tests alone.
package asmtptest
