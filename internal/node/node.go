// Package node wires a whole node: one data folder, one port, one mesh.
//
// [Open] takes the folder, opens the store and listens; [Node.Run] serves until its
// context is done; [Node.Close] gives everything back. A node that belongs to no mesh yet
// founds one for itself, and may leave that for another as long as it is alone in it.
//
// The package decides who is a user (users.go) and how a node gets into a mesh
// (membership.go, join.go), and answers its clients (clients.go) and its operator
// (operator.go). What is spoken on the wire is in p2p, clientapi, control and invite.
package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/asmtp/asmtp/internal/backup"
	"github.com/asmtp/asmtp/internal/clientapi"
	"github.com/asmtp/asmtp/internal/control"
	"github.com/asmtp/asmtp/internal/durable"
	"github.com/asmtp/asmtp/internal/port"
	"github.com/asmtp/asmtp/internal/spool"
	"github.com/asmtp/asmtp/internal/store"
	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/p2p"
)

// Options of a node.
type Options struct {
	Key     *noise.PrivateKey
	Data    string   // the data folder; it is made if it is missing
	Listen  string   // HOST:PORT
	Public  []string // HOST:PORT under which others reach the node; none: by the machine's addresses
	Users   []string // passport ids and device keys of the configuration
	Peers   []Peer   // of the configuration
	Join    string   // an invitation to a mesh; empty: none
	Version string
	Now     func() time.Time
	Log     *slog.Logger

	Config string // the configuration's file, as the status shows it
	// Quotas and Reserve bound what is stored; see package store. 0: the store's defaults.
	LargeQuota, SmallQuota, Reserve int64
}

// store returns the options of the node's store.
func (o Options) store() store.Options {
	return store.Options{
		Log: o.Log, Now: o.Now, DiskReserve: o.Reserve,
		Quotas: store.Quotas{Small: o.SmallQuota, Large: o.LargeQuota},
	}
}

// Peer is another node of the mesh.
type Peer struct {
	ID      string // its key, 64 hex digits
	Address string // HOST:PORT
}

// Node is an open node.
type Node struct {
	o       Options
	now     func() time.Time
	log     *slog.Logger
	started time.Time

	control *control.Listener
	store   *store.Store
	spool   *spool.Spool
	ln      net.Listener
	port    *port.Port
	users   *users
	api     *clientapi.Server

	// What clients wait for.
	usersChanged, passportsChanged, custodyChanged signal

	peers      atomic.Pointer[[]Peer] // of the configuration as it was read last
	membership atomic.Pointer[membership]
	host       atomic.Pointer[p2p.Host] // nil between two memberships
	rejoined   chan struct{}            // capacity 1: the membership has changed
	meshConns  chan net.Conn            // of the port, for the host of the moment

	joining  sync.Mutex // held while this node tries to join
	changing sync.Mutex // held while the membership changes or gets a statement from here

	verifying sync.Mutex // held while the store is checked
}

// storeName is the folder of the database inside the data folder.
const storeName = "store"

// Open takes the data folder and the port. Nothing is served before Run.
func Open(ctx context.Context, o Options) (n *Node, err error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	n = &Node{
		o: o, now: o.Now, log: o.Log, started: o.Now(),
		rejoined: make(chan struct{}, 1), meshConns: make(chan net.Conn),
	}
	n.peers.Store(&o.Peers)
	n.usersChanged.init()
	n.passportsChanged.init()
	n.custodyChanged.init()
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Close())
			n = nil
		}
	}()
	if err := makeFolder(o.Data); err != nil {
		return n, fmt.Errorf("data folder: %w", err)
	}
	if err := backup.Unfinished(o.Data); err != nil {
		return n, err
	}
	if n.control, err = control.Listen(o.Data); err != nil {
		return n, err
	}
	storeOptions := o.store()
	storeOptions.Members = n.countMembers
	if n.store, err = store.Open(filepath.Join(o.Data, storeName), storeOptions); err != nil {
		return n, err
	}
	if err := durable.SyncDir(o.Data); err != nil { // it may have been made just now
		return n, err
	}
	if err := n.openMembership(ctx); err != nil {
		return n, err
	}
	if err := n.prepareJoin(o.Join); err != nil {
		return n, err
	}
	n.spool, err = spool.New(n.store, spool.Options{Log: o.Log, Now: o.Now, Retention: n.membership.Load().set.Charter().Retention})
	if err != nil {
		return n, err
	}
	n.spool.OnAdmitted(n.gossip)
	n.spool.OnStored(n.passOn)
	n.users = newUsers(n.store, o.Users, o.Now, o.Log)
	return n, n.listen()
}

