package bridge

import "testing"

// The parsers of arguments return, whatever they are given.
func FuzzArgs(f *testing.F) {
	f.Add("1:*,5 (UID BODY.PEEK[1.2.MIME]<0.5> BODY[HEADER.FIELDS (a \"b\" {1}\r\nc)])")
	f.Add("RETURN (MIN SAVE) CHARSET UTF-8 OR NOT SEEN (SUBJECT \"x\" 1:5) SMALLER 7 SENTON 1-Feb-2026")
	f.Add("$ ALL")
	f.Fuzz(func(t *testing.T, text string) {
		v := &view{mailbox: &mailbox{}, seq: []uint32{1, 5, 9}}
		for _, uid := range []bool{false, true} {
			if q, err := parseFetch(&args{b: []byte(text)}, uid); err == nil {
				v.resolve(q.set)
			}
			p := searchParser{args: &args{b: []byte(text)}, v: v}
			p.parse()
		}
		scanLine([]byte(text))
		splitCommand([]byte(text))
	})
}
