// Package bench compares parts of ours with what others offer for the same job. It
// holds benchmarks alone; `make bench` runs them and prints tables.
//
// What is compared runs alternately in one process, since on most machines two runs
// differ by more than two programs do: only ratios taken inside one run mean anything.
package bench
