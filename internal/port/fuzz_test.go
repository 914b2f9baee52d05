package port_test

import (
	"bytes"
	"io"
	"net"
	"testing"
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

// FuzzPort: whatever comes first on a connection, nothing is answered.
func FuzzPort(f *testing.F) {
	e, ln := newEnv(f), newMemory()
	o := e.options(f)
	o.OnRefuse = nil
	o.HoldMin, o.HoldMax = 2*time.Millisecond, 3*time.Millisecond
	run(f, ln, o)
	f.Add([]byte(nil))
	for _, p := range e.probes(f, nil) {
		if len(p.bytes) < 2000 {
			f.Add(p.bytes)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var c net.Conn
		c, err := ln.dial("192.0.2.1:1")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(10 * time.Second))
		sent := make(chan struct{})
		go func() { c.Write(b); close(sent) }()
		answer, err := io.ReadAll(c)
		if err != nil || len(answer) > 0 {
			t.Errorf("%x got the answer %x, %v", b, answer, err)
		}
		<-sent
	})
}
