package bridge

import "testing"

// The first are the examples of RFC 5322, appendix A; what is shown is the form of RFC
// 9051, 7.5.2.
func TestAddresses(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{`John Doe <jdoe@machine.example>`, `(("John Doe" NIL "jdoe" "machine.example"))`},
		{`"Joe Q. Public" <john.q.public@example.com>`, `(("Joe Q. Public" NIL "john.q.public" "example.com"))`},
		{`Mary Smith <mary@x.test>, jdoe@example.org, Who? <one@y.test>`,
			`(("Mary Smith" NIL "mary" "x.test")(NIL NIL "jdoe" "example.org")("Who?" NIL "one" "y.test"))`},
		{`<boss@nil.test>, "Giant; \"Big\" Box" <sysservices@example.net>`,
			`((NIL NIL "boss" "nil.test")("Giant; \"Big\" Box" NIL "sysservices" "example.net"))`},
		{`A Group:Ed Jones <c@a.test>,joe@where.test,John <jdoe@one.test>;`,
			`((NIL NIL "A Group" NIL)("Ed Jones" NIL "c" "a.test")(NIL NIL "joe" "where.test")("John" NIL "jdoe" "one.test")(NIL NIL NIL NIL))`},
		{`Undisclosed recipients:;`, `((NIL NIL "Undisclosed recipients" NIL)(NIL NIL NIL NIL))`},
		{`<@node.test,@relay.test:mary@x.test>`, `((NIL NIL "mary" "x.test"))`},
		{`pete@silly.example (Pete (A nice \) chap))`, `(("Pete (A nice \\) chap)" NIL "pete" "silly.example"))`},
		{`=?utf-8?q?J=C3=BCrgen?= <j@x.test>`, `(("=?utf-8?q?J=C3=BCrgen?=" NIL "j" "x.test"))`},
		{`no address at all`, `((NIL NIL "no address at all" ""))`},
		{`"unclosed <a@b>`, `((NIL NIL "unclosed <a" "b>"))`},
		{`a@b <c@d`, `(("a@b" NIL "c" "d"))`},
		{` , ,; `, `NIL`},
		{``, `NIL`},
	} {
		if got := string(appendAddresses(nil, parseAddresses(tt.in), false)); got != tt.want {
			t.Errorf("%s\n got %s\nwant %s", tt.in, got, tt.want)
		}
	}
}
