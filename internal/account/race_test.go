//go:build race

package account_test

// raceEnabled says that the race detector slows everything down.
const raceEnabled = true
