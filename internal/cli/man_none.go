//go:build !man

package cli

import "github.com/spf13/cobra"

// AddManuals does nothing: the manual pages are written by a build with the tag man.
func AddManuals(*cobra.Command, string) {}
