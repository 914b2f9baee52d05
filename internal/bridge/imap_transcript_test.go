package bridge

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every command of RFC 9051 has a transcript in testdata/imap: "C: " is a line that a
// program sends, "S: " the line that must come, "S~ " a regular expression for it, "S* "
// one for lines that come in any number. A digit after the letter is the connection: C2,
// S2. The account is new, with its first folders.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/imap/*.txt")
	if err != nil || len(files) < 20 {
		t.Fatalf("%d transcripts, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			playTranscript(t, newIMAPEnv(t, nil), file, string(text))
		})
	}
}

func playTranscript(t *testing.T, e *imapEnv, file, text string) {
	clients := map[byte]*imapClient{}
	kept := map[byte]string{} // a line that "S* " did not take
	for i, line := range strings.Split(text, "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		who := byte('1')
		if line[1] >= '0' && line[1] <= '9' {
			who, line = line[1], line[:1]+line[2:]
		}
		c := clients[who]
		if c == nil {
			c = e.dial()
			clients[who] = c
		}
		what := line[3:]
		if line[0] == 'C' {
			c.send(what + "\r\n")
			continue
		}
		next := func() string {
			if got, ok := kept[who]; ok {
				delete(kept, who)
				return got
			}
			return c.line()
		}
		got := next()
		switch line[1] {
		case ':':
			if got != what {
				t.Fatalf("%s:%d:\n got %q\nwant %q", file, i+1, got, what)
			}
		case '~':
			if !regexp.MustCompile("^(?s:" + what + ")$").MatchString(got) {
				t.Fatalf("%s:%d:\n got %q\nwant %q", file, i+1, got, what)
			}
		case '*':
			re := regexp.MustCompile("^(?s:" + what + ")$")
			for re.MatchString(got) {
				got = next()
			}
			kept[who] = got
		}
	}
}
