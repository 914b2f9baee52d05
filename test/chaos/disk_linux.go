package chaos

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/asmtp/asmtp/envelope"
)

// disk is a small file system of its own, which can be filled.
type disk struct {
	image, mount string

	mu     sync.Mutex
	filled bool
}

const (
	diskSize    = 768 << 20
	diskReserve = 32 << 20
)

// maybeSmallDisk gives the second and the fourth node small disks, if this user may mount.
func (r *run) maybeSmallDisk(n *node, i int) error {
	if i != 1 && i != 3 || os.Geteuid() != 0 {
		return nil
	}
	d := &disk{image: filepath.Join(r.dir, n.name+".img"), mount: filepath.Join(r.dir, n.name+"-disk")}
	f, err := os.Create(d.image)
	if err != nil {
		return err
	}
	if err := f.Truncate(diskSize); err != nil {
		f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Mkdir(d.mount, 0o700); err != nil {
		return err
	}
	for _, args := range [][]string{{"mkfs.ext4", "-q", "-m", "0", d.image}, {"mount", "-o", "loop", d.image, d.mount}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			r.say("no small disks: %v: %v %s", args, err, strings.TrimSpace(string(out)))
			return nil
		}
	}
	n.disk, n.data = d, filepath.Join(d.mount, n.name)
	return nil
}

// unmount gives the file system back. No process of the world is running any more.
func (n *node) unmount() {
	if n.disk == nil {
		return
	}
	if n.r.Keep || len(n.r.violations()) > 0 { // what is kept must be readable later
		_ = exec.Command("cp", "-r", "--sparse=always", n.data, filepath.Join(n.r.dir, n.name)).Run()
	}
	if out, err := exec.Command("umount", n.disk.mount).CombinedOutput(); err != nil { // frees the loop device too
		n.r.say("umount %s: %v %s", n.disk.mount, err, out)
		_ = exec.Command("umount", "-l", n.disk.mount).Run()
	}
	_ = os.Remove(n.disk.image)
}

// narrow writes small quotas and the reserve into a node's configuration, for its next start.
func (n *node) narrow(large, rest string) error {
	file := filepath.Join(n.data, "config.yaml")
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	text := string(b)
	if n.disk != nil {
		text = setting(text, "  reserve:", fmt.Sprintf("  reserve: %d", diskReserve))
	}
	if n.quota {
		text = setting(text, "    large:", "    large: "+large)
		text = setting(text, "    rest:", "    rest: "+rest)
	}
	return os.WriteFile(file, []byte(text), 0o600)
}

// setting replaces the line of a setting, also if it is commented out; one that the
// program does not know stays away.
func setting(text, key, line string) string {
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		if strings.HasPrefix(strings.Replace(l, "#", "", 1), key) {
			lines[i] = line
			break
		}
	}
	return strings.Join(lines, "\n")
}

// filler is the foreign file that takes the room.
func (d *disk) filler() string { return filepath.Join(d.mount, "filler") }

// fill leaves only some bytes free.
func (d *disk) fill(leave int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var st syscall.Statfs_t
	if err := syscall.Statfs(d.mount, &st); err != nil {
		return err
	}
	size := int64(st.Bavail)*st.Bsize - leave
	if size <= 0 {
		return nil
	}
	f, err := os.OpenFile(d.filler(), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	d.filled = true
	return syscall.Fallocate(int(f.Fd()), 0, 0, size)
}

func (d *disk) isFull() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.filled
}

// free removes the foreign file.
func (d *disk) free() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.filled {
		_ = os.Remove(d.filler())
		d.filled = false
	}
}

// pool keeps the last envelopes that probes made, for all of them.
type pool struct {
	mu   sync.Mutex
	list []*envelope.Envelope
}

func (p *pool) put(e *envelope.Envelope) {
	p.mu.Lock()
	defer p.mu.Unlock()
	const most = 300
	if len(p.list) >= most {
		p.list = p.list[1:]
	}
	p.list = append(p.list, e)
}

func (p *pool) any(random *rand.Rand) *envelope.Envelope {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.list) == 0 {
		return nil
	}
	return p.list[random.IntN(len(p.list))]
}
