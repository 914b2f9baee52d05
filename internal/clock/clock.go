// Package clock is the one clock of both programs: [Now] is what they pass to every
// part that asks for the time.
//
// In a released binary it is the system's clock. Built with the tag asmtpclock, it
// is the system's clock plus the number of seconds in the file that ASMTP_CLOCK
// names, so that a test harness can let weeks pass; see settable.go.
package clock
