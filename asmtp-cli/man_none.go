//go:build !man

package main

import "github.com/spf13/cobra"

// newManCommand returns nil: the manual pages are written by a build with the tag man.
func newManCommand() *cobra.Command { return nil }
