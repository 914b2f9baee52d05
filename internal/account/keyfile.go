package account

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"filippo.io/age"

	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
)

const (
	keyFile       = "key.age" // sealed with a passphrase; `age -d` opens it
	clearKeyFile  = "key"     // in clear
	databaseFile  = "account.db"
	lockFile      = "outbox.lock"
	lockFileLarge = "outbox-large.lock"

	// keyFileTitle is the first line of the key file, with its version.
	keyFileTitle = "asmtp account key 1"
	keyFileWord  = "asmtp account key "
	// workFactor is the base-2 logarithm of scrypt's N: about 0.1 s and 32 MiB.
	workFactor = 15
	// maxWorkFactor bounds the work that a file put in our place can demand.
	maxWorkFactor = 18
	maxKeyFile    = 16 << 10
)

// secrets are what the key file holds.
type secrets struct {
	master   *noise.PrivateKey
	database [32]byte
	passport passport.ID
}

// Format hides the secrets, whatever the verb.
func (s *secrets) Format(f fmt.State, _ rune) { fmt.Fprint(f, "secrets of an account") }

func newSecrets(master *noise.PrivateKey, id passport.ID) *secrets {
	s := &secrets{master: master, passport: id}
	rand.Read(s.database[:])
	return s
}

func (s *secrets) encode() []byte {
	return fmt.Appendf(nil, "%s\nmaster %x\ndatabase %x\npassport %s\n", keyFileTitle, s.master.Bytes(), s.database[:], s.passport)
}

func parseSecrets(b []byte) (*secrets, error) {
	lines := bufio.NewScanner(bytes.NewReader(b))
	lines.Scan()
	if title := lines.Text(); title != keyFileTitle {
		if strings.HasPrefix(title, keyFileWord) {
			return nil, fmt.Errorf("key file: %w", ErrNewerAccount)
		}
		return nil, errors.New("key file: not one of ours")
	}
	values := make(map[string][]byte)
	for lines.Scan() {
		name, text, _ := strings.Cut(lines.Text(), " ")
		v, err := hex.DecodeString(text)
		if err != nil {
			return nil, fmt.Errorf("key file: the value of %q is broken", name)
		}
		values[name] = v
	}
	s := new(secrets)
	var err error
	if s.master, err = noise.NewPrivateKey(values["master"]); err != nil {
		return nil, errors.New("key file: no master key in it")
	}
	if len(values["database"]) != len(s.database) || len(values["passport"]) != len(s.passport) {
		return nil, errors.New("key file: it is incomplete")
	}
	copy(s.database[:], values["database"])
	copy(s.passport[:], values["passport"])
	return s, nil
}

// writeKeyFile makes the key file. It fails with ErrExists if there is one. An empty
// passphrase needs clear, so that a lost one never leaves the keys in clear.
func writeKeyFile(dir string, s *secrets, passphrase string, clear bool, work int) error {
	content, name := s.encode(), clearKeyFile
	if passphrase == "" && !clear {
		return ErrNeedPassphrase
	}
	if passphrase != "" {
		sealed, err := sealKey(content, passphrase, work)
		if err != nil {
			return fmt.Errorf("seal the key file: %w", err)
		}
		content, name = sealed, keyFile
	}
	tmp, err := os.CreateTemp(dir, ".key-*") // 0600
	if err != nil {
		return fmt.Errorf("write the key file: %w", err)
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(content)
	if err == nil {
		err = tmp.Sync()
	}
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = publish(tmp.Name(), filepath.Join(dir, name))
	}
	if err != nil {
		return fmt.Errorf("write the key file: %w", err)
	}
	return syncDir(dir)
}

// publish gives a file its final name, unless something has it already.
func publish(tmp, name string) error {
	err := os.Link(tmp, name)
	if errors.Is(err, fs.ErrExist) {
		return ErrExists
	}
	if err != nil { // a file system without hard links
		if _, serr := os.Lstat(name); serr == nil {
			return ErrExists
		}
		return os.Rename(tmp, name)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, fs.ErrInvalid) && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return nil
}

func sealKey(content []byte, passphrase string, work int) ([]byte, error) {
	r, err := age.NewScryptRecipient(passphrase)
	if err != nil {
		return nil, err
	}
	r.SetWorkFactor(work)
	var out bytes.Buffer
	w, err := age.Encrypt(&out, r)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(content); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func readKeyFile(dir, passphrase string) (*secrets, error) {
	b, err := readSmall(filepath.Join(dir, clearKeyFile))
	if err == nil {
		return parseSecrets(b)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("key file: %w", err)
	}
	b, err = readSmall(filepath.Join(dir, keyFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNoAccount
	}
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	if passphrase == "" {
		return nil, ErrNeedPassphrase
	}
	identity, err := age.NewScryptIdentity(passphrase)
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	identity.SetMaxWorkFactor(maxWorkFactor)
	r, err := age.Decrypt(bytes.NewReader(b), identity)
	if _, ok := errors.AsType[*age.NoIdentityMatchError](err); ok {
		return nil, ErrPassphrase
	}
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	content, err := io.ReadAll(io.LimitReader(r, maxKeyFile))
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	return parseSecrets(content)
}

func readSmall(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err == nil && len(b) > maxKeyFile {
		err = errors.New("too large")
	}
	return b, err
}

// Exists reports whether dir holds an account.
func Exists(dir string) bool {
	for _, name := range []string{keyFile, clearKeyFile} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return true
		}
	}
	return false
}

// NeedsPassphrase reports whether the account in dir is opened with a passphrase.
func NeedsPassphrase(dir string) (bool, error) {
	if _, err := os.Stat(filepath.Join(dir, clearKeyFile)); err == nil {
		return false, nil
	}
	if _, err := os.Stat(filepath.Join(dir, keyFile)); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return false, ErrNoAccount
		}
		return false, err
	}
	return true, nil
}
