package store

import "fmt"

// maxKey and maxValue are more than any record has: the longest value is the block of a
// passport, of 64 KiB.
const (
	maxKey   = 128
	maxValue = 128 << 10
)

// shape is what the key and the value of a kind are like: lengths with the byte of the
// kind, exact unless the value's is -1.
type shape struct{ key, value int }

var shapes = map[byte]shape{
	kindBody:      {33, -1},
	kindIndex:     {33, indexSize},
	kindDue:       {37, 0},
	kindEntry:     {25, entrySize},
	kindNumber:    {49, 8},
	kindLast:      {17, 8},
	kindDevice:    {57, 4},
	kindRemove:    {29, 0},
	kindHandle:    {33, 8},
	kindTagKey:    {33, 36},
	kindOwn:       {37, 0},
	kindCustody:   {65, 0},
	kindShare:     {33, 16},
	kindHour:      {5, 2 * usageSize},
	kindBlock:     {33, -1},
	kindTip:       {17, 28},
	kindChange:    {9, 16},
	kindActive:    {49, 8},
	kindFork:      {33, -1},
	kindStatement: {17, -1},
	kindPeer:      {33, -1},
	kindToken:     {33, 1 + 4 + 4 + 32},
	kindStamps:    {34, -1},
}

// singles are the single records and the lengths of their values.
var singles = map[string]int{
	string(keySchema):     4,
	string(keyGeneration): 8,
	string(keyStamp):      8,
	string(keyUsage):      usageSize,
	string(keyLastChange): 8,
	string(keyMesh):       -1,
}

// checkShape says whether a record is one of this schema by its lengths. What is in it,
// Verify checks.
func checkShape(k []byte, value int) error {
	want := shape{key: len(k)}
	ok := false
	switch {
	case len(k) == 0 || len(k) > maxKey || value > maxValue:
	case k[0] == '!':
		want.value, ok = singles[string(k)]
	case k[0] == kindUser:
		want.value, ok = 4, len(k) > 1 && len(k) <= 65
	default:
		want, ok = shapes[k[0]]
	}
	if !ok || want.key != len(k) || want.value >= 0 && want.value != value {
		return fmt.Errorf("%w: no such record: key of %d bytes, value of %d", ErrDamaged, len(k), value)
	}
	return nil
}
