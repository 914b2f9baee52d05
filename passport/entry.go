package passport

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/asmtp/asmtp/noise"
)

// RegistrationTime is how many seconds a [Register] may wait for its block.
const RegistrationTime = 3600

// Types and sizes of entries (FORMAT.md section 4.2). Sizes count the type.
const (
	typeRegister   = 1
	typeDeregister = 2
	typeSetShared  = 3

	registerSize   = 154
	deregisterSize = 38
	setSharedSize  = 39 // and recipientSize for each recipient

	keyIDSize     = 8 // of a recipient's master key, enough to find one's own message
	recipientSize = keyIDSize + noise.KeySize + noise.NOverhead
)

// ErrEntry is wrapped by the errors for bytes that are no entry of a block.
var ErrEntry = errors.New("bad entry")

// Entry is one change in a block: a [Register], [Deregister] or [SetShared].
type Entry interface {
	// CreatedAt returns the time at which the entry was made, at most its block's.
	CreatedAt() Time
	appendTo(b []byte) []byte
}

// Register makes a master key active. The holder of that key signs it, see
// [RequestRegistration]; an active device puts it into a block, see [Change].
type Register struct {
	Key        noise.PublicKey
	Alias      string // the signed bytes up to the first zero, broken UTF-8 replaced
	PassportID ID     // zero in a first block, whose id is not known yet
	Created    Time
	Timeout    Time // the last time that its block may have
	Signature  [noise.SignatureSize]byte

	alias [MaxAlias]byte // as signed
}

// RequestRegistration returns what the new device that holds key signs so that an
// active device of passport id can register it within [RegistrationTime]. If the
// passport is known, now should not be before its [Passport.LastTime], for block
// times never go back. The alias is ASCII, at most [MaxAlias] bytes and new to the
// passport; use [NewAlias], since everybody can read it.
func RequestRegistration(id ID, key *noise.PrivateKey, alias string, now Time) (Register, error) {
	r := Register{Key: key.Public(), Alias: alias, PassportID: id, Created: now, Timeout: now + RegistrationTime}
	if len(alias) > MaxAlias {
		return Register{}, fmt.Errorf("%w: alias of %d bytes, at most %d", ErrEntry, len(alias), MaxAlias)
	}
	for _, c := range []byte(alias) {
		if c == 0 || c > 0x7f {
			return Register{}, fmt.Errorf("%w: alias is not ASCII", ErrEntry)
		}
	}
	copy(r.alias[:], alias)
	copy(r.Signature[:], key.Sign(r.signed()))
	return r, r.check()
}

// ParseRegister reads the 154 bytes of a [Register] as a device sends them before
// they are in a block, and checks its signature.
func ParseRegister(b []byte) (Register, error) {
	if len(b) != registerSize || binary.BigEndian.Uint16(b) != typeRegister {
		return Register{}, fmt.Errorf("%w: not a registration", ErrEntry)
	}
	r, _, err := readRegister(b)
	return r, err
}

// Bytes returns the encoding that [ParseRegister] reads.
func (r Register) Bytes() []byte { return r.appendTo(nil) }

// CreatedAt returns r.Created.
func (r Register) CreatedAt() Time { return r.Created }

func (r Register) appendTo(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, typeRegister)
	b = append(b, r.signed()...)
	return append(b, r.Signature[:]...)
}

// signed returns what the key being registered signs, bytes 2 to 90 of the entry.
func (r Register) signed() []byte {
	b := make([]byte, 0, registerSize)
	b = append(b, r.Key[:]...)
	b = append(b, r.alias[:]...)
	b = append(b, r.PassportID[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(r.Created))
	return binary.BigEndian.AppendUint32(b, uint32(r.Timeout))
}

// check is all that can be said about r without its block. Like the reference's
// release build it takes any timeout after the creation.
func (r Register) check() error {
	if r.Created >= r.Timeout {
		return fmt.Errorf("%w: registration of %s ends before it begins", ErrEntry, r.Key.Short())
	}
	if !r.Key.Verify(r.signed(), r.Signature[:]) {
		return fmt.Errorf("%w: registration of %s is not signed by that key", ErrEntry, r.Key.Short())
	}
	return nil
}

func readRegister(b []byte) (Register, []byte, error) {
	var r Register
	if len(b) < registerSize {
		return r, nil, fmt.Errorf("%w: registration of %d bytes, want %d", ErrEntry, len(b), registerSize)
	}
	copy(r.Key[:], b[2:34])
	copy(r.alias[:], b[34:66])
	r.Alias = aliasText(r.alias[:])
	copy(r.PassportID[:], b[66:82])
	r.Created = Time(binary.BigEndian.Uint32(b[82:86]))
	r.Timeout = Time(binary.BigEndian.Uint32(b[86:90]))
	copy(r.Signature[:], b[90:154])
	return r, b[registerSize:], r.check()
}

// aliasText returns the alias in a zero-padded field. Broken UTF-8 is replaced as
// the reference's language does it, one U+FFFD for each maximal part of a sequence,
// since two aliases that read alike are one.
func aliasText(field []byte) string {
	field, _, _ = bytes.Cut(field, []byte{0})
	var s strings.Builder
	for len(field) > 0 {
		r, n := utf8.DecodeRune(field)
		if r == utf8.RuneError && n == 1 {
			for n < len(field) && !utf8.FullRune(field[:n+1]) {
				n++
			}
		}
		s.WriteRune(r)
		field = field[n:]
	}
	return s.String()
}

// Deregister removes an active master key. Its alias stays taken for ever. The
// removed device still knows the shared keys it could open: see [SharedKey].
type Deregister struct {
	Key     noise.PublicKey
	Created Time
}

// CreatedAt returns d.Created.
func (d Deregister) CreatedAt() Time { return d.Created }

func (d Deregister) appendTo(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, typeDeregister)
	b = append(b, d.Key[:]...)
	return binary.BigEndian.AppendUint32(b, uint32(d.Created))
}

