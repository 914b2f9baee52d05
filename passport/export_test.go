package passport

// What tests of the package need to write blocks that Change would not.
var (
	SignBlock = signBlock
	Shield    = shield
	AliasText = aliasText
)

// AppendTo gives tests the encoding of every kind of entry.
func AppendTo(e Entry, b []byte) []byte { return e.appendTo(b) }

// BigShared is an entry of a shared key with n recipients and nothing sealed to them.
func BigShared(n int, at Time) SetShared {
	return SetShared{Created: at, Recipients: n, sealed: make([]byte, n*recipientSize)}
}

// Raw is an entry of any bytes.
type Raw []byte

// CreatedAt is there to make Raw an Entry.
func (r Raw) CreatedAt() Time { return 0 }

func (r Raw) appendTo(b []byte) []byte { return append(b, r...) }
