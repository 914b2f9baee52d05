package control

import "fmt"

// Bytes writes a number of bytes for people: 4 GiB, 1.5 MiB, 17 B.
func Bytes(n int64) string {
	for i, unit := range []string{"TiB", "GiB", "MiB", "KiB"} {
		u := int64(1) << (40 - 10*i)
		if n < u {
			continue
		}
		if n%u == 0 || n >= 100*u {
			return fmt.Sprintf("%d %s", n/u, unit)
		}
		return fmt.Sprintf("%.1f %s", float64(n)/float64(u), unit)
	}
	return fmt.Sprintf("%d B", n)
}
