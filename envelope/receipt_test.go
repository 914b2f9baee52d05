package envelope_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"slices"
	"testing"

	"github.com/asmtp/asmtp/envelope"
)

func TestReceiptsBytes(t *testing.T) {
	list := []envelope.Receipt{
		{MailID: envelope.MailID{1}, BodyHash: envelope.BodyHash{2}, Code: envelope.ReceiptStored},
		{MailID: envelope.MailID{3}, BodyHash: envelope.BodyHash{4}, Code: envelope.ReceiptRefused},
	}
	b := envelope.EncodeReceipts(list)
	const want = "01000000000000000000000000000000" + "02000000000000000000000000000000" + "01" +
		"03000000000000000000000000000000" + "04000000000000000000000000000000" + "03"
	if got := hex.EncodeToString(b); got != want {
		t.Errorf("encoded %s, want %s", got, want)
	}
	got, err := envelope.ParseReceipts(b)
	if err != nil || !slices.Equal(got, list) {
		t.Errorf("parsed %v, %v", got, err)
	}
}

func TestParseReceiptsRefuses(t *testing.T) {
	good := envelope.EncodeReceipts([]envelope.Receipt{{Code: 1}, {Code: 2}})
	for name, tt := range map[string]struct {
		b    []byte
		want error
	}{
		"nothing":    {nil, envelope.ErrPart},
		"cut":        {good[:65], envelope.ErrPart},
		"too long":   {append(bytes.Clone(good), 0), envelope.ErrPart},
		"code 0":     {with(good, 32, 0), envelope.ErrPart},
		"newer code": {with(good, 65, 4), envelope.ErrNewer},
	} {
		if list, err := envelope.ParseReceipts(tt.b); !errors.Is(err, tt.want) || list != nil {
			t.Errorf("%s: %v, %v, want %v", name, list, err, tt.want)
		}
	}
}
