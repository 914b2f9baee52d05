package bridge

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"testing"
	"time"
)

// The certificate is made once, for ten years, for this machine and nobody else's key, and
// a program that trusts the file gets to the bridge.
func TestOwnCertificateStays(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	c, err := OwnCertificate(dir, []string{"mail.example", "192.0.2.7", "0.0.0.0"}, now)
	if err != nil {
		t.Fatal(err)
	}
	again, err := OwnCertificate(dir, nil, now.AddDate(1, 0, 0))
	if err != nil || Fingerprint(again) != Fingerprint(c) {
		t.Fatalf("another certificate the second time: %v", err)
	}
	if f := Fingerprint(c); !regexp.MustCompile(`^([0-9A-F]{2}:){31}[0-9A-F]{2}$`).MatchString(f) {
		t.Errorf("fingerprint %q", f)
	}
	for _, name := range []string{CertificateFile, certificateKeyFile} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	if key, ok := c.Leaf.PublicKey.(*ecdsa.PublicKey); !ok || key.Curve != elliptic.P256() {
		t.Errorf("the key is a %T", c.Leaf.PublicKey)
	}
	pool := x509.NewCertPool()
	pemFile, err := os.ReadFile(filepath.Join(dir, CertificateFile))
	if err != nil || !pool.AppendCertsFromPEM(pemFile) {
		t.Fatal(err)
	}
	for _, host := range []string{"localhost", "127.0.0.1", "::1", "mail.example", "192.0.2.7"} {
		if _, err := c.Leaf.Verify(x509.VerifyOptions{DNSName: host, Roots: pool, CurrentTime: now.AddDate(9, 11, 0)}); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
	if c.Leaf.IsCA {
		t.Error("it can vouch for others")
	}
}

// A certificate that is lost comes back with the same key; a broken key is no reason to
// make another.
func TestOwnCertificateFiles(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	c, err := OwnCertificate(dir, nil, now)
	if err != nil {
		t.Fatal(err)
	}
	os.Remove(filepath.Join(dir, CertificateFile))
	again, err := OwnCertificate(dir, nil, now)
	if err != nil || !c.Leaf.PublicKey.(*ecdsa.PublicKey).Equal(again.Leaf.PublicKey) {
		t.Errorf("without the certificate: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, certificateKeyFile), []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OwnCertificate(dir, nil, now); err == nil {
		t.Error("a broken key was replaced")
	}
}

// Two bridges that start at once have the same certificate.
func TestOwnCertificateAtOnce(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	certs := make([]tls.Certificate, 8)
	for i := range certs {
		wg.Go(func() {
			var err error
			if certs[i], err = OwnCertificate(dir, nil, time.Now()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, c := range certs {
		if !t.Failed() && Fingerprint(c) != Fingerprint(certs[0]) {
			t.Error("they differ")
		}
	}
}

// ticketCache fails the test when the server hands out something for a later session.
type ticketCache struct{ t *testing.T }

func (c ticketCache) Get(string) (*tls.ClientSessionState, bool) { return nil, false }

func (c ticketCache) Put(_ string, s *tls.ClientSessionState) {
	if s != nil {
		c.t.Error("a session ticket")
	}
}

// After the handshake nothing comes that the program has not asked for.
func TestNoSessionTickets(t *testing.T) {
	c, err := OwnCertificate(t.TempDir(), nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	there, here := net.Pipe()
	defer here.Close()
	go func() {
		defer there.Close()
		tls.Server(there, ServerTLS(c)).Write([]byte("x")) // the other side reads and says what is wrong
	}()
	client := tls.Client(here, &tls.Config{InsecureSkipVerify: true, ServerName: "localhost", ClientSessionCache: ticketCache{t}})
	if n, err := client.Read(make([]byte, 1)); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	if v := client.ConnectionState().Version; v != tls.VersionTLS13 {
		t.Errorf("TLS version %x", v)
	}
}