// makeFolder makes a folder if it is missing, for its owner alone and for good.
func makeFolder(dir string) error {
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(filepath.Clean(dir)))
}

// listen opens the port and what serves the clients on it.
func (n *Node) listen() (err error) {
	if n.ln, err = net.Listen("tcp", n.o.Listen); err != nil {
		return err
	}
	n.port = port.New(n.ln, port.Options{
		Key: n.o.Key, Stamps: n.store, Now: n.now, Log: n.log,
		Gates: map[port.Version]port.Gate{
			port.Client: n.clientGate(),
			port.Mesh:   n.meshGate(),
			port.Join:   n.joinGate(),
		},
		OnRefuse: n.onRefuse,
	})
	n.api = clientapi.NewServer(clientapi.Options{Backend: clients{n}, Log: n.log})
	return nil
}

// ID returns the node's key.
func (n *Node) ID() noise.PublicKey { return n.o.Key.Public() }

// Addr returns the address that the node listens on, HOST:PORT.
func (n *Node) Addr() string { return n.ln.Addr().String() }

// Run serves users, the mesh and the operator until ctx is done. Once it has returned
// no goroutine of it is left. A stop through ctx is not an error.
func (n *Node) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for name, serve := range map[string]func(context.Context) error{
		"port":        n.port.Run,
		"clients":     func(ctx context.Context) error { return n.api.Serve(ctx, n.port.Listener(port.Client)) },
		"invitations": n.serveInvitations,
		"operator": func(ctx context.Context) error {
			return control.Serve(ctx, n.control, operator{n}, control.ServerOptions{Log: n.log})
		},
		"spool":        n.spool.Run,
		"overlay":      n.runOverlay,
		"mesh":         n.takeMeshConns,
		"joining":      n.runJoin,
		"certificates": n.renewCertificates,
		"room":         n.watchRoom,
	} {
		g.Go(func() error {
			if err := serve(ctx); err != nil && ctx.Err() == nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			return nil
		})
	}
	return g.Wait()
}

// Close gives back what Open took. Run must have returned.
func (n *Node) Close() error {
	var errs []error
	if n.ln != nil {
		errs = append(errs, closed(n.ln))
	}
	if n.store != nil {
		errs = append(errs, n.store.Close())
	}
	if n.control != nil {
		errs = append(errs, closed(n.control))
	}
	return errors.Join(errs...)
}

// closed closes what Run may have closed already.
func closed(c io.Closer) error {
	if err := c.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// Reload takes the users and peers of a configuration that was read again.
func (n *Node) Reload(names []string, peers []Peer) {
	n.users.setFile(names)
	n.usersChanged.notify()
	n.peers.Store(&peers)
	if h := n.host.Load(); h != nil {
		n.addPeers(h, peers)
	}
}

func (n *Node) addPeers(h *p2p.Host, peers []Peer) {
	for _, p := range peers {
		key, err := noise.ParsePublicKey(p.ID)
		if err != nil {
			n.log.Error("peer of the configuration has no valid id", "err", err)
			continue
		}
		h.AddPeer(key, p.Address)
	}
}

// signal lets many wait for the next event.
type signal struct {
	mu sync.Mutex
	ch chan struct{}
}

func (s *signal) init() { s.ch = make(chan struct{}) }

// wait returns a channel that is closed at the next notify.
func (s *signal) wait() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ch
}

func (s *signal) notify() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.ch)
	s.ch = make(chan struct{})
}
