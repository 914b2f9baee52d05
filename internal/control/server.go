package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/asmtp/asmtp/noise"
)

// Limits of one request and of the connection it comes on.
const (
	maxRequest  = 64 << 10
	maxHeaders  = 8 << 10
	readTimeout = 10 * time.Second
	idleTimeout = time.Minute
)

// ServerOptions are the options of [Serve].
type ServerOptions struct {
	Log *slog.Logger // nil discards
}

// Serve answers requests on ln until ctx is done, then gives those under way a
// moment and closes ln. It returns nil unless ln failed before that.
func Serve(ctx context.Context, ln net.Listener, b Backend, o ServerOptions) error {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	server := &http.Server{
		Handler:           onlyOwner(newHandler(b, o.Log), o.Log),
		ConnContext:       noteUID,
		ReadHeaderTimeout: readTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaders,
		ErrorLog:          slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(ln) }()
	select {
	case err := <-failed:
		server.Close()
		return fmt.Errorf("serve the control socket: %w", err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if server.Shutdown(grace) != nil {
		server.Close()
	}
	<-failed
	return nil
}

// Handler returns what [Serve] answers with, without the check of the peer's uid.
// It is there for tests that have no socket.
func Handler(b Backend) http.Handler { return newHandler(b, slog.New(slog.DiscardHandler)) }

type uidKey struct{}

// noteUID keeps the peer's uid with a connection; it is absent if the system does
// not tell it.
func noteUID(ctx context.Context, c net.Conn) context.Context {
	unixConn, ok := c.(*net.UnixConn)
	if !ok {
		return ctx
	}
	uid, err := peerUID(unixConn)
	if err != nil {
		return ctx
	}
	return context.WithValue(ctx, uidKey{}, uid)
}

// onlyOwner lets the user of this process and root through.
func onlyOwner(next http.Handler, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		uid, known := r.Context().Value(uidKey{}).(int)
		if !known || !mayControl(uid, os.Geteuid()) {
			log.Warn("control socket: refused", "uid", uid, "known", known)
			writeError(w, fmt.Errorf("%w: the node belongs to another user of this machine", ErrDenied))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// mayControl reports whether a peer may control a node that runs as own.
func mayControl(peer, own int) bool { return peer == 0 || peer == own }

func newHandler(b Backend, log *slog.Logger) http.Handler {
	s := &server{Backend: b, log: log}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", answer(s, func(ctx context.Context, _ empty) (*Status, error) { return b.Status(ctx) }))
	mux.HandleFunc("GET /v1/users", answer(s, func(ctx context.Context, _ empty) (*Users, error) { return b.UserList(ctx) }))
	mux.HandleFunc("POST /v1/users/add", answer(s, s.addUser))
	mux.HandleFunc("POST /v1/users/remove", answer(s, s.removeUser))
	mux.HandleFunc("POST /v1/users/reset", answer(s, s.resetUser))
	mux.HandleFunc("POST /v1/users/invite", answer(s, s.inviteUser))
	mux.HandleFunc("GET /v1/peers", answer(s, func(ctx context.Context, _ empty) ([]Peer, error) { return b.PeerList(ctx) }))
	mux.HandleFunc("POST /v1/peers/add", answer(s, s.addPeer))
	mux.HandleFunc("GET /v1/mesh/members", answer(s, func(ctx context.Context, _ empty) ([]Member, error) { return b.MeshMembers(ctx) }))
	mux.HandleFunc("POST /v1/mesh/invite", answer(s, s.inviteNode))
	mux.HandleFunc("POST /v1/mesh/join", answer(s, s.join))
	mux.HandleFunc("POST /v1/store/verify", stream(s, "application/x-ndjson", s.verify))
	mux.HandleFunc("POST /v1/store/backup", stream(s, "application/octet-stream", b.StoreBackup))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeError(w, fmt.Errorf("%w: this node has no %s %.100q; is it of another version than the command?", ErrInvalid, r.Method, r.URL.Path))
	})
	return mux
}

// server holds the methods that check a request before the backend sees it.
type server struct {
	Backend
	log *slog.Logger
}

type (
	empty       struct{}
	userRequest struct {
		Name string `json:"name"`
	}
	addedAnswer struct {
		Added bool `json:"added"`
	}
	lineAnswer struct {
		Line string `json:"line"`
	}
	peerRequest struct {
		ID        noise.PublicKey `json:"id"`
		Addresses []string        `json:"addresses"`
	}
	joinRequest struct {
		Line string `json:"line"`
	}
)

func (s *server) addUser(ctx context.Context, r userRequest) (addedAnswer, error) {
	name, err := ParseUserName(r.Name)
	if err != nil {
		return addedAnswer{}, err
	}
	added, err := s.UserAdd(ctx, name)
	return addedAnswer{added}, err
}

func (s *server) removeUser(ctx context.Context, r userRequest) (empty, error) {
	name, err := ParseUserName(r.Name)
	if err != nil {
		return empty{}, err
	}
	return empty{}, s.UserRemove(ctx, name)
}

func (s *server) resetUser(ctx context.Context, r userRequest) (empty, error) {
	name, err := ParseUserName(r.Name)
	if err != nil {
		return empty{}, err
	}
	key, ok := name.Key()
	if !ok {
		return empty{}, fmt.Errorf("%w: this is done for a key, not for a passport", ErrInvalid)
	}
	return empty{}, s.UserReset(ctx, key)
}

func (s *server) inviteUser(ctx context.Context, r Invite) (lineAnswer, error) {
	return invite(ctx, r, s.UserInvite)
}

func (s *server) inviteNode(ctx context.Context, r Invite) (lineAnswer, error) {
	return invite(ctx, r, s.MeshInvite)
}

func invite(ctx context.Context, r Invite, do func(context.Context, Invite) (string, error)) (lineAnswer, error) {
	r, err := r.check()
	if err != nil {
		return lineAnswer{}, err
	}
	line, err := do(ctx, r)
	return lineAnswer{line}, err
}

// maxAddresses is how many addresses one peer may be given.
const maxAddresses = 16

func (s *server) addPeer(ctx context.Context, r peerRequest) (empty, error) {
	if err := r.ID.Check(); err != nil {
		return empty{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if len(r.Addresses) == 0 || len(r.Addresses) > maxAddresses {
		return empty{}, fmt.Errorf("%w: give 1 to %d addresses", ErrInvalid, maxAddresses)
	}
	for _, a := range r.Addresses {
		if host, port, err := net.SplitHostPort(a); err != nil || host == "" || port == "" {
			return empty{}, fmt.Errorf("%w: %.100q is no HOST:PORT", ErrInvalid, a)
		}
	}
	return empty{}, s.PeerAdd(ctx, r.ID, r.Addresses)
}

func (s *server) join(ctx context.Context, r joinRequest) (empty, error) {
	if r.Line == "" {
		return empty{}, fmt.Errorf("%w: no invitation", ErrInvalid)
	}
	return empty{}, s.Join(ctx, r.Line)
}

// answer makes a handler of a function from a request's JSON to an answer's.
func answer[Request, Answer any](s *server, do func(context.Context, Request) (Answer, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var request Request
		if r.Method != http.MethodGet {
			if err := readBody(w, r, &request); err != nil {
				writeError(w, fmt.Errorf("%w: %w", ErrInvalid, err))
				return
			}
		}
		result, err := do(r.Context(), request)
		if err != nil {
			s.log.Info("control: failed", "request", r.URL.Path, "err", err)
			writeError(w, err)
			return
		}
		writeJSON(w, http.StatusOK, result)
	}
}

// readBody reads a request within the limits. Its deadline is for the reading only:
// http.Server's own would also end a request that takes long to answer.
func readBody(w http.ResponseWriter, r *http.Request, v any) error {
	c := http.NewResponseController(w)
	// Not every writer has deadlines; that of a test has none.
	if c.SetReadDeadline(time.Now().Add(readTimeout)) == nil {
		defer c.SetReadDeadline(time.Time{})
	}
	return decode(http.MaxBytesReader(w, r.Body, maxRequest), v)
}

// decode reads one JSON document of known fields and nothing after it.
func decode(r io.Reader, v any) error {
	d := json.NewDecoder(r)
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("read the request: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("read the request: more than one document")
	}
	return nil
}

type errorAnswer struct {
	Code  string `json:"code"`
	Error string `json:"error"`
}

func writeError(w http.ResponseWriter, err error) {
	code, status := codeOf(err)
	writeJSON(w, status, errorAnswer{Code: code, Error: err.Error()})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// A client that has gone away is the only cause of an error here.
	_ = json.NewEncoder(w).Encode(v)
}
