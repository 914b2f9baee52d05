package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"syscall"

	"github.com/asmtp/asmtp/noise"
)

// maxAnswer is the greatest answer that a client reads: all members, users or peers.
const maxAnswer = 16 << 20

// Client talks to the node of one data folder. It is safe for concurrent use and is
// a [Backend] itself.
type Client struct {
	dir  string
	http *http.Client
}

var _ Backend = (*Client)(nil)

// Dial finds the node that runs on the data folder dir. If none does, the error is a
// [NotRunningError]; if this process may not, it wraps [ErrDenied].
func Dial(dir string) (*Client, error) {
	// Only to see that somebody listens: a node hangs up on who says nothing for long, and
	// the first request may come late. No context, since connecting to a socket of this
	// machine does not wait.
	conn, err := dial(context.Background(), dir)
	if err != nil {
		return nil, err
	}
	conn.Close()
	return &Client{dir: dir, http: &http.Client{Transport: &http.Transport{
		DialContext:     func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx, dir) },
		IdleConnTimeout: idleTimeout / 2,
		MaxIdleConns:    2,
	}}}, nil
}

// Close closes the connections.
func (c *Client) Close() error {
	c.http.CloseIdleConnections()
	return nil
}

func dial(ctx context.Context, dir string) (conn net.Conn, err error) {
	var d net.Dialer
	err = withSocketPath(dir, func(path string) error {
		conn, err = d.DialContext(ctx, "unix", path)
		return err
	})
	switch {
	case err == nil:
		return conn, nil
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("open the control socket of %s: %w: %w", dir, ErrDenied, err)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOTDIR):
		return nil, &NotRunningError{Dir: dir, Cause: err}
	}
	return nil, fmt.Errorf("open the control socket of %s: %w", dir, err)
}

// Status implements [Backend].
func (c *Client) Status(ctx context.Context) (*Status, error) {
	s := new(Status)
	if err := c.call(ctx, http.MethodGet, "status", nil, s); err != nil {
		return nil, err
	}
	return s, nil
}

// UserList implements [Backend].
func (c *Client) UserList(ctx context.Context) (*Users, error) {
	u := new(Users)
	if err := c.call(ctx, http.MethodGet, "users", nil, u); err != nil {
		return nil, err
	}
	return u, nil
}

// UserAdd implements [Backend].
func (c *Client) UserAdd(ctx context.Context, name UserName) (added bool, err error) {
	var a addedAnswer
	err = c.call(ctx, http.MethodPost, "users/add", userRequest{string(name)}, &a)
	return a.Added, err
}

// UserRemove implements [Backend].
func (c *Client) UserRemove(ctx context.Context, name UserName) error {
	return c.call(ctx, http.MethodPost, "users/remove", userRequest{string(name)}, nil)
}

// UserReset implements [Backend].
func (c *Client) UserReset(ctx context.Context, key noise.PublicKey) error {
	return c.call(ctx, http.MethodPost, "users/reset", userRequest{key.String()}, nil)
}

// UserInvite implements [Backend].
func (c *Client) UserInvite(ctx context.Context, o Invite) (line string, err error) {
	var a lineAnswer
	err = c.call(ctx, http.MethodPost, "users/invite", o, &a)
	return a.Line, err
}

// PeerList implements [Backend].
func (c *Client) PeerList(ctx context.Context) (peers []Peer, err error) {
	err = c.call(ctx, http.MethodGet, "peers", nil, &peers)
	return peers, err
}

// PeerAdd implements [Backend].
func (c *Client) PeerAdd(ctx context.Context, id noise.PublicKey, addresses []string) error {
	return c.call(ctx, http.MethodPost, "peers/add", peerRequest{id, addresses}, nil)
}

// MeshInvite implements [Backend].
func (c *Client) MeshInvite(ctx context.Context, o Invite) (line string, err error) {
	var a lineAnswer
	err = c.call(ctx, http.MethodPost, "mesh/invite", o, &a)
	return a.Line, err
}

// MeshMembers implements [Backend].
func (c *Client) MeshMembers(ctx context.Context) (members []Member, err error) {
	err = c.call(ctx, http.MethodGet, "mesh/members", nil, &members)
	return members, err
}

// Join implements [Backend].
func (c *Client) Join(ctx context.Context, line string) error {
	return c.call(ctx, http.MethodPost, "mesh/join", joinRequest{line}, nil)
}

// Admit makes the device with this key a user of the node, and returns where the
// node is. It is what "asmtp-cli connect --local" needs.
func (c *Client) Admit(ctx context.Context, device noise.PublicKey) (node noise.PublicKey, listen string, err error) {
	s, err := c.Status(ctx)
	if err != nil {
		return node, "", err
	}
	if _, err := c.UserAdd(ctx, KeyName(device)); err != nil {
		return node, "", err
	}
	return s.ID, s.Listen, nil
}

// call sends request, unless it is nil, and reads the answer into result, unless
// that is nil.
func (c *Client) call(ctx context.Context, method, path string, request, result any) error {
	response, err := c.send(ctx, method, path, request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if err := read(response, result); err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	return nil
}

// send makes a request. The caller closes the answer's body.
func (c *Client) send(ctx context.Context, method, path string, request any) (*http.Response, error) {
	what := method + " " + path
	var body io.Reader
	if request != nil {
		b, err := json.Marshal(request)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		body = bytes.NewReader(b)
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://node/v1/"+path, body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	response, err := c.http.Do(r)
	if err != nil {
		if e, ok := errors.AsType[*NotRunningError](err); ok {
			return nil, e
		}
		return nil, fmt.Errorf("ask the node on %s: %s: %w", c.dir, what, err)
	}
	return response, nil
}

func read(response *http.Response, result any) error {
	if response.StatusCode != http.StatusOK {
		return failure(response)
	}
	b, err := readAll(response.Body)
	if err != nil || result == nil {
		return err
	}
	if err := json.Unmarshal(b, result); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	return nil
}

func readAll(r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	if len(b) > maxAnswer {
		return nil, fmt.Errorf("read the answer: more than %d bytes", maxAnswer)
	}
	return b, nil
}

// failure returns the error that the node answered.
func failure(response *http.Response) error {
	b, err := readAll(response.Body)
	if err != nil {
		return err
	}
	return parseFailure(b, response.Status)
}

func parseFailure(b []byte, status string) error {
	var e errorAnswer
	if err := json.Unmarshal(b, &e); err != nil || e.Error == "" {
		return fmt.Errorf("the node answered %s", status)
	}
	return &Error{Code: e.Code, Message: e.Error}
}
