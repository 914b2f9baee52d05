//go:build linux

package powerloss

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/asmtp/asmtp/test/powerloss/load"
)

// patience bounds every wait of a test.
const patience = 60 * time.Second

// disk is an ext4 file system in a file, mounted at root.
type disk struct {
	t     *testing.T
	image string
	root  string
}

// need skips the test where it cannot run; in CI it may not be skipped.
func need(t *testing.T) {
	t.Helper()
	reason := ""
	if os.Getuid() != 0 {
		reason = "needs root: mounts a file system and shuts it down"
	}
	for _, program := range []string{"mkfs.ext4", "mount"} {
		if _, err := exec.LookPath(program); err != nil {
			reason = err.Error()
		}
	}
	switch {
	case reason == "":
	case os.Getenv("CI") == "true":
		t.Fatal(reason)
	default:
		t.Skip(reason)
	}
}

// newDisk makes a file system of this size and mounts it.
func newDisk(t *testing.T, size int64) *disk {
	t.Helper()
	dir, err := os.MkdirTemp("", "power") // short: a control socket's path must be
	if err != nil {
		t.Fatal(err)
	}
	d := &disk{t: t, image: filepath.Join(dir, "image"), root: filepath.Join(dir, "d")}
	t.Cleanup(func() { os.RemoveAll(dir) })
	f, err := os.Create(d.image)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(size), f.Close(), os.Mkdir(d.root, 0o700)); err != nil {
		t.Fatal(err)
	}
	d.command("mkfs.ext4", "-q", "-F", d.image)
	d.mount()
	t.Cleanup(func() { d.unmount() })
	return d
}

func (d *disk) command(name string, args ...string) {
	d.t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		d.t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

func (d *disk) mount() {
	d.t.Helper()
	d.command("mount", "-o", "loop", d.image, d.root)
}

// unmount waits until the loop device is free too: mounted before, the image would be
// the old, dead file system again.
func (d *disk) unmount() {
	d.t.Helper()
	d.await("unmount", func() error { return unix.Unmount(d.root, 0) })
	d.await("release of the loop device", func() error {
		files, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
		if err != nil {
			return err
		}
		for _, file := range files {
			if b, _ := os.ReadFile(file); strings.TrimSpace(string(b)) == d.image { // it may just be gone
				return fmt.Errorf("%s is in use", file)
			}
		}
		return nil
	})
}

// await tries until there is no error.
func (d *disk) await(what string, try func() error) {
	d.t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			d.t.Fatalf("%s: %v", what, err)
		}
	}
}

// The call and its flag are those of fs/ext4/ext4.h: go down without writing the journal.
const (
	ext4IocShutdown  = 0x8004587d
	shutdownNoLogOut = 2
)

// cut takes the power from the disk: from now on nothing reaches it. It returns when it
// began: the call takes some milliseconds, in which programs run on and are told that their
// writes are safe, as none are that has no power.
func (d *disk) cut() (began int64) {
	d.t.Helper()
	dir, err := os.Open(d.root)
	if err != nil {
		d.t.Fatal(err)
	}
	defer dir.Close()
	flag := uint32(shutdownNoLogOut)
	began = load.Clock()
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, dir.Fd(), ext4IocShutdown, uintptr(unsafe.Pointer(&flag))); errno != 0 {
		d.t.Fatalf("EXT4_IOC_SHUTDOWN: %v", errno)
	}
	return began
}

// restart mounts what the disk holds. No process may use the old file system any more.
func (d *disk) restart() {
	d.t.Helper()
	d.unmount()
	d.mount()
}