func readDeregister(b []byte) (Deregister, []byte, error) {
	var d Deregister
	if len(b) < deregisterSize {
		return d, nil, fmt.Errorf("%w: deregistration of %d bytes, want %d", ErrEntry, len(b), deregisterSize)
	}
	copy(d.Key[:], b[2:34])
	d.Created = Time(binary.BigEndian.Uint32(b[34:38]))
	return d, b[deregisterSize:], nil
}

// SetShared replaces the shared key. Its secret is inside, sealed to some master
// keys; nothing forces them to be the active ones. [Passport.Unshield] opens it.
type SetShared struct {
	Key        noise.SharedPublic
	Created    Time
	Recipients int // how many master keys the secret is sealed to

	sealed []byte // recipientSize each; never written to
}

// CreatedAt returns s.Created.
func (s SetShared) CreatedAt() Time { return s.Created }

// IsFor reports whether s names key as a recipient. Recipients are named by the
// first 8 bytes of their key, and only opening the message proves the rest.
func (s SetShared) IsFor(key noise.PublicKey) bool { return s.message(key) != nil }

// message returns the first sealed message for key, nil if there is none.
func (s SetShared) message(key noise.PublicKey) []byte {
	for b := s.sealed; len(b) > 0; b = b[recipientSize:] {
		if bytes.Equal(b[:keyIDSize], key[:keyIDSize]) {
			return b[keyIDSize:recipientSize]
		}
	}
	return nil
}

func (s SetShared) appendTo(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, typeSetShared)
	b = append(b, byte(s.Recipients))
	b = append(b, s.Key[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(s.Created))
	return append(b, s.sealed...)
}

// readSetShared returns an entry that shares b's memory.
func readSetShared(b []byte) (SetShared, []byte, error) {
	var s SetShared
	if len(b) < setSharedSize {
		return s, nil, fmt.Errorf("%w: shared key of %d bytes, want at least %d", ErrEntry, len(b), setSharedSize)
	}
	s.Recipients = int(b[2])
	size := setSharedSize + s.Recipients*recipientSize
	if len(b) < size {
		return s, nil, fmt.Errorf("%w: shared key for %d recipients of %d bytes, want %d", ErrEntry, s.Recipients, len(b), size)
	}
	copy(s.Key[:], b[3:35])
	s.Created = Time(binary.BigEndian.Uint32(b[35:39]))
	s.sealed = b[setSharedSize:size:size]
	return s, b[size:], nil
}

// readEntries splits the content of a block. The entries share its memory.
func readEntries(content []byte) ([]Entry, error) {
	var entries []Entry
	for len(content) > 0 {
		e, rest, err := readEntry(content)
		if err != nil {
			return nil, fmt.Errorf("entry %d: %w", len(entries), err)
		}
		entries, content = append(entries, e), rest
	}
	return entries, nil
}

func readEntry(b []byte) (Entry, []byte, error) {
	if len(b) < 2 {
		return nil, nil, fmt.Errorf("%w: cut within its type", ErrEntry)
	}
	switch t := binary.BigEndian.Uint16(b); t {
	case typeRegister:
		return readRegister(b)
	case typeDeregister:
		return readDeregister(b)
	case typeSetShared:
		return readSetShared(b)
	default:
		return nil, nil, fmt.Errorf("%w: unknown type %d", ErrEntry, t)
	}
}
