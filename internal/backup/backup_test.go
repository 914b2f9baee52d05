package backup_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/asmtp/asmtp/internal/backup"
	"github.com/asmtp/asmtp/mesh"
	"github.com/asmtp/asmtp/noise"
)

var made = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)

// stream stands for a store: three pieces and a bit, so that cutting and joining is seen.
func stream(t testing.TB) []byte {
	t.Helper()
	b := make([]byte, 3<<20+12345)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	return b
}

func manifest() backup.Manifest {
	return backup.Manifest{Node: noise.PublicKey{1, 2}, Mesh: mesh.ID{3}, Made: made, Program: "1.2.3"}
}

func files() map[string][]byte {
	return map[string][]byte{backup.ConfigName: []byte("users: []\n"), backup.EntropyName: []byte("00"), backup.JoinName: []byte("asmtp-mesh1x")}
}

// identity returns a lock and the key to it.
func identity(t testing.TB) (backup.Lock, backup.Key) {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	l, err := backup.Recipients([]string{id.Recipient().String()})
	if err != nil {
		t.Fatal(err)
	}
	k, err := backup.Identities(strings.NewReader("# made for a test\n" + id.String() + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	return l, k
}

func write(t testing.TB, l backup.Lock, store []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	err := backup.Write(t.Context(), &b, l, manifest(), files(), func(_ context.Context, w io.Writer) error {
		_, err := io.Copy(w, iotestChunks{bytes.NewReader(store)})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// iotestChunks reads in odd lengths and hides WriteTo.
type iotestChunks struct{ r io.Reader }

func (c iotestChunks) Read(p []byte) (int, error) { return c.r.Read(p[:min(len(p), 10007)]) }

func keep(map[string][]byte) error { return nil }

// intoFile is a store that keeps its stream in a file.
func intoFile(_ context.Context, dir string, r io.Reader) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "stream"), b, 0o600)
}

func restore(t testing.TB, b []byte, k backup.Key, dir string) (backup.Manifest, error) {
	t.Helper()
	r, err := backup.Open(bytes.NewReader(b), k)
	if err != nil {
		return backup.Manifest{}, err
	}
	return r.Manifest, r.Restore(t.Context(), dir, keep, intoFile)
}

// content lists the files below dir with what is in them; nil if dir is missing.
func content(t testing.TB, dir string) map[string]string {
	t.Helper()
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		if d.IsDir() {
			all[name+"/"] = ""
			return nil
		}
		b, err := os.ReadFile(path)
		all[name] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// What was backed up comes back, all of it and nothing else, into a folder that is
// missing or empty, also after an earlier restore was cut short there.
func TestBackupComesBack(t *testing.T) {
	l, k := identity(t)
	store := stream(t)
	b := write(t, l, store)
	for name, prepare := range map[string]func(dir string) error{
		"missing": func(string) error { return nil },
		"empty":   func(dir string) error { return os.Mkdir(dir, 0o755) },
		"cut short": func(dir string) error {
			return os.MkdirAll(filepath.Join(dir, backup.UnfinishedName, "store", "deep"), 0o700)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "node")
			if err := prepare(dir); err != nil {
				t.Fatal(err)
			}
			m, err := restore(t, b, k, dir)
			if err != nil {
				t.Fatal(err)
			}
			if want := manifest(); m.Node != want.Node || m.Mesh != want.Mesh || !m.Made.Equal(want.Made) || m.Program != want.Program || m.Format != 1 {
				t.Errorf("manifest %+v, want %+v", m, want)
			}
			got := content(t, dir)
			if len(got) != 5 || got["store/stream"] != string(store) || got["join"] != "asmtp-mesh1x" || got["config.yaml"] != "users: []\n" || got["entropy.txt"] != "00" {
				t.Errorf("restored %d names", len(got))
			}
			if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
				t.Errorf("mode %v, want 0700", info.Mode())
			}
			if err := backup.Unfinished(dir); err != nil {
				t.Error(err)
			}
		})
	}
}

// Nothing is restored over a folder in which something is, and nothing there changes.
func TestFolderInUseIsLeftAlone(t *testing.T) {
	l, k := identity(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "config.yaml"), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := restore(t, write(t, l, []byte("store")), k, dir); !errors.Is(err, backup.ErrNotEmpty) {
		t.Errorf("error %v, want ErrNotEmpty", err)
	}
	if got := content(t, dir); len(got) != 1 || got["config.yaml"] != "mine" {
		t.Errorf("the folder holds %v", got)
	}
}

