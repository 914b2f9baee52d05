package bridge

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/asmtp/asmtp/internal/durable"
)

// The files of the certificate that the bridge makes for itself, in the account's folder.
const (
	CertificateFile    = "bridge-cert.pem"
	certificateKeyFile = "bridge-key.pem"
	certificateYears   = 10
)

// OwnCertificate returns the certificate in dir that mail programs know this bridge by. It
// makes what is missing: a mail program is told once to trust it, so it stays for ten
// years. hosts are names and addresses under which the bridge is reached, besides those
// of this machine; they are only in a certificate that is made now.
func OwnCertificate(dir string, hosts []string, now time.Time) (tls.Certificate, error) {
	key, err := certificateKey(filepath.Join(dir, certificateKeyFile))
	if err != nil {
		return tls.Certificate{}, err
	}
	path := filepath.Join(dir, CertificateFile)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if err := makeCertificate(path, key, hosts, now); err != nil {
			return tls.Certificate{}, err
		}
	}
	return LoadCertificate(path, filepath.Join(dir, certificateKeyFile))
}

// LoadCertificate reads a certificate and its key from PEM files.
func LoadCertificate(cert, key string) (tls.Certificate, error) {
	c, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return c, fmt.Errorf("certificate %s with key %s: %w", cert, key, err)
	}
	return c, nil
}

// ServerTLS is what a bridge with that certificate takes as Options.TLS.
//
// There are no session tickets. In TLS 1.3 they follow the handshake, so that a program
// finds something to read before it has asked anything; in those that read and write a
// connection in two threads (Python's imaplib2, and with it OfflineIMAP) some of the first
// commands then get lost. On this machine a full handshake takes a millisecond.
func ServerTLS(c tls.Certificate) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{c}, MinVersion: tls.VersionTLS12, SessionTicketsDisabled: true}
}

// Fingerprint is the SHA-256 of a certificate as mail programs show it.
func Fingerprint(c tls.Certificate) string {
	sum := sha256.Sum256(c.Certificate[0])
	pairs := make([]string, len(sum))
	for i, b := range sum {
		pairs[i] = fmt.Sprintf("%02X", b)
	}
	return strings.Join(pairs, ":")
}

func certificateKey(path string) (*ecdsa.PrivateKey, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeCertificateKey(path); err != nil {
			return nil, fmt.Errorf("make the key of the certificate: %w", err)
		}
		b, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, fmt.Errorf("read the key of the certificate: %w", err)
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("%s holds no key in PEM form", path)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s holds no key that can be used", path)
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s holds a key of another kind than this program makes", path)
	}
	return ec, nil
}

// makeCertificateKey leaves the key of another process that was faster.
func makeCertificateKey(path string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return leaveOther(durable.WriteNew(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
}

func leaveOther(err error) error {
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

func makeCertificate(path string, key *ecdsa.PrivateKey, hosts []string, now time.Time) error {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return err
	}
	t := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "asmtp bridge"},
		// The clock may be wrong today and right tomorrow.
		NotBefore: now.AddDate(0, 0, -2), NotAfter: now.AddDate(certificateYears, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		// No authority: who trusts it trusts this bridge only.
		BasicConstraintsValid: true,
		DNSNames:              []string{"localhost"},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1).To4(), net.IPv6loopback},
	}
	if name, err := os.Hostname(); err == nil && name != "" && name != "localhost" {
		hosts = append([]string{name}, hosts...)
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip == nil && h != "" {
			t.DNSNames = append(t.DNSNames, h)
		} else if ip != nil && !ip.IsUnspecified() && !ip.IsLoopback() {
			t.IPAddresses = append(t.IPAddresses, ip)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return fmt.Errorf("make a certificate: %w", err)
	}
	if err := leaveOther(durable.WriteNew(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))); err != nil {
		return fmt.Errorf("make a certificate: %w", err)
	}
	return nil
}
