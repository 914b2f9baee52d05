// Package chaos runs a mesh of real nodes and clients on loopback, breaks whatever can be
// broken while mail flows, and checks that nothing that was accepted is lost, that no
// client is told what is not so, and that every mail is shown once. "make chaos" runs it.
//
// Start at [Run]. The world is one temporary folder: nodes (asmtpd), accounts
// (asmtp-cli), their clocks, their logs. Package check has the rules, package proxy the
// broken links; the files here are what happens: events.go what is done to the world,
// mail.go what its people do, watch.go what is asked of the clients, checkpoint.go what is
// looked for in the stores of stopped nodes, settle.go how it ends.
//
// # What happens
//
// The seed draws the accounts, the mails and the events; when they meet depends on the
// machine, so a seed says what kind of run it was and does not replay one. Nodes get
// SIGKILL and SIGTERM, alone and all at once, for fractions of a second and for longer;
// following clients and clients that send get SIGKILL; links between two nodes, and
// between clients and a node, are cut in one direction or both, also under open
// connections, delayed, slowed, reset; the mesh is partitioned; clocks are off by up to
// two hours and jump forward by hours; disks of two nodes are full for a while; accounts
// are put back to an older copy. One node has quotas of a few MiB. Beside the mails, probes
// hand in envelopes that nobody can open, about as many: clients of a few lines that know to
// the millisecond what a node confirmed.
//
// # Duplicates and order
//
// Frames are sealed and numbered by their connection, so what is duplicated or exchanged
// below the transport is a broken connection, nothing more. Duplicates come from above:
// first flights that a node has answered before are sent again to its port, which must
// not answer; probes hand the same envelopes to several nodes at once and again later, in
// another order; a restored account hands in what it handed in before and takes in
// what it had; killed clients and nodes repeat what they were not told to be done. Mail
// of several parts overtakes itself by going over several nodes.
//
// # What it does not show
//
// SIGKILL leaves the page cache, so nothing here speaks of power loss; test/powerloss does.
// All runs on one machine with one kernel, over loopback and in IPv4. Every node is honest;
// lying peers are tested in package p2p. Clocks jump forward, never back, except for the skew
// of one process. Passports do not change while mail flows, and no device is removed. After an
// account was put back, its node is told to forget the device's stamps, and what the node
// answered before that is not sent to it again, since it may be answered. A disk is filled
// down to 1 MiB, by a file that is there at once; a program that takes the last byte while the
// node writes may still end it. What came and went between two looks was not seen. A store is
// opened by the harness at a checkpoint and so recovered by it, before its node sees it again;
// nodes that are killed at other times recover by themselves.
package chaos
