package backup

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"
)

const (
	// workFactor is the base-2 logarithm of scrypt's N for a backup's password: about a
	// second and 256 MiB for each guess.
	workFactor = 18
	// maxWorkFactor bounds the work that a file put in our place can demand.
	maxWorkFactor = 20
	// maxHeader bounds the header of the age file: hundreds of recipients.
	maxHeader = 64 << 10
)

// Lock says who can open a backup: make one with [Password] or [Recipients].
type Lock struct{ recipients []age.Recipient }

// Key opens backups: make one with [OpenPassword] or [Identities].
type Key struct {
	identities []age.Identity
	password   bool
}

// Password locks with a password.
func Password(password string) (Lock, error) { return passwordLock(password, workFactor) }

func passwordLock(password string, work int) (Lock, error) {
	r, err := age.NewScryptRecipient(password)
	if err != nil {
		return Lock{}, fmt.Errorf("password of the backup: %w", err)
	}
	r.SetWorkFactor(work)
	return Lock{[]age.Recipient{r}}, nil
}

// Recipients locks to age recipients, such as age1….
func Recipients(texts []string) (Lock, error) {
	var l Lock
	for _, text := range texts {
		r, err := age.ParseRecipients(strings.NewReader(text))
		if err != nil {
			return Lock{}, fmt.Errorf("recipient %.20q: %w", text, err)
		}
		l.recipients = append(l.recipients, r...)
	}
	return l, nil
}

// OpenPassword opens backups with a password.
func OpenPassword(password string) (Key, error) {
	id, err := age.NewScryptIdentity(password)
	if err != nil {
		return Key{}, fmt.Errorf("password of the backup: %w", err)
	}
	id.SetMaxWorkFactor(maxWorkFactor)
	return Key{identities: []age.Identity{id}, password: true}, nil
}

// Identities opens backups with the identities of a file as age-keygen writes it.
func Identities(r io.Reader) (Key, error) {
	ids, err := age.ParseIdentities(io.LimitReader(r, maxFile))
	if err != nil {
		return Key{}, fmt.Errorf("read the identities: %w", err) // age does not repeat what it read
	}
	return Key{identities: ids}, nil
}

// decrypt returns what is sealed in r. Errors of the returned reader wrap ErrDamaged.
func (k Key) decrypt(r io.Reader) (io.Reader, error) {
	b := bufio.NewReaderSize(r, maxHeader)
	// age reads a header of any length into memory; one without an end in sight is refused.
	head, err := b.Peek(maxHeader)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if !bytes.HasPrefix(head, []byte("age-encryption.org/")) || !bytes.Contains(head, []byte("\n---")) {
		return nil, fmt.Errorf("%w: no age file", ErrNotBackup)
	}
	plain, err := age.Decrypt(b, k.identities...)
	if e, ok := errors.AsType[*age.NoIdentityMatchError](err); ok {
		return nil, k.mismatch(e.StanzaTypes)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return damagedReader{plain}, nil
}

// mismatch says why k does not open a file.
func (k Key) mismatch(stanzas []string) error {
	sealedByPassword := len(stanzas) == 1 && stanzas[0] == "scrypt"
	switch {
	case k.password && !sealedByPassword:
		return ErrNeedIdentity
	case !k.password && sealedByPassword:
		return ErrNeedPassword
	case k.password:
		return ErrPassword
	}
	return ErrIdentity
}

// damagedReader names the cause of what fails below.
type damagedReader struct{ r io.Reader }

func (d damagedReader) Read(p []byte) (int, error) {
	n, err := d.r.Read(p)
	if err != nil && err != io.EOF {
		err = fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return n, err
}
