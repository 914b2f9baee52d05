package bench_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"text/tabwriter"
	"time"
)

// contender is one way to do a job. Contenders take turns within a round, and only what
// they did in the same round is compared: machines are busier at some times than at others.
type contender struct {
	name string
	n    int                                // how many things one round does
	do   func(n int) (time.Duration, error) // does them
	rate []float64                          // things per second, by round
}

// takeTurns runs all contenders in each round, beginning with another one each time.
func takeTurns(b *testing.B, all []*contender) {
	b.Helper()
	for round := range rounds {
		for i := range all {
			c := all[(i+round)%len(all)]
			took, err := c.do(c.n)
			if err != nil {
				b.Fatalf("%s: %v", c.name, err)
			}
			c.rate = append(c.rate, float64(c.n)/took.Seconds())
		}
	}
}

// ratio is how much faster c is than other, by round.
func (c *contender) ratio(other *contender) []float64 {
	r := make([]float64, len(c.rate))
	for i := range r {
		r[i] = c.rate[i] / other.rate[i]
	}
	return r
}

// table prints the rates of all contenders, and their ratios to some of them.
func table(title, unit string, all []*contender, to ...*contender) {
	fmt.Printf("\n%s; %d rounds; median (smallest..largest)\n", title, rounds)
	t := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "\t%s\t", unit)
	for _, o := range to {
		fmt.Fprintf(t, "/ %s\t", o.name)
	}
	fmt.Fprintln(t)
	for _, c := range all {
		fmt.Fprintf(t, "%s\t%s\t", c.name, spreadText(c.rate, "%.0f"))
		for _, o := range to {
			fmt.Fprintf(t, "%s\t", spreadText(c.ratio(o), "%.2f"))
		}
		fmt.Fprintln(t)
	}
	t.Flush()
}

func spreadText(v []float64, format string) string {
	m, lo, hi := spread(v)
	return fmt.Sprintf(format+" ("+format+".."+format+")", m, lo, hi)
}

// metric makes a name fit for b.ReportMetric.
func metric(name string) string {
	return strings.NewReplacer(" ", "-", ",", "").Replace(name)
}
