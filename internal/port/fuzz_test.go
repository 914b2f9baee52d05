package port_test

import (
	"bytes"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asmtp/asmtp/internal/port"
)

// FuzzUnpackCertificate: what is taken packs to the same bytes.
func FuzzUnpackCertificate(f *testing.F) {
	e := newEnv(f)
	f.Add(e.certificate(f, e.node, port.CertificateSpace))
	f.Add(e.certificate(f, e.stranger, port.ReplyCertificateSpace))
	f.Add([]byte{0, 3, 1, 2, 3})
	f.Add([]byte{0, 3, 1, 2})
	f.Fuzz(func(t *testing.T, payload []byte) {
		cert, err := port.UnpackCertificate(payload)
		if err != nil {
			return
		}
		again, err := port.PackCertificate(cert, len(payload))
		if err != nil || !bytes.Equal(again, payload) {
			t.Errorf("%x was taken and packs to %x, %v", payload, again, err)
		}
	})
}

// FuzzPort: whatever comes first on a connection, nothing is answered, and it ends
// when its hold does. Each input has a port and a false clock of its own.
func FuzzPort(f *testing.F) {
	e := newEnv(f)
	o := e.options(f)
	o.OnRefuse = nil
	f.Add([]byte(nil))
	for _, p := range e.probes(f, nil) {
		if len(p.bytes) < 2000 {
			f.Add(p.bytes)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		synctest.Test(t, func(t *testing.T) {
			ln := newMemory()
			_, stop := run(t, ln, o)
			defer stop()
			c, err := ln.dial("192.0.2.1:1")
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			begin := time.Now()
			go c.Write(b)
			answer, err := io.ReadAll(c)
			if err != nil || len(answer) > 0 {
				t.Errorf("%x got the answer %x, %v", b, answer, err)
			}
			if took := time.Since(begin); took < 5*time.Second || took > 10*time.Second {
				t.Errorf("%x was held for %v", b, took)
			}
		})
	})
}
