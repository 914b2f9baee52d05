package message

import "bytes"

// importedField is put in the place of Authentication-Results that are ours.
const importedField = "X-ASMTP-Imported-Results"

// resultsField says who made a message, see Arrived.
const resultsField = "Authentication-Results"

// Imported returns the header that is kept of a message that comes from a file, of the
// header there, its empty line included. A file proves nothing, so what says in it that
// somebody sealed the message, "Authentication-Results: asmtp", becomes
// X-ASMTP-Imported-Results, which no program trusts; a CR before it that ends no line
// becomes a blank. All else stays, byte for byte. Imported of what it returned changes
// nothing any more.
func Imported(header []byte) []byte {
	if !containsFold(header, resultsField) {
		return header
	}
	out := make([]byte, 0, len(header)+8)
	for rest := header; ; {
		f, next := nextField(rest)
		if f == nil {
			return append(out, rest...)
		}
		start := len(out)
		if rest = next; ownResult(f) {
			out = append(append(out, importedField...), f[len(fieldName(f)):]...)
		} else {
			out = append(out, f...)
		}
		kept := field(out[start:])
		for i := kept.bareCR(0); i >= 0; i = kept.bareCR(i + 1) {
			if ownResult(kept[i+1:]) {
				kept[i] = ' '
			}
		}
	}
}

// ownResult reports whether the field at the beginning of b may be read as a result of ours.
// The name of who says it may be quoted, and comments may precede it: where "asmtp" stands
// in any way, it is taken for that.
func ownResult(b []byte) bool {
	if !bytes.EqualFold(fieldName(b), []byte(resultsField)) {
		return false
	}
	return containsFold(bytes.ReplaceAll(b, []byte(`\`), nil), domain)
}

// containsFold reports whether b contains a word of ASCII, in any case.
func containsFold(b []byte, word string) bool {
	return bytes.Contains(bytes.ToLower(b), bytes.ToLower([]byte(word)))
}
