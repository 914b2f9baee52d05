package control

import (
	"os"
	"path/filepath"
)

// DefaultData returns the data folder of a user's node where no other is named, by
// the XDG base directory rules. Without a home folder it is a relative path.
func DefaultData() string {
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "asmtpd")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "asmtpd-data"
	}
	return filepath.Join(home, ".local", "share", "asmtpd")
}
