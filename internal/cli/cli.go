// Package cli holds what both programs do alike around their commands.
package cli

import (
	"context"

	"github.com/spf13/cobra"
)

// Execute runs the command line. ran is false if no command got to run: then err is
// about the command line itself, since cobra checks names, flags and arguments first. It
// has no types for those errors.
func Execute(ctx context.Context, root *cobra.Command) (ran bool, err error) {
	mark(root, &ran)
	err = root.ExecuteContext(ctx)
	return ran, err
}

func mark(cmd *cobra.Command, ran *bool) {
	if run := cmd.RunE; run != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			*ran = true
			return run(cmd, args)
		}
	}
	for _, c := range cmd.Commands() {
		mark(c, ran)
	}
}
