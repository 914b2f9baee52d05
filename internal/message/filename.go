package message

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// maxName is how many bytes of a file name are kept; file systems take 255, and a
// number may be added.
const maxName = 180

// SafeName returns name as a file name that is safe on every system: without
// directories, control characters and what Windows forbids, not hidden, not one of
// Windows' devices, not too long. If nothing is left it is "attachment".
func SafeName(name string) string {
	name = CleanLine(name)
	if i := strings.LastIndexAny(name, `/\`); i >= 0 {
		name = name[i+1:]
	}
	name = strings.Map(func(r rune) rune {
		if strings.ContainsRune(`<>:"|?*`, r) {
			return '_'
		}
		return r
	}, name)
	// A header line that is folded at a run of spaces comes back with one of them.
	name = strings.Join(strings.Fields(name), " ")
	name = strings.TrimLeft(name, "-. ") // neither hidden nor an option of a careless script
	name = strings.TrimRight(name, ". ")
	for len(name) > maxName {
		name = cutName(name)
	}
	if name == "" {
		return "attachment"
	}
	stem, _, _ := strings.Cut(name, ".")
	if reserved(strings.TrimRight(stem, " ")) {
		name = "_" + name
	}
	return name
}

// cutName shortens a name before its ending.
func cutName(name string) string {
	ext := filepath.Ext(name)
	if len(ext) > 20 {
		ext = ""
	}
	stem := strings.ToValidUTF8(name[:maxName-len(ext)], "")
	return strings.TrimRight(stem, ". ") + ext
}

// reserved reports whether Windows takes a file of this name for a device.
func reserved(stem string) bool {
	stem = strings.ToUpper(stem)
	switch stem {
	case "CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$":
		return true
	}
	rest, ok := strings.CutPrefix(stem, "COM")
	if !ok {
		rest, ok = strings.CutPrefix(stem, "LPT")
	}
	return ok && (len(rest) == 1 && rest[0] >= '0' && rest[0] <= '9' || rest == "¹" || rest == "²" || rest == "³")
}

// createNew makes a file in dir under a name like the given one that is not taken.
// It never follows or overwrites what is there.
func createNew(dir, name string) (*os.File, error) {
	ext := filepath.Ext(name)
	stem := strings.TrimSuffix(name, ext)
	for i := 1; i <= 10_000; i++ {
		try := name
		if i > 1 {
			try = fmt.Sprintf("%s-%d%s", stem, i, ext)
		}
		f, err := os.OpenFile(filepath.Join(dir, try), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		return f, err
	}
	return nil, fmt.Errorf("save %s: too many files of that name", name)
}

// SaveAttachments writes the attachments of the message in r into dir, which is made
// if it is missing, and returns their paths. Names are made safe, no file that exists
// is overwritten, contents are streamed.
func SaveAttachments(r io.Reader, dir string) ([]string, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("save attachments: %w", err)
	}
	var paths []string
	err := walk(r, func(p part) error {
		if !p.attachment() || len(paths) >= maxAttachments {
			return nil
		}
		f, err := createNew(dir, p.name())
		if err != nil {
			return fmt.Errorf("save attachment: %w", err)
		}
		if _, err := io.Copy(f, lenient{p.body}); err != nil {
			f.Close()
			return fmt.Errorf("save attachment %s: %w", f.Name(), err)
		}
		if err := f.Close(); err != nil {
			return fmt.Errorf("save attachment %s: %w", f.Name(), err)
		}
		paths = append(paths, f.Name())
		return nil
	})
	return paths, err
}
