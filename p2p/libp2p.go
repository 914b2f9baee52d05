package p2p

import (
	"fmt"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/gologshim"
	basichost "github.com/libp2p/go-libp2p/p2p/host/basic"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	"github.com/libp2p/go-libp2p/p2p/host/peerstore/pstoremem"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/x/rate"
	ma "github.com/multiformats/go-multiaddr"
)

// dialTimeout bounds one dial: TCP, a handshake that may be tried twice, and the
// exchange of statements.
const dialTimeout = 60 * time.Second

// silence keeps libp2p's own loggers, which print full ids and addresses to the
// standard error, from doing so. What matters of theirs shows in our own log.
var silence = sync.OnceFunc(func() { gologshim.SetDefaultHandler(slog.DiscardHandler) })

// newLibp2p builds a host by hand. libp2p.New would link QUIC, WebRTC, websockets
// and more whatever it is told, and negotiate in clear. fill completes the link,
// which needs the resource manager.
func newLibp2p(self identity, l *link) (_ *basichost.BasicHost, err error) {
	silence()
	store, err := pstoremem.NewPeerstore()
	if err != nil {
		return nil, fmt.Errorf("peer store: %w", err)
	}
	defer func() {
		if err != nil {
			store.Close()
		}
	}()
	if err := store.AddPrivKey(self.id, self.private); err != nil {
		return nil, fmt.Errorf("own key: %w", err)
	}
	if err := store.AddPubKey(self.id, self.private.GetPublic()); err != nil {
		return nil, fmt.Errorf("own key: %w", err)
	}
	if l.rcmgr, err = newResources(); err != nil {
		return nil, fmt.Errorf("resource manager: %w", err)
	}
	bus := eventbus.NewBus()
	sw, err := swarm.NewSwarm(self.id, store, bus, swarm.WithResourceManager(l.rcmgr),
		swarm.WithDialTimeout(dialTimeout), swarm.WithDialTimeoutLocal(dialTimeout),
		// Offline members would make it believe that IPv6 does not work here.
		swarm.WithIPv6BlackHoleSuccessCounter(nil), swarm.WithUDPBlackHoleSuccessCounter(nil))
	if err != nil {
		l.rcmgr.Close()
		return nil, fmt.Errorf("swarm: %w", err)
	}
	if err := sw.AddTransport(l); err != nil {
		sw.Close()
		l.rcmgr.Close()
		return nil, fmt.Errorf("transport: %w", err)
	}
	host, err := basichost.NewHost(sw, &basichost.HostOpts{
		EventBus: bus,
		// Where we can be reached is told in /asmtp/mesh/1 alone.
		AddrsFactory:            func([]ma.Multiaddr) []ma.Multiaddr { return nil },
		DisableSignedPeerRecord: true,
		UserAgent:               "asmtpd",
		ProtocolVersion:         "asmtp/1",
	})
	if err != nil {
		sw.Close()
		l.rcmgr.Close()
		return nil, fmt.Errorf("host: %w", err)
	}
	host.Start()
	return host, nil
}

// newResources limits what all peers together and each of them can take. Limits per
// address are the port's; here everybody is a certified member, and a friend's
// whole family may sit behind one address.
func newResources() (network.ResourceManager, error) {
	limits := rcmgr.PartialLimitConfig{
		System: rcmgr.ResourceLimits{Conns: 256, ConnsInbound: 160, ConnsOutbound: 96, FD: 256,
			Streams: 4096, StreamsInbound: 2048, StreamsOutbound: 2048, Memory: 128 << 20},
		Transient: rcmgr.ResourceLimits{Conns: 96, ConnsInbound: 64, ConnsOutbound: 32, FD: 96,
			Streams: 512, StreamsInbound: 256, StreamsOutbound: 256, Memory: 32 << 20},
		PeerDefault: rcmgr.ResourceLimits{Conns: 8, ConnsInbound: 4, ConnsOutbound: 4, FD: 8,
			Streams: 64, StreamsInbound: 32, StreamsOutbound: 32, Memory: 16 << 20},
	}.Build(rcmgr.DefaultLimits.Scale(128<<20, 1024))
	unlimited := []rcmgr.ConnLimitPerSubnet{{PrefixLength: 0, ConnCount: math.MaxInt32}}
	return rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(limits), rcmgr.WithMetricsDisabled(),
		rcmgr.WithLimitPerSubnet(unlimited, unlimited), rcmgr.WithConnRateLimiters(&rate.Limiter{}))
}
