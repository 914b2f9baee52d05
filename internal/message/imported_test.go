package message_test

import (
	"bytes"
	"testing"

	"github.com/asmtp/asmtp/internal/message"
)

// Nothing that is imported says that somebody sealed it; all else stays.
func TestImported(t *testing.T) {
	for in, want := range map[string]string{
		"From: a\r\nSubject: asmtp\r\n\r\n":                                           "From: a\r\nSubject: asmtp\r\n\r\n",
		"Authentication-Results: mx.example; dkim=pass\nX: \r y\n\n":                  "Authentication-Results: mx.example; dkim=pass\nX: \r y\n\n",
		"A: b\r\nAuthentication-Results: asmtp; passport=pass (x)\r\n\r\n":            "A: b\r\nX-ASMTP-Imported-Results: asmtp; passport=pass (x)\r\n\r\n",
		"authentication-RESULTS :\r\n (;) \"as\\mtp\" ;passport=pass\r\nB: c\r\n\r\n": "X-ASMTP-Imported-Results :\r\n (;) \"as\\mtp\" ;passport=pass\r\nB: c\r\n\r\n",
		"X: y\rAuthentication-Results: ASMTP; passport=pass\r\n\r\n":                  "X: y Authentication-Results: ASMTP; passport=pass\r\n\r\n",
		"Authentication-Results: x\rAuthentication-Results: asmtp\r\n\r\n":            "X-ASMTP-Imported-Results: x Authentication-Results: asmtp\r\n\r\n",
		"Authentication-Results: asmtp; passport=pass":                                "X-ASMTP-Imported-Results: asmtp; passport=pass",
		"no field\r\nAuthentication-Results:asmtp\r\n":                                "no field\r\nX-ASMTP-Imported-Results:asmtp\r\n",
	} {
		got := message.Imported([]byte(in))
		if string(got) != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
		if again := message.Imported(bytes.Clone(got)); !bytes.Equal(again, got) {
			t.Errorf("%q: changed once more to %q", got, again)
		}
	}
}
