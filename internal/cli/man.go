//go:build man

package cli

import (
	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// AddManuals adds a hidden command that writes the manual pages. It stands behind a build
// tag, since its Markdown renderer has no business in the programs themselves.
func AddManuals(root *cobra.Command, title string) {
	root.AddCommand(&cobra.Command{
		Use: "man DIR", Short: "write the manual pages", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return doc.GenManTree(cmd.Root(), &doc.GenManHeader{Title: title, Section: "1", Source: "ASMTP"}, args[0])
		},
	})
}