// A backup that is cut off, or in which one bit is another, is refused wherever that is,
// and nothing of it stays.
func TestDamagedBackupLeavesNothing(t *testing.T) {
	l, k := identity(t)
	good := write(t, l, bytes.Repeat([]byte("store"), 40000))
	parent := t.TempDir()
	refused := func(what string, b []byte, dir string) {
		t.Helper()
		_, err := restore(t, b, k, dir)
		if !errors.Is(err, backup.ErrDamaged) && !errors.Is(err, backup.ErrNotBackup) && !errors.Is(err, backup.ErrIdentity) {
			t.Errorf("%s: error %v, want ErrDamaged or another by name", what, err)
		}
		if got := content(t, dir); len(got) > 0 {
			t.Errorf("%s: left %d files", what, len(got))
		}
	}
	missing, empty := filepath.Join(parent, "missing"), filepath.Join(parent, "empty")
	if err := os.Mkdir(empty, 0o700); err != nil {
		t.Fatal(err)
	}
	step := len(good) / 150
	for i := 0; i < len(good); i += step {
		refused(fmt.Sprintf("cut at %d", i), good[:i], missing)
		changed := bytes.Clone(good)
		changed[i] ^= 1
		refused(fmt.Sprintf("bit at %d", i), changed, empty)
	}
	refused("last byte missing", good[:len(good)-1], empty)
	refused("a byte more", append(bytes.Clone(good), 0), empty)
	if content(t, missing) != nil {
		t.Error("the folder that was missing is there")
	}
	if _, err := restore(t, good, k, empty); err != nil {
		t.Errorf("the whole backup: %v", err)
	}
}

// Whoever has the wrong key is told what is wrong with it.
func TestWrongKeys(t *testing.T) {
	toFriend, friend := identity(t)
	_, stranger := identity(t)
	byPassword, err := backup.PasswordLock("correct horse", 10)
	if err != nil {
		t.Fatal(err)
	}
	open := func(password string) backup.Key {
		k, err := backup.OpenPassword(password)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	for _, tt := range []struct {
		name string
		lock backup.Lock
		key  backup.Key
		want error
	}{
		{"right password", byPassword, open("correct horse"), nil},
		{"wrong password", byPassword, open("Correct horse"), backup.ErrPassword},
		{"password for recipients", toFriend, open("correct horse"), backup.ErrNeedIdentity},
		{"identity for a password", byPassword, friend, backup.ErrNeedPassword},
		{"another identity", toFriend, stranger, backup.ErrIdentity},
	} {
		if _, err := backup.Open(bytes.NewReader(write(t, tt.lock, []byte("store"))), tt.key); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
	// Nobody can be made to spend much time and memory: the factor counts before it is checked.
	costly := strings.Replace(string(write(t, byPassword, []byte("store"))), " 10\n", fmt.Sprintf(" %d\n", backup.MaxWorkFactor+1), 1)
	_, err = backup.Open(strings.NewReader(costly), open("correct horse"))
	if err == nil || !strings.Contains(err.Error(), "work factor too large") {
		t.Errorf("a costly password: %v, want it refused", err)
	}
}

// A backup that could not be made whole is no backup, even if it was kept by mistake.
func TestBrokenOffBackupIsNone(t *testing.T) {
	l, k := identity(t)
	broken := errors.New("disk is gone")
	var b bytes.Buffer
	err := backup.Write(t.Context(), &b, l, manifest(), files(), func(_ context.Context, w io.Writer) error {
		if _, err := w.Write(make([]byte, 5<<20)); err != nil {
			return err
		}
		return broken
	})
	if !errors.Is(err, broken) {
		t.Errorf("Write: %v, want the store's error", err)
	}
	dir := filepath.Join(t.TempDir(), "node")
	if _, err := restore(t, b.Bytes(), k, dir); !errors.Is(err, backup.ErrDamaged) {
		t.Errorf("restore of it: %v, want ErrDamaged", err)
	}
}

// If the store or the files cannot be restored, nothing stays either.
func TestFailedRestoreLeavesNothing(t *testing.T) {
	l, k := identity(t)
	b := write(t, l, []byte("store"))
	fault := errors.New("fault")
	for name, f := range map[string]struct {
		relocate func(map[string][]byte) error
		store    func(context.Context, string, io.Reader) error
		want     error
	}{
		"files": {func(map[string][]byte) error { return fault }, intoFile, fault},
		"store": {keep, func(_ context.Context, dir string, _ io.Reader) error {
			return errors.Join(os.WriteFile(dir, []byte("half"), 0o600), fault)
		}, fault},
		"store stops early": {keep, func(_ context.Context, dir string, _ io.Reader) error { return os.Mkdir(dir, 0o700) }, backup.ErrNotBackup},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			r, err := backup.Open(bytes.NewReader(b), k)
			if err != nil {
				t.Fatal(err)
			}
			if err := r.Restore(t.Context(), dir, f.relocate, f.store); !errors.Is(err, f.want) {
				t.Errorf("error %v, want %v", err, f.want)
			}
			if got := content(t, dir); len(got) != 0 {
				t.Errorf("left %v", got)
			}
		})
	}
}

