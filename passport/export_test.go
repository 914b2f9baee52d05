package passport

// What tests of the package need to write blocks that Change would not.
var (
	SignBlock = signBlock
	Shield    = shield
	Create0   = create
)

// AppendTo gives tests the encoding of every kind of entry.
func AppendTo(e Entry, b []byte) []byte { return e.appendTo(b) }
