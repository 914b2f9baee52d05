// Package clients drives mail programs that people use against real nodes, accounts and
// bridges: "make test-clients" installs what is missing and runs it. It holds tests alone.
//
// Start at [TestMailPrograms]: one mesh of two nodes, alice at the one and bob at the
// other, each with a bridge, and a subtest for each program. What a program did is looked
// at from outside, by a small IMAP client of the test's own and by SHA-256 of the bodies.
// At the end stands a table of the programs; docs/programs.md is that of the last run with
// ASMTP_UPDATE_PROGRAMS=1.
//
// The bridge's own tests are in internal/bridge: whether it follows the RFCs is asked there.
package clients
