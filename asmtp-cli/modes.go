package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
)

// checkModes looks whether others may read the account's files.
func checkModes(dir string) []check {
	if runtime.GOOS == "windows" {
		return nil // modes say nothing there
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return []check{{"files", false, err.Error()}}
	}
	checks := []check{checkMode(dir)}
	for _, e := range entries {
		if c := checkMode(filepath.Join(dir, e.Name())); !c.OK {
			checks = append(checks, c)
		}
	}
	return checks
}

func checkMode(path string) check {
	st, err := os.Stat(path)
	if err != nil {
		return check{"files", false, err.Error()}
	}
	if mode := st.Mode().Perm(); mode&0o077 != 0 {
		return check{"files", false, fmt.Sprintf("others may read %s (mode %o): chmod go-rwx %s", path, mode, path)}
	}
	return check{"files", true, path + " is yours alone"}
}
