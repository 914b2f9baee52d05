// Package bench compares parts of ours with what others offer for the same job. It
// holds benchmarks alone; `make bench` runs them and prints tables.
//
// What is compared runs alternately in one process, since on most machines two runs
// differ by more than two programs do: only ratios taken inside one run mean anything.
//
// # What bounds the transport
//
// A profile of BenchmarkTransport at 64 KiB (November 2026, two cores of an AMD EPYC
// with AVX2): 57 % of the processor time of both ends is ChaCha20-Poly1305 in
// assembly, half sealing and half opening, 36 % the kernel (22 % write, 14 % read, which is
// copying), 3 % the receiver's comparing, 3 % the scheduler. Framing, rekeying and
// copying of our own stay below 1 %, so frames of 16 to 64 KiB, buffers of 64 to 512
// KiB and sealing from the caller's memory or from a copy make no difference that
// could be told from the noise. What is left over Go's TLS is that TLS has AES-GCM,
// cheaper per byte on processors with AES instructions, and more system calls: with a
// core for each end ours carries more, on a machine busy with other work the two
// come out within a fifth of each other either way (compare the column of
// processor time). At 1 KiB others are bound by a system call for each write.
//
// # What bounds the others
//
// docs/bridge.md has the figures of mail programs, docs/durability.md those of submissions,
// of the way of a mail, of reconciliation and of a node with a million envelopes; both say
// what bounds each.
package bench
