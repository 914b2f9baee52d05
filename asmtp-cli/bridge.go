package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"github.com/asmtp/asmtp/internal/account"
	"github.com/asmtp/asmtp/internal/bridge"
	"github.com/asmtp/asmtp/internal/clock"
)

// bridgeFlags are those of "bridge" and "bridge setup".
type bridgeFlags struct {
	homes      []string // besides the global --home: with several, each is served
	imap, smtp string
	tls        string
	cert, key  string
}

func (f *bridgeFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.imap, "imap", "127.0.0.1:1143", "listen for IMAP at `ADDRESS`; off: do not")
	cmd.Flags().StringVar(&f.smtp, "smtp", "127.0.0.1:1025", "listen for SMTP at `ADDRESS`; off: do not")
	cmd.Flags().StringVar(&f.tls, "tls", "", "`MODE` is starttls (offered; the default on this machine), implicit (every connection begins with it) or off")
	cmd.Flags().StringVar(&f.cert, "cert", "", "the certificate, in `FILE` (PEM), in place of one that the bridge makes for itself")
	cmd.Flags().StringVar(&f.key, "key", "", "the key of --cert, in `FILE` (PEM)")
}

func (a *app) bridgeCommand() *cobra.Command {
	var f bridgeFlags
	cmd := &cobra.Command{
		Use:   "bridge",
		Short: "IMAP and SMTP on this machine, for ordinary mail programs",
		Long: `Makes the account look like a mail server, so that any mail program can be used with it,
and exchanges mail with your node as long as it runs. It prints where it listens; port 0
takes a free one. "asmtp-cli bridge password" makes a password for a mail program, and
"asmtp-cli bridge setup" prints the settings for it. --home may be given several times:
each account is then served, and the user name of the login says which is meant.

On this machine a mail program may log in without TLS. Beyond it, the bridge listens only
with --tls starttls or --tls implicit, by a certificate that it makes for itself, once, or
by yours.`,
		Example: `  asmtp-cli bridge
  asmtp-cli bridge --imap 127.0.0.1:0 --smtp 127.0.0.1:0 --json
  asmtp-cli bridge --home ~/alice --home ~/office
  asmtp-cli bridge --imap 192.168.1.5:993 --smtp 192.168.1.5:465 --tls implicit`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.bridge(cmd.Context(), f) },
	}
	f.add(cmd)
	// In place of the global flag, which takes one folder.
	cmd.Flags().StringArrayVar(&f.homes, "home", nil, "the account's folder `DIR`; may be given several times (default: ASMTP_HOME, else by XDG)")
	cmd.AddCommand(a.bridgePasswordCommand(), a.bridgeSetupCommand())
	return cmd
}

// checked completes the flags, and refuses what would send passwords over a network in
// clear.
func (f bridgeFlags) checked() (bridgeFlags, error) {
	if (f.cert == "") != (f.key == "") {
		return f, usage("--cert and --key belong together")
	}
	if f.imap == "off" && f.smtp == "off" {
		return f, usage("there is nothing to listen for", "leave out --imap off or --smtp off")
	}
	switch bridge.TLSMode(f.tls) {
	case bridge.StartTLS, bridge.TLS, bridge.TLSOff, "":
	default:
		return f, usage(fmt.Sprintf("--tls %q", f.tls), "give starttls, implicit or off")
	}
	if f.tls == string(bridge.TLSOff) && f.cert != "" {
		return f, usage("--cert without TLS", "leave out --tls off")
	}
	for _, addr := range []string{f.imap, f.smtp} {
		if addr == "off" {
			continue
		}
		tcp, err := net.ResolveTCPAddr("tcp", addr)
		if err != nil {
			return f, usage(fmt.Sprintf("listen at %q: %v", addr, err), "give HOST:PORT, such as 127.0.0.1:1143")
		}
		if secured := f.tls == string(bridge.StartTLS) || f.tls == string(bridge.TLS) || f.tls == "" && f.cert != ""; !secured && !tcp.IP.IsLoopback() {
			return f, hintError{fmt.Errorf("listen at %s: %w", addr, bridge.ErrInsecure), insecureHints()}
		}
	}
	if f.tls == "" {
		f.tls = string(bridge.StartTLS)
	}
	return f, nil
}

func insecureHints() []string {
	return []string{
		"add --tls implicit or --tls starttls: the bridge makes a certificate for itself, or takes yours by --cert FILE --key FILE",
		`or listen on 127.0.0.1 and come through an SSH tunnel: "asmtp-cli bridge setup k9" shows how`,
	}
}

// certificate is the one of the flags, or that of the account in dir.
func (f bridgeFlags) certificate(dir string) (c tls.Certificate, file string, err error) {
	if f.cert != "" {
		c, err = bridge.LoadCertificate(f.cert, f.key)
		return c, f.cert, err
	}
	var hosts []string
	for _, addr := range []string{f.imap, f.smtp} {
		if host, _, err := net.SplitHostPort(addr); err == nil {
			hosts = append(hosts, host)
		}
	}
	c, err = bridge.OwnCertificate(dir, hosts, clock.Now())
	return c, filepath.Join(dir, bridge.CertificateFile), err
}