type entry struct{ name, content string }

// sealTar seals an archive that package backup would not make.
func sealTar(t testing.TB, l age.Recipient, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := age.Encrypt(&b, l)
	if err != nil {
		t.Fatal(err)
	}
	a := tar.NewWriter(w)
	for _, e := range entries {
		if e.name == "after the end" {
			continue
		}
		h := &tar.Header{Typeflag: tar.TypeReg, Name: e.name, Size: int64(len(e.content)), Mode: 0o600}
		if strings.HasSuffix(e.content, "->") {
			h = &tar.Header{Typeflag: tar.TypeSymlink, Name: e.name, Linkname: "/etc/passwd"}
			e.content = ""
		}
		if err := a.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Write([]byte(e.content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if len(entries) > 0 && entries[len(entries)-1].name == "after the end" {
		if _, err := w.Write(make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Archives that are sealed well and hold what no backup holds are refused by name.
func TestForeignArchives(t *testing.T) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	k, err := backup.Identities(strings.NewReader(id.String()))
	if err != nil {
		t.Fatal(err)
	}
	m := entry{"manifest.json", fmt.Sprintf(`{"format":1,"node":"%064x","mesh":"%032x","made":"2026-01-01T00:00:00Z"}`, 1, 2)}
	c, e, s := entry{"config.yaml", "users: []"}, entry{"entropy.txt", "00"}, entry{"store/00000000", "x"}
	for _, tt := range []struct {
		name    string
		entries []entry
		want    error
	}{
		{"good", []entry{m, c, e, s}, nil},
		{"nothing", nil, backup.ErrNotBackup},
		{"no manifest", []entry{c, e, s}, backup.ErrNotBackup},
		{"manifest twice", []entry{m, m, c, e, s}, backup.ErrNotBackup},
		{"newer", []entry{{"manifest.json", `{"format":2,"node":17}`}, c, e, s}, backup.ErrNewer},
		{"older than the first", []entry{{"manifest.json", `{"format":0}`}, c, e, s}, backup.ErrNotBackup},
		{"no key", []entry{m, c, s}, backup.ErrNotBackup},
		{"order", []entry{m, e, c, s}, backup.ErrNotBackup},
		{"path", []entry{m, c, e, {"../../evil", "x"}, s}, backup.ErrNotBackup},
		{"link", []entry{m, {"config.yaml", "->"}, e, s}, backup.ErrNotBackup},
		{"huge", []entry{m, {"config.yaml", strings.Repeat("x", 1<<20+1)}, e, s}, backup.ErrNotBackup},
		{"piece missing", []entry{m, c, e, s, {"store/00000002", "x"}}, backup.ErrNotBackup},
		{"more than an archive", []entry{m, c, e, s, {"after the end", ""}}, backup.ErrDamaged},
		{"file after the store", []entry{m, c, e, s, {"join", "x"}}, backup.ErrNotBackup},
	} {
		dir := filepath.Join(t.TempDir(), "node")
		if _, err := restore(t, sealTar(t, id.Recipient(), tt.entries...), k, dir); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
		if tt.want != nil && content(t, dir) != nil {
			t.Errorf("%s: something stayed", tt.name)
		}
	}
	// Without an end of the header in sight nothing is read into memory.
	endless := append([]byte("age-encryption.org/v1\n"), bytes.Repeat([]byte("-> x\n"), 1<<20)...)
	if _, err := backup.Open(bytes.NewReader(endless), k); !errors.Is(err, backup.ErrNotBackup) {
		t.Errorf("endless header: %v, want ErrNotBackup", err)
	}
}
