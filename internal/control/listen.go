package control

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
)

// Listener is the socket of a data folder that this process has taken.
type Listener struct {
	net.Listener
	lock *os.File
	path string
}

// Listen takes the data folder dir, which must exist, and listens on its socket. A
// socket that a killed node left is replaced. If another process has the folder, the
// error wraps [ErrRunning]. [Listener.Close] gives the folder back.
//
// Call it before opening anything else in dir: it is what keeps two nodes apart.
func Listen(dir string) (*Listener, error) {
	held, err := take(dir)
	if err != nil {
		return nil, err
	}
	l := &Listener{lock: held, path: filepath.Join(dir, SocketName)}
	if err := l.bind(dir); err != nil {
		held.Close()
		return nil, fmt.Errorf("listen on the control socket of %s: %w", dir, err)
	}
	return l, nil
}

// Lock takes the data folder dir as [Listen] does, for what must be done while no node
// runs on it. Closing gives it back.
func Lock(dir string) (io.Closer, error) {
	held, err := take(dir)
	if err != nil {
		return nil, err
	}
	return held, nil
}

func take(dir string) (*os.File, error) {
	held, err := lock(filepath.Join(dir, LockName))
	if errors.Is(err, ErrRunning) {
		return nil, fmt.Errorf("%w on %s", ErrRunning, dir)
	}
	if err != nil {
		return nil, fmt.Errorf("take the data folder %s: %w", dir, err)
	}
	return held, nil
}

func (l *Listener) bind(dir string) error {
	if err := removeSocket(l.path); err != nil {
		return err
	}
	return withSocketPath(dir, func(path string) error {
		ln, err := net.Listen("unix", path)
		if err != nil {
			return err
		}
		// The path may name a descriptor that is closed by then.
		ln.(*net.UnixListener).SetUnlinkOnClose(false)
		if err := os.Chmod(l.path, 0o600); err != nil {
			ln.Close()
			return err
		}
		l.Listener = ln
		return nil
	})
}

// removeSocket removes what a killed node left, and nothing but a socket.
func removeSocket(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s is there and is no socket", path)
	}
	return os.Remove(path)
}

// Close stops listening, removes the socket and lets others take the folder.
func (l *Listener) Close() error {
	err := l.Listener.Close()
	if errors.Is(err, net.ErrClosed) {
		return err // a second call; the socket may be another node's now
	}
	return errors.Join(err, removeSocket(l.path), l.lock.Close())
}
