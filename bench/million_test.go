package bench_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/asmtp/asmtp/internal/control"
	"github.com/asmtp/asmtp/test/programs"
)

// million is how many envelopes the large node stores.
const million = 1_000_000

// BenchmarkMillion starts a node with 1,000,000 stored envelopes of 1 KiB, in turns with
// an empty one, after a clean stop and after kill -9: how long until "asmtpd status" is
// answered on the control socket, and how much memory it then has. Anonymous memory is the
// node's own, the rest are pages of mapped files, which the kernel takes back when it
// needs them.
func BenchmarkMillion(b *testing.B) {
	for range b.N {
		w := programs.New(b, "")
		w.Start("empty")
		w.Start("full")
		for name := range w.Nodes {
			w.Nodes[name].Stop()
		}
		quota(b, w.Path("full", "config.yaml"))
		began := time.Now()
		s := openStore(b, w.Path("full", "store"))
		fill(b, s, 7, million)
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
		fmt.Printf("\n%d envelopes of 1 KiB stored in %.0f s, %d MB on disk\n", million, time.Since(began).Seconds(), onDisk(b, w.Path("full"))/1e6)
		starts(b, w)
	}
}

// quota makes room for a million envelopes and more.
func quota(b *testing.B, file string) {
	b.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		b.Fatal(err)
	}
	changed := strings.Replace(string(text), "rest: 1GiB", "rest: 64GiB", 1)
	if changed == string(text) {
		b.Fatal("the configuration has no quota to change")
	}
	if err := os.WriteFile(file, []byte(changed), 0o600); err != nil {
		b.Fatal(err)
	}
}

func starts(b *testing.B, w *programs.World) {
	b.Helper()
	type figures struct{ clean, killed, rss, anonymous []float64 }
	all := map[string]*figures{"empty": {}, "full": {}}
	for range rounds {
		for _, name := range []string{"empty", "full"} {
			f := all[name]
			f.clean = append(f.clean, startTime(b, w, name))
			f.rss = append(f.rss, memory(b, w.Nodes[name].Cmd.Process.Pid, "VmRSS:"))
			f.anonymous = append(f.anonymous, memory(b, w.Nodes[name].Cmd.Process.Pid, "RssAnon:"))
			w.Nodes[name].Kill()
			f.killed = append(f.killed, startTime(b, w, name))
			w.Nodes[name].Stop()
		}
	}
	for _, name := range []string{"empty", "full"} {
		f := all[name]
		fmt.Printf("%-5s node answers after %s ms, after kill -9 %s ms; VmRSS %s MB, of that anonymous %s MB\n", name,
			spreadText(f.clean, "%.0f"), spreadText(f.killed, "%.0f"), spreadText(f.rss, "%.1f"), spreadText(f.anonymous, "%.1f"))
	}
	for what, pair := range map[string][2][]float64{
		"start-ratio": {all["full"].clean, all["empty"].clean}, "start-ratio-kill9": {all["full"].killed, all["empty"].killed},
		"rss-ratio": {all["full"].rss, all["empty"].rss},
	} {
		ratios := make([]float64, rounds)
		for i := range ratios {
			ratios[i] = pair[0][i] / pair[1][i]
		}
		m, _, _ := spread(ratios)
		b.ReportMetric(m, what)
	}
}

// startTime starts a node and returns after how many milliseconds it tells its status.
func startTime(b *testing.B, w *programs.World, name string) float64 {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	start := time.Now()
	w.Launch(name)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		if c, err := control.Dial(w.Path(name)); err == nil {
			_, err = c.Status(ctx)
			c.Close()
			if err == nil {
				return float64(time.Since(start)) / 1e6
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			b.Fatalf("%s does not answer", name)
		}
	}
}

// memory returns a line of /proc/PID/status in megabytes.
func memory(b *testing.B, pid int, name string) float64 {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Skip("no memory to read: ", err)
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			n, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				b.Fatal(err)
			}
			return float64(n) * 1024 / 1e6
		}
	}
	b.Fatalf("no line %s", name)
	return 0
}

// onDisk returns what the files below dir occupy.
func onDisk(b *testing.B, dir string) (bytes int64) {
	b.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		st, err := d.Info()
		if err == nil {
			bytes += occupied(st)
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	return bytes
}