type bridgeJSON struct {
	IMAP        string `json:"imap"`
	SMTP        string `json:"smtp"`
	Fingerprint string `json:"fingerprint"`
	TLS         string `json:"tls"`
}

func (a *app) bridge(ctx context.Context, f bridgeFlags) (err error) {
	if f, err = f.checked(); err != nil {
		return err
	}
	apps, err := a.perHome(f.homes)
	if err != nil {
		return err
	}
	o := bridge.Options{Now: clock.Now, Implicit: f.tls == string(bridge.TLS), OnNode: a.nodeNews()}
	o.Log = slog.New(slog.NewTextHandler(a.err, &slog.HandlerOptions{Level: slog.LevelWarn}))
	defer func() {
		for _, acc := range o.Accounts {
			err = errors.Join(err, acc.Close())
		}
	}()
	for _, one := range apps {
		acc, err := one.open(ctx)
		if err != nil {
			return err
		}
		o.Accounts, o.Homes = append(o.Accounts, acc), append(o.Homes, one.home)
	}
	says := bridgeJSON{TLS: f.tls}
	if f.tls != string(bridge.TLSOff) {
		dir, err := apps[0].dir()
		if err != nil {
			return err
		}
		c, _, err := f.certificate(dir)
		if err != nil {
			return err
		}
		o.TLS, says.Fingerprint = bridge.ServerTLS(c), bridge.Fingerprint(c)
	}
	if o.IMAP, says.IMAP, err = listen(f.imap, "--imap"); err != nil {
		return err
	}
	if o.SMTP, says.SMTP, err = listen(f.smtp, "--smtp"); err != nil {
		return errors.Join(err, closeListener(o.IMAP))
	}
	b, err := bridge.New(o)
	if err != nil {
		return errors.Join(err, closeListener(o.IMAP), closeListener(o.SMTP))
	}
	if err := a.print(says, func(w io.Writer) { sayBridge(w, o.Accounts, says) }); err != nil {
		return errors.Join(err, closeListener(o.IMAP), closeListener(o.SMTP))
	}
	a.notePasswords(ctx, o.Accounts)
	return b.Run(ctx)
}

func listen(addr, flag string) (net.Listener, string, error) {
	if addr == "off" {
		return nil, "", nil
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		// Not as a net.OpError, which means that the node does not answer.
		return nil, "", hintError{fmt.Errorf("%s: %v", flag, err), []string{"does a bridge run already? it serves several mail programs", "give another port, or port 0 for a free one: " + flag + " 127.0.0.1:0"}}
	}
	return ln, ln.Addr().String(), nil
}

func closeListener(ln net.Listener) error {
	if ln == nil {
		return nil
	}
	return ln.Close()
}

// perHome returns an app for each account that is to be served.
func (a *app) perHome(homes []string) ([]*app, error) {
	if len(homes) == 0 {
		return []*app{a}, nil
	}
	var apps []*app
	seen := make(map[string]bool)
	for _, home := range homes {
		one := *a
		one.home = home
		dir, err := one.dir()
		if err != nil {
			return nil, err
		}
		if seen[dir] {
			return nil, usage(fmt.Sprintf("--home %s is given twice", home))
		}
		seen[dir] = true
		apps = append(apps, &one)
	}
	return apps, nil
}

func sayBridge(w io.Writer, accounts []*account.Account, says bridgeJSON) {
	for _, acc := range accounts {
		fmt.Fprintf(w, "serving %s\n", acc.Addresses()[0])
	}
	for _, l := range []struct{ name, addr string }{{"IMAP", says.IMAP}, {"SMTP", says.SMTP}} {
		if l.addr != "" {
			fmt.Fprintf(w, "%s at %s, %s\n", l.name, l.addr, map[string]string{"off": "without TLS", "starttls": "with STARTTLS if the program wants it", "implicit": "by TLS"}[says.TLS])
		}
	}
	if says.Fingerprint != "" {
		fmt.Fprintf(w, "certificate, SHA-256: %s\n", says.Fingerprint)
	}
}

// notePasswords tells those who have just begun what comes next.
func (a *app) notePasswords(ctx context.Context, accounts []*account.Account) {
	for _, acc := range accounts {
		if list, err := acc.Passwords(ctx); err == nil && len(list) == 0 {
			a.note(`%s has no password for a mail program yet: "asmtp-cli bridge password thunderbird" makes one, "asmtp-cli bridge setup" prints the settings`, acc.Name())
		}
	}
}

// nodeNews tells when nodes stop and begin to answer.
func (a *app) nodeNews() func(*account.Account, error) {
	var mu sync.Mutex
	return func(acc *account.Account, err error) {
		mu.Lock()
		defer mu.Unlock()
		if err == nil {
			a.note("%s: connected with the node", acc.Name())
			return
		}
		a.note("%s: no connection with the node: %s; what you send waits in the outbox", acc.Name(), strings.ReplaceAll(err.Error(), "\n", "; "))
		for _, h := range hints(withKey(acc, err)) {
			fmt.Fprintln(a.err, "asmtp-cli: hint:", h)
		}
	}
}
