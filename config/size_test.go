package config_test

import (
	"strings"
	"testing"

	"github.com/asmtp/asmtp/config"
)

func TestParseSize(t *testing.T) {
	for _, tt := range []struct {
		text string
		want int64 // -1: refused
		back string
	}{
		{"4GiB", 4 << 30, "4GiB"},
		{"500 MiB", 500 << 20, "500MiB"},
		{"1.5gib", 3 << 29, "1536MiB"},
		{"1048576", 1 << 20, "1MiB"},
		{"1048577", 1<<20 + 1, "1048577"},
		{"12B", 12, "12"},
		{"0", 0, "0"},
		{"8388607TiB", 8388607 << 40, "8388607TiB"},
		{"8388608TiB", -1, ""},
		{"99999999999999999999", -1, ""},
		{"9e99GiB", -1, ""},
		{"4GB", -1, ""}, {"4G", -1, ""}, {"-1GiB", -1, ""}, {"GiB", -1, ""}, {"", -1, ""}, {"1.5", -1, ""}, {"1.5.5GiB", -1, ""}, {"NaNGiB", -1, ""}, {"0x1GiB", -1, ""},
	} {
		got, err := config.ParseSize(tt.text)
		if tt.want < 0 {
			if err == nil {
				t.Errorf("ParseSize(%q) = %d, want an error", tt.text, got)
			}
			continue
		}
		if err != nil || int64(got) != tt.want || got.String() != tt.back {
			t.Errorf("ParseSize(%q) = %d %q, %v; want %d %q", tt.text, got, got, err, tt.want, tt.back)
		}
	}
}

// Sizes are read from the file, and those that are no size or too small are named with their line.
func TestStorageSizes(t *testing.T) {
	c, err := config.Load(write(t, "users: []\nstorage:\n  quota: {large: 2MiB, rest: 1048576}\n  reserve: 5 GiB\n"))
	if err != nil {
		t.Fatal(err)
	}
	if q := c.Storage.Quota; q.Large != 2<<20 || q.Rest != 1<<20 || c.Storage.Reserve != 5<<30 {
		t.Errorf("read %+v", c.Storage)
	}
	_, err = config.Load(write(t, "users: []\nstorage:\n  quota:\n    large: 0\n    rest: 4 GB\n    small: 1\n  reserve: 1KiB\n"))
	for _, want := range []string{
		":4: storage.quota.large: at least 1MiB", `:5: storage.quota.rest: want a size such as 4GiB, 500MiB or a number of bytes, got "4 GB"`,
		":6: unknown key storage.quota.small", ":7: storage.reserve: at least 1MiB",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("problems\n%v\nwant one with %q", err, want)
		}
	}
	if p, ok := config.AsProblems(err); !ok || len(p.List) != 4 {
		t.Errorf("problems:\n%v\nwant 4", err)
	}
}

// FuzzParseSize: what is taken is not negative and is read again from its own text.
func FuzzParseSize(f *testing.F) {
	for _, seed := range []string{"4GiB", "1.5TiB", "12", "8388608TiB", "1e3MiB"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := config.ParseSize(text)
		if err != nil {
			return
		}
		if again, err := config.ParseSize(s.String()); s < 0 || err != nil || again != s {
			t.Errorf("%q = %d, its text %q = %d, %v", text, s, s, again, err)
		}
	})
}
