package main

import (
	"os"
	"strings"

	"golang.org/x/term"
	"rsc.io/qr"
)

// drawQR draws a line as a picture on stderr if that is a terminal, for a friend who
// stands beside it with a camera. In upper case the picture is smaller, and a line means
// the same in either case. A line that is too long for a picture is not drawn.
func drawQR(line string) {
	if !term.IsTerminal(int(os.Stderr.Fd())) {
		return
	}
	code, err := qr.Encode(strings.ToUpper(line), qr.L)
	if err != nil {
		return
	}
	var b strings.Builder
	const quiet = 2 // modules around the picture; a terminal's own margin adds to it
	for y := -quiet; y < code.Size+quiet; y += 2 {
		for x := -quiet; x < code.Size+quiet; x++ {
			b.WriteString(block(code.Black(x, y), code.Black(x, y+1)))
		}
		b.WriteByte('\n')
	}
	os.Stderr.WriteString(b.String())
}

// block is the character for two modules, one above the other, on a dark ground: what is
// black in the picture stays dark.
func block(upper, lower bool) string {
	switch {
	case upper && lower:
		return " "
	case upper:
		return "▄"
	case lower:
		return "▀"
	}
	return "█"
}
