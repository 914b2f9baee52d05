package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/asmtp/asmtp/config"
	"github.com/asmtp/asmtp/internal/backup"
	"github.com/asmtp/asmtp/internal/clock"
	"github.com/asmtp/asmtp/internal/control"
	"github.com/asmtp/asmtp/internal/fault"
	"github.com/asmtp/asmtp/internal/node"
	"github.com/asmtp/asmtp/internal/version"
	"github.com/asmtp/asmtp/mesh"
)

// runConfig runs the node of a configuration file.
func runConfig(ctx context.Context, file string) error {
	c, err := config.Load(file)
	if err != nil {
		return err
	}
	password, err := keyPassword(c.Secret.PasswordFile)
	if err != nil {
		return err
	}
	return runNode(ctx, c, password, "", nil)
}

// runNode runs a node until ctx is done. ready, if not nil, is called once the node
// listens, with its id and address. join is the text of an invitation, or empty.
func runNode(ctx context.Context, c *config.Config, password, join string, ready func(id, addr string)) (err error) {
	key, err := loadKey(c.Secret.Entropy, password)
	if err != nil {
		return err
	}
	hangups := make(chan os.Signal, 1) // from here on, so that an early one does not end the start
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: c.Level()}))
	if fault.Any {
		log.Error("this program was built with a fault, to test what finds it; never keep mail with it")
	}
	n, err := node.Open(ctx, node.Options{
		Key: key, Data: c.Storage.Path, Listen: c.Network.ListenAddress, Public: c.Public(),
		Users: c.Users, Peers: peersOf(c), Join: join,
		Version: version.Version, Now: clock.Now, Log: log, Config: absolute(c.Path()),
		LargeQuota: int64(c.Storage.Quota.Large), SmallQuota: int64(c.Storage.Quota.Rest), Reserve: int64(c.Storage.Reserve),
	})
	if err != nil {
		return inUse(err, c)
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	log.Info("ready", "id", n.ID(), "addr", n.Addr())
	if ready != nil {
		ready(n.ID().String(), n.Addr())
	}
	reloading, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		reload(reloading, hangups, c, n, log)
	}()
	defer func() { stop(); <-done }()
	return n.Run(ctx)
}

// reload takes users and peers from the file again at each SIGHUP. A file that has
// become bad changes nothing.
func reload(ctx context.Context, hangups <-chan os.Signal, started *config.Config, n *node.Node, log *slog.Logger) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangups:
		}
		c, err := config.Load(started.Path())
		if err != nil {
			log.Error("configuration not read again, nothing changed", "err", err)
			continue
		}
		n.Reload(c.Users, peersOf(c))
		log.Info("users and peers read again", "users", len(c.Users), "peers", len(c.Network.Peers))
		if needsRestart(started, c) {
			log.Warn("other settings have changed as well; they count from the next start on")
		}
	}
}

// needsRestart reports whether b differs from a in more than what is read again at SIGHUP.
func needsRestart(a, b *config.Config) bool {
	network := a.Network.ListenAddress == b.Network.ListenAddress && slices.Equal(a.Public(), b.Public())
	storage := a.Storage.Path == b.Storage.Path && a.Storage.Quota == b.Storage.Quota && a.Storage.Reserve == b.Storage.Reserve
	return !network || !storage || a.Secret != b.Secret || a.LogLevel != b.LogLevel
}

// absolute makes a path right for a reader in another folder.
func absolute(path string) string {
	if full, err := filepath.Abs(path); err == nil {
		return full
	}
	return path
}

func peersOf(c *config.Config) []node.Peer {
	peers := make([]node.Peer, len(c.Network.Peers))
	for i, p := range c.Network.Peers {
		peers[i] = node.Peer{ID: p.ID, Address: p.Address}
	}
	return peers
}

// inUse says which setting to change when the port is taken.
func inUse(err error, c *config.Config) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return hintError{err, fmt.Sprintf("another program, perhaps another asmtpd, has this port; change network.listen_address in %s", c.Path())}
	}
	return err
}

// exitCode is the promise of the package comment.
func exitCode(err error) int {
	switch {
	case err == nil:
		return 0
	case isUsage(err):
		return 2
	case errors.Is(err, control.ErrNotRunning):
		return 3
	case errors.Is(err, control.ErrDenied):
		return 4
	}
	return 1
}

func isUsage(err error) bool {
	_, ok := errors.AsType[usageError](err)
	return ok
}

// hints returns what the user can do about err, most likely first.
func hints(err error) []string {
	if h, ok := errors.AsType[hintError](err); ok {
		return []string{h.hint}
	}
	if e, ok := errors.AsType[*mesh.WrongKindError](err); ok {
		return []string{"this line belongs to another command: " + e.Command}
	}
	switch {
	case isUsage(err):
		return []string{`"asmtpd help" lists the commands, "asmtpd help COMMAND" explains one`}
	case errors.Is(err, control.ErrNotRunning):
		return []string{`is the node running? start it with "asmtpd up"`, "another data folder? give --data DIR or --config FILE"}
	case errors.Is(err, mesh.ErrMistyped):
		return []string{"copy the line again, from its first to its last character"}
	case errors.Is(err, mesh.ErrCut):
		return []string{"the end of the line is missing: copy it again, in quotes"}
	case errors.Is(err, mesh.ErrEnded):
		return []string{`ask for a new one: "asmtpd mesh invite" at the inviting node`}
	case errors.Is(err, backup.ErrNeedIdentity):
		return []string{"give --identity FILE with the key that belongs to one of its recipients"}
	case errors.Is(err, backup.ErrNeedPassword):
		return []string{"give --password-file FILE, or set " + backupEnv + ", instead of --identity"}
	case errors.Is(err, backup.ErrPassword):
		return []string{"give the password that was given to asmtpd backup; it is not that of the node's key"}
	case errors.Is(err, backup.ErrDamaged):
		return []string{"copy the file again, or take another backup"}
	case errors.Is(err, backup.ErrNotEmpty):
		return []string{"give another folder with --data, or move away what is there"}
	case errors.Is(err, backup.ErrUnfinished):
		return []string{`remove all that is in the folder, then run "asmtpd restore" again`}
	case errors.Is(err, node.ErrNoStore):
		return []string{"another data folder? give --data DIR or --config FILE"}
	case errors.Is(err, control.ErrRunning):
		return []string{"it is being started or stopped: try again in a moment"}
	case errors.Is(err, control.ErrDenied):
		return []string{"the node belongs to another user of this machine: become that user or root"}
	}
	return nil
}
