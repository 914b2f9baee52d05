package control_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/asmtp/asmtp/internal/control"
	"github.com/asmtp/asmtp/mesh"
	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// node stands for a node: it answers from its fields and notes what it was asked.
type node struct {
	status  control.Status
	users   control.Users
	peers   []control.Peer
	members []control.Member
	fail    error
	events  []control.VerifyEvent
	backup  []byte
	hold    chan struct{} // if not nil, Status waits for it or its context
	held    chan struct{}

	asked []any
}

func (n *node) note(args ...any) error {
	n.asked = append(n.asked, args...)
	return n.fail
}

func (n *node) Status(ctx context.Context) (*control.Status, error) {
	if n.hold != nil {
		close(n.held)
		select {
		case <-n.hold:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return &n.status, n.fail
}
func (n *node) UserList(context.Context) (*control.Users, error) { return &n.users, n.fail }
func (n *node) UserAdd(_ context.Context, u control.UserName) (bool, error) {
	return true, n.note("add", u)
}
func (n *node) UserRemove(_ context.Context, u control.UserName) error { return n.note("remove", u) }
func (n *node) UserReset(_ context.Context, k noise.PublicKey) error   { return n.note("reset", k) }
func (n *node) UserInvite(_ context.Context, o control.Invite) (string, error) {
	return "asmtp-user1abc", n.note("invite user", o)
}
func (n *node) PeerList(context.Context) ([]control.Peer, error) { return n.peers, n.fail }
func (n *node) PeerAdd(_ context.Context, id noise.PublicKey, a []string) error {
	return n.note("peer", id, a)
}
func (n *node) MeshInvite(_ context.Context, o control.Invite) (string, error) {
	return "asmtp-mesh1abc", n.note("invite node", o)
}
func (n *node) MeshMembers(context.Context) ([]control.Member, error) { return n.members, n.fail }
func (n *node) Join(_ context.Context, line string) error             { return n.note("join", line) }

func (n *node) StoreVerify(_ context.Context, report func(control.VerifyEvent) error) error {
	for _, e := range n.events {
		if err := report(e); err != nil {
			return err
		}
	}
	return n.fail
}
func (n *node) StoreBackup(_ context.Context, w io.Writer) error {
	if _, err := w.Write(n.backup); err != nil {
		return err
	}
	return n.fail
}

func newKey(t testing.TB, b byte) noise.PublicKey {
	t.Helper()
	k, err := noise.NewPrivateKey([]byte(strings.Repeat(string(rune('a'+b)), noise.KeySize)))
	if err != nil {
		t.Fatal(err)
	}
	return k.Public()
}

// serve runs n on the folder dir until the test ends.
func serve(t *testing.T, dir string, n control.Backend) {
	t.Helper()
	ln, err := control.Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- control.Serve(ctx, ln, n, control.ServerOptions{}) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func dial(t *testing.T, dir string) *control.Client {
	t.Helper()
	c, err := control.Dial(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestEveryCallArrivesAndItsAnswerReturns(t *testing.T) {
	key, id := newKey(t, 1), passport.ID{1, 2}
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	peers := []control.Peer{{ID: key, Addresses: []string{"a.example:9800"}, Connected: true, Since: now, Version: "1"}}
	n := &node{
		status: control.Status{ID: newKey(t, 2), Version: "v", Started: now, Listen: "127.0.0.1:9800", Public: []string{"b.example:1"},
			Mesh: mesh.ID{7}, Members: 3, Peers: peers, Envelopes: 5, Bytes: 6, Users: 1, TagKeys: 8, Generation: 1<<64 - 1},
		users: control.Users{
			Users:   []control.User{{Name: control.PassportName(id), Source: control.SourceFile, Passport: id, Keys: []noise.PublicKey{key}}},
			Knocked: []control.Knock{{Key: key, Address: "192.0.2.1:5", Time: now, Reason: "not listed"}},
		},
		peers:   peers,
		members: []control.Member{{ID: key, Until: now, Self: true}},
	}
	dir := t.TempDir()
	serve(t, dir, n)
	c, ctx := dial(t, dir), t.Context()

	equal := func(what string, got any, err error, want any) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", what, err)
		} else if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, want %+v", what, got, want)
		}
	}
	status, err := c.Status(ctx)
	equal("status", status, err, &n.status)
	users, err := c.UserList(ctx)
	equal("users", users, err, &n.users)
	gotPeers, err := c.PeerList(ctx)
	equal("peers", gotPeers, err, n.peers)
	members, err := c.MeshMembers(ctx)
	equal("members", members, err, n.members)
	added, err := c.UserAdd(ctx, control.PassportName(id))
	equal("add", added, err, true)
	equal("remove", nil, c.UserRemove(ctx, control.KeyName(key)), nil)
	equal("reset", nil, c.UserReset(ctx, key), nil)
	line, err := c.UserInvite(ctx, control.Invite{})
	equal("invite user", line, err, "asmtp-user1abc")
	line, err = c.MeshInvite(ctx, control.Invite{Uses: 3, Days: 30})
	equal("invite node", line, err, "asmtp-mesh1abc")
	equal("add peer", nil, c.PeerAdd(ctx, key, []string{"[::1]:9800"}), nil)
	equal("join", nil, c.Join(ctx, "asmtp-mesh1xyz"), nil)
	nodeKey, listen, err := c.Admit(ctx, key)
	equal("admit", []any{nodeKey, listen}, err, []any{n.status.ID, n.status.Listen})

	equal("what the node was asked", n.asked, nil, []any{
		"add", control.PassportName(id), "remove", control.KeyName(key), "reset", key,
		"invite user", control.Invite{Uses: 1, Days: 7}, "invite node", control.Invite{Uses: 3, Days: 30},
		"peer", key, []string{"[::1]:9800"}, "join", "asmtp-mesh1xyz", "add", control.KeyName(key),
	})
}

func TestErrorsOfTheNodeReachTheCallerAsTheirKind(t *testing.T) {
	n := &node{}
	dir := t.TempDir()
	serve(t, dir, n)
	c := dial(t, dir)
	for _, kind := range []error{control.ErrDenied, control.ErrInvalid, control.ErrNotFound, control.ErrConflict, control.ErrUnreachable} {
		n.fail = errors.Join(errors.New("some words"), kind)
		err := c.Join(t.Context(), "line")
		if !errors.Is(err, kind) || !strings.Contains(err.Error(), "some words") {
			t.Errorf("got %v, want %v with the node's words", err, kind)
		}
	}
	n.fail = errors.New("disk on fire")
	err := c.Join(t.Context(), "line")
	if e, ok := errors.AsType[*control.Error](err); !ok || e.Code != "internal" || e.Message != "disk on fire" {
		t.Errorf("got %#v", err)
	}
}

func TestRequestsThatMakeNoSenseDoNotReachTheNode(t *testing.T) {
	n := &node{}
	dir := t.TempDir()
	serve(t, dir, n)
	c, ctx := dial(t, dir), t.Context()
	_, badUser := c.UserAdd(ctx, "bob")
	_, zeroKey := c.UserAdd(ctx, control.KeyName(noise.PublicKey{}))
	_, uses := c.UserInvite(ctx, control.Invite{Uses: -1})
	_, days := c.MeshInvite(ctx, control.Invite{Days: 4000})
	for name, err := range map[string]error{
		"no key": badUser, "key of no point": zeroKey, "uses": uses, "days": days,
		"no address":  c.PeerAdd(ctx, newKey(t, 1), nil),
		"no port":     c.PeerAdd(ctx, newKey(t, 1), []string{"host"}),
		"bad peer":    c.PeerAdd(ctx, noise.PublicKey{}, []string{"host:1"}),
		"no line":     c.Join(ctx, ""),
		"line of MiB": c.Join(ctx, strings.Repeat("x", 1<<20)),
	} {
		if !errors.Is(err, control.ErrInvalid) {
			t.Errorf("%s: got %v, want %v", name, err, control.ErrInvalid)
		}
	}
	if len(n.asked) != 0 {
		t.Errorf("the node was asked %v", n.asked)
	}
}

func TestNoNodeIsNamedAsSuch(t *testing.T) {
	dir := t.TempDir()
	stale := t.TempDir()
	leaveSocket(t, stale)
	for name, dir := range map[string]string{"no folder": filepath.Join(dir, "none"), "no socket": dir, "left socket": stale} {
		_, err := control.Dial(dir)
		e, ok := errors.AsType[*control.NotRunningError](err)
		if !ok || !errors.Is(err, control.ErrNotRunning) || e.Dir != dir {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestNodeThatEndsBetweenTwoCallsIsNamedAsSuch(t *testing.T) {
	dir := t.TempDir()
	ln, err := control.Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- control.Serve(ctx, ln, &node{}, control.ServerOptions{}) }()
	c := dial(t, dir)
	if _, err := c.PeerList(t.Context()); err != nil {
		t.Fatal(err)
	}
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if _, err := c.PeerList(t.Context()); !errors.Is(err, control.ErrNotRunning) {
		t.Errorf("got %v, want %v", err, control.ErrNotRunning)
	}
	if _, err := os.Lstat(filepath.Join(dir, control.SocketName)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
}

// hangUp closes the first connection as soon as it comes.
type hangUp struct {
	net.Listener
	hung bool
}

func (l *hangUp) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil && !l.hung {
		l.hung = true
		c.Close()
		return l.Listener.Accept()
	}
	return c, err
}

// A node hangs up on who says nothing for long; a client that waits before its first call,
// such as one that asks for a password, is answered all the same.
func TestFirstCallMayComeLate(t *testing.T) {
	dir := t.TempDir()
	ln, err := control.Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- control.Serve(ctx, &hangUp{Listener: ln}, &node{}, control.ServerOptions{}) }()
	if _, err := dial(t, dir).PeerList(t.Context()); err != nil {
		t.Error(err)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// leaveSocket leaves in dir what a killed node leaves.
func leaveSocket(t *testing.T, dir string) {
	t.Helper()
	ln, err := net.Listen("unix", filepath.Join(dir, control.SocketName))
	if err != nil {
		t.Fatal(err)
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false)
	ln.Close()
}

func TestSocketOfAKilledNodeIsReplaced(t *testing.T) {
	dir := t.TempDir()
	leaveSocket(t, dir)
	serve(t, dir, &node{})
	if _, err := dial(t, dir).PeerList(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestFolderOfALiveNodeIsRefused(t *testing.T) {
	dir := t.TempDir()
	serve(t, dir, &node{})
	if _, err := control.Listen(dir); !errors.Is(err, control.ErrRunning) || !strings.Contains(err.Error(), dir) {
		t.Errorf("got %v, want %v with the folder", err, control.ErrRunning)
	}
	if _, err := dial(t, dir).PeerList(t.Context()); err != nil {
		t.Errorf("the live node was disturbed: %v", err)
	}
}

func TestFileInTheSocketsPlaceIsNotRemoved(t *testing.T) {
	path := filepath.Join(t.TempDir(), control.SocketName)
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := control.Listen(filepath.Dir(path)); err == nil {
		t.Error("no error")
	}
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
}

func TestFolderIsFreeAgainAfterClose(t *testing.T) {
	dir := t.TempDir()
	for range 2 {
		ln, err := control.Listen(dir)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(filepath.Join(dir, control.SocketName))
		if err != nil {
			t.Fatal(err)
		}
		if mode := info.Mode().Perm(); mode != 0o600 {
			t.Errorf("the socket has mode %v", mode)
		}
		if err := ln.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestLongPaths(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long/", 40))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	serve(t, dir, &node{})
	if _, err := dial(t, dir).PeerList(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestCallUnderWayEndsWithTheNode(t *testing.T) {
	n := &node{hold: make(chan struct{}), held: make(chan struct{})}
	dir := t.TempDir()
	ln, err := control.Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- control.Serve(ctx, ln, n, control.ServerOptions{}) }()
	asked := make(chan error, 1)
	go func() {
		c, err := control.Dial(dir)
		if err == nil {
			defer c.Close()
			_, err = c.Status(t.Context())
		}
		asked <- err
	}()
	<-n.held
	stop()
	if err := <-asked; err == nil {
		t.Error("the call succeeded")
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Whatever comes in, the node does not fail by it, and no request that is refused has an effect.
func FuzzRequest(f *testing.F) {
	for path, body := range map[string]string{
		"/v1/users/add":    `{"name":"00112233445566778899aabbccddeeff"}`,
		"/v1/users/invite": `{"uses":1,"days":2}`,
		"/v1/mesh/join":    `{"line":"asmtp-mesh1"} {}`,
		"/v1/peers/add":    `{"id":"ff","addresses":["a:1"]}`,
		"/v2/none":         `[`,
	} {
		f.Add(path, body)
	}
	f.Fuzz(func(t *testing.T, path, body string) {
		n := &node{}
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
		r.URL.Path = path
		w := httptest.NewRecorder()
		control.Handler(n).ServeHTTP(w, r)
		if w.Code >= 500 {
			t.Errorf("status %d: %s", w.Code, w.Body)
		}
		if w.Code != http.StatusOK && len(n.asked) > 0 {
			t.Errorf("refused with %d, and yet asked %v", w.Code, n.asked)
		}
	})
}
