// Package version says which program this is: its release, its commit and the
// numbers of the protocols that it speaks.
package version

import "fmt"

// Version and Commit are set by the linker; see the Makefile.
var (
	Version = "development"
	Commit  = "unknown"
)

// Protocols lists the numbers that two programs must agree on (docs/formats.md).
const Protocols = "client 2, mesh 3, join 4, envelope 2, store 1, account 1"

// String is what the command version of both programs prints behind their name.
func String() string { return fmt.Sprintf("%s (commit %s; %s)", Version, Commit, Protocols) }
