package control_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"reflect"
	"strings"
	"testing"

	"github.com/asmtp/asmtp/internal/control"
)

// A check of the store arrives event by event, and how it ended as well.
func TestVerifyStreams(t *testing.T) {
	n := &node{events: []control.VerifyEvent{{Done: 1, Total: 2}, {Problem: "envelope x: gone"}, {Done: 2, Total: 2}}}
	dir := t.TempDir()
	serve(t, dir, n)
	c := dial(t, dir)
	verify := func(stop error) ([]control.VerifyEvent, error) {
		var got []control.VerifyEvent
		err := c.StoreVerify(t.Context(), func(e control.VerifyEvent) error {
			got = append(got, e)
			return stop
		})
		return got, err
	}
	if got, err := verify(nil); err != nil || !reflect.DeepEqual(got, n.events) {
		t.Errorf("got %+v, %v", got, err)
	}
	all := n.events
	n.fail = errors.Join(errors.New("disk on fire"), control.ErrConflict)
	if got, err := verify(nil); !errors.Is(err, control.ErrConflict) || !strings.Contains(err.Error(), "disk on fire") || len(got) != 3 {
		t.Errorf("failed after the last event: %+v, %v", got, err)
	}
	n.events = nil
	if _, err := verify(nil); !errors.Is(err, control.ErrConflict) {
		t.Errorf("failed before the first event: %v", err)
	}
	n.events, n.fail = all, nil
	enough := errors.New("enough")
	if got, err := verify(enough); !errors.Is(err, enough) || len(got) != 1 { // the server may still be at it
		t.Errorf("a report that fails: %+v, %v", got, err)
	}
}

// A backup arrives whole, or with the reason why not.
func TestBackupStreams(t *testing.T) {
	n := &node{backup: bytes.Repeat([]byte("backup"), 1<<20)}
	dir := t.TempDir()
	serve(t, dir, n)
	c := dial(t, dir)
	var got bytes.Buffer
	if err := c.StoreBackup(t.Context(), &got); err != nil || !bytes.Equal(got.Bytes(), n.backup) {
		t.Errorf("%d bytes, %v", got.Len(), err)
	}
	n.fail = errors.New("disk on fire")
	if err := c.StoreBackup(t.Context(), io.Discard); err == nil || !strings.Contains(err.Error(), "disk on fire") {
		t.Errorf("failed at the end: %v", err)
	}
	n.backup = nil
	if err := c.StoreBackup(t.Context(), io.Discard); err == nil || !strings.Contains(err.Error(), "disk on fire") {
		t.Errorf("failed at once: %v", err)
	}
	n.fail = nil
	if err := c.StoreBackup(t.Context(), io.Discard); err != nil {
		t.Errorf("empty: %v", err)
	}
}

// An answer that ends without its trailer is no backup, although HTTP has nothing to say against it.
func TestBackupWithoutItsEndIsRefused(t *testing.T) {
	dir := t.TempDir()
	ln, err := control.Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c := dial(t, dir)
	probe, err := ln.Accept() // that of Dial
	if err != nil {
		t.Fatal(err)
	}
	probe.Close()
	served := make(chan error, 1)
	go func() {
		served <- answerOnce(ln, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
	}()
	if err := c.StoreBackup(t.Context(), io.Discard); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("error %v, want ErrUnexpectedEOF", err)
	}
	c.Close()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// answerOnce reads a little of one request and answers text.
func answerOnce(ln net.Listener, text string) error {
	conn, err := ln.Accept()
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.Read(make([]byte, 4096)); err != nil {
		return err
	}
	_, err = io.WriteString(conn, text)
	return err
}

// Lock keeps a node away, and a node keeps Lock away.
func TestLockKeepsNodesAway(t *testing.T) {
	dir := t.TempDir()
	held, err := control.Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := control.Listen(dir); !errors.Is(err, control.ErrRunning) {
		t.Errorf("Listen: %v, want ErrRunning", err)
	}
	if _, err := control.Dial(dir); !errors.Is(err, control.ErrNotRunning) {
		t.Errorf("Dial: %v, want ErrNotRunning", err)
	}
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
	serve(t, dir, &node{})
	if _, err := control.Lock(dir); !errors.Is(err, control.ErrRunning) {
		t.Errorf("Lock: %v, want ErrRunning", err)
	}
}

// A backup that nobody reads any more ends on the node, too.
func TestBackupEndsWithItsReader(t *testing.T) {
	dir := t.TempDir()
	n := &endless{ended: make(chan error, 1)}
	serve(t, dir, n)
	c := dial(t, dir)
	ctx, cancel := context.WithCancel(t.Context())
	err := c.StoreBackup(ctx, writerFunc(func(b []byte) (int, error) { cancel(); return len(b), nil }))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want Canceled", err)
	}
	if err := <-n.ended; err == nil {
		t.Error("the node's half ended well")
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// endless has a store without an end.
type endless struct {
	node
	ended chan error
}

func (n *endless) StoreBackup(_ context.Context, w io.Writer) error {
	for {
		if _, err := w.Write(make([]byte, 1<<16)); err != nil {
			n.ended <- err
			return err
		}
	}
}
