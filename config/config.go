// Package config reads asmtpd's configuration, one YAML file.
//
// [Config] is the manual: every key, what it means and its default. [Load] reads a
// file and says everything that is wrong with it at once, each problem with its
// line, so that an operator mends a file in one go. [Default] is the commented file
// that "asmtpd default-config" prints.
//
// The sections are those of the reference implementation (FORMAT.md section 6), so
// that its files go on working: keys that mean nothing to this program are read and
// checked, and [Config.Ignored] lists them. An unknown key is an error.
//
// The package opens nothing and starts nothing. It looks for the files that the
// configuration names, but does not read secrets.
package config

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/asmtp/asmtp/noise"
)

// Config is what a file says. Relative paths in it have been joined with the
// folder of the file.
type Config struct {
	// Secret says where the node's key comes from.
	Secret Secret `yaml:"secret"`

	// Users are the passports (32 hex digits) or device keys (64 hex digits) that may
	// use this node. Users added with "asmtpd user add" come on top of these. The
	// key must be there; the list may be empty.
	Users []string `yaml:"users"`

	// Network says where the node listens and whom it calls.
	Network Network `yaml:"network"`

	// Storage says where the node keeps what it must not lose.
	Storage Storage `yaml:"storage"`

	// LogLevel is debug, info, warn or error. Default: info.
	LogLevel string `yaml:"log_level"`

	path    string
	ignored []string
}

// Secret is the section "secret".
type Secret struct {
	// Entropy is the file of 128 hex digits that the node's key is made of, together
	// with the password. "asmtpd generate-new-key" makes one. Default: entropy.txt.
	Entropy string `yaml:"entropy"`

	// PasswordFile holds the password of the key. Without it the password is
	// ASMTPD_KEY_PASSWORD from the environment, or is asked for on a terminal, or is empty.
	PasswordFile string `yaml:"password_file"`
}

// Network is the section "network".
type Network struct {
	// ListenAddress is the one TCP address the node listens on, HOST:PORT. An empty
	// host means all addresses of the machine. Default: :9800.
	ListenAddress string `yaml:"listen_address"`

	// PublicAddress is how other nodes reach this one, HOST:PORT. It stands in the
	// invitations that the node makes. Default: the address it listens on.
	PublicAddress string `yaml:"public_address"`

	// PublicAddresses are further addresses of the same kind.
	PublicAddresses []string `yaml:"public_addresses"`

	// Peers are nodes of the mesh to call besides those that the node has learned of.
	Peers []Peer `yaml:"peers"`

	// These are the reference's; they have no effect here.
	MaxOpenedConnections  int       `yaml:"max_opened_connections" ignored:"true"`
	MessageQueueSize      int       `yaml:"message_queue_size" ignored:"true"`
	KnownMessageCacheSize int       `yaml:"known_message_cache_size" ignored:"true"`
	HeartBeat             Duration  `yaml:"heart_beat" ignored:"true"`
	KnownGossips          []string  `yaml:"known_gossips" ignored:"true"`
	Gossiping             Gossiping `yaml:"gossiping" ignored:"true"`
}

// Peer is a node to call.
type Peer struct {
	// ID is the node's key, 64 hex digits, as its "asmtpd status" prints it.
	ID string `yaml:"id"`
	// Address is HOST:PORT.
	Address string `yaml:"address"`
}

// Gossiping is the reference's section "network.gossiping"; it has no effect here.
type Gossiping struct {
	MinimumTimeElapsed Duration `yaml:"minimum_time_elapsed"`
	QueueSize          int      `yaml:"queue_size"`
	HistorySize        int      `yaml:"history_size"`
}

// Storage is the section "storage".
type Storage struct {
	// Path is the folder of the node's database and control socket. It is made if it
	// is missing. Only its owner may enter it. Default: data.
	Path string `yaml:"path"`

	// Quota bounds what the node stores.
	Quota Quota `yaml:"quota"`

	// Reserve is the space on the disk that the node leaves to others: with less than
	// that free it takes no new mail, and goes on with everything else. At least 1MiB.
	// Default: the store's choice, which "asmtpd status" shows.
	Reserve Size `yaml:"reserve"`

	// These are the reference's; they have no effect here.
	GossipRefreshRate Duration `yaml:"gossip_refresh_rate" ignored:"true"`
	PassportCacheSize int      `yaml:"passport_cache_size" ignored:"true"`
}

// Quota is the section "storage.quota". Each bound holds twice: once for what the node
// stores for others, once for what its own users sent or were sent, so that neither can
// crowd out the other. What is stored stays until its end, also above a quota that was
// lowered; full means that no more is taken. At least 1MiB each.
type Quota struct {
	// Large bounds the envelopes of the largest size class, 60 KiB, which carry
	// attachments. Default: 4GiB.
	Large Size `yaml:"large"`

	// Rest bounds all smaller envelopes. Default: 1GiB.
	Rest Size `yaml:"rest"`
}

// Duration is written as the reference does, { secs: 30, nanos: 0 }, or as 30s.
type Duration time.Duration

// Default is the commented configuration that "asmtpd default-config" prints.
const Default = `# Configuration of asmtpd. Lines that begin with # are comments; a key that is
# missing has the value shown here. "asmtpd check --config FILE" looks for mistakes.

secret:
  # The node's key is made of this file and a password. Make it with
  # "asmtpd generate-new-key --entropy-output entropy.txt".
  entropy: entropy.txt
  # A file that holds the password. Without it: ASMTPD_KEY_PASSWORD, else asked for.
  #password_file: password.txt

# Who may use this node: passport ids (32 hex digits) or device keys (64 hex
# digits), as "asmtp-cli id" prints them. "asmtpd user add" adds more at run time.
users: []

network:
  # The one TCP port of the node, for its users and for the mesh.
  listen_address: ":9800"
  # How other nodes reach this one. Give it if friends shall join over the internet.
  #public_address: mail.example.org:9800
  #public_addresses: []
  # Nodes of the mesh to call, besides those that are learned of.
  #peers:
  #  - id: 64 hex digits
  #    address: friend.example.net:9800

storage:
  # The folder of the database and of the control socket.
  path: data
  # How much mail is stored: as much for the mesh, and again as much for this node's own
  # users. "large" are the pieces of mails with attachments, "rest" is everything else.
  # A full node refuses new mail, and keeps what it has until that ends.
  quota:
    large: 4GiB
    rest: 1GiB
  # With less space than this free on the disk, no new mail is taken. "asmtpd status"
  # shows what is chosen if nothing stands here.
  #reserve: 1GiB

# debug, info, warn or error
log_level: info
`

// Load reads the file at path. What is wrong with it comes as one [*Problems].
func Load(path string) (*Config, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	return Parse(path, b)
}

// Parse is Load for a file that was read already; path is where it stands.
func Parse(path string, b []byte) (*Config, error) {
	c := &Config{path: path}
	d := &decoder{file: path}
	d.document(b, c)
	c.ignored = d.ignored
	if len(d.problems) == 0 || d.root != nil {
		c.complete()
		c.check(d)
	}
	if len(d.problems) > 0 {
		return nil, d.sorted()
	}
	return c, nil
}

// Ignored returns the keys of the file that only the reference knows a use for.
func (c *Config) Ignored() []string { return c.ignored }

// Path returns the file that was read.
func (c *Config) Path() string { return c.path }

// Level returns LogLevel as slog has it.
func (c *Config) Level() slog.Level {
	var l slog.Level
	if err := l.UnmarshalText([]byte(c.LogLevel)); err != nil {
		return slog.LevelInfo // check has refused any other text
	}
	return l
}

// Public returns all public addresses, none if the file gives none.
func (c *Config) Public() []string {
	var all []string
	if c.Network.PublicAddress != "" {
		all = append(all, c.Network.PublicAddress)
	}
	return append(all, c.Network.PublicAddresses...)
}

// complete fills in defaults and joins paths with the folder of the file.
func (c *Config) complete() {
	setDefault(&c.Secret.Entropy, "entropy.txt")
	setDefault(&c.Network.ListenAddress, ":9800")
	setDefault(&c.Storage.Path, "data")
	setDefault(&c.LogLevel, "info")
	setDefault(&c.Storage.Quota.Large, 4<<30)
	setDefault(&c.Storage.Quota.Rest, 1<<30)
	dir := filepath.Dir(c.path)
	for _, p := range []*string{&c.Secret.Entropy, &c.Secret.PasswordFile, &c.Storage.Path} {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(dir, *p)
		}
	}
}

func setDefault[T comparable](v *T, value T) {
	var missing T
	if *v == missing {
		*v = value
	}
}

// maxPublic is the number of public addresses that an invitation has room for.
const maxPublic = 8

// check looks at values, each problem with the line of its key.
func (c *Config) check(d *decoder) {
	if d.line("users") == 0 && !d.failed("users") {
		d.add(0, `users is missing; write "users: []" if "asmtpd user add" shall add them`)
	}
	for i, u := range c.Users {
		if err := CheckUser(u); err != nil {
			d.add(d.line("users", strconv.Itoa(i)), "users: "+err.Error())
		}
	}
	if err := CheckListen(c.Network.ListenAddress); err != nil {
		d.add(d.line("network", "listen_address"), "network.listen_address: "+err.Error())
	}
	if a := c.Network.PublicAddress; a != "" {
		d.addErr(d.line("network", "public_address"), "network.public_address", CheckAddress(a))
	}
	for i, a := range c.Network.PublicAddresses {
		d.addErr(d.line("network", "public_addresses", strconv.Itoa(i)), "network.public_addresses", CheckAddress(a))
	}
	if n := len(c.Public()); n > maxPublic {
		d.add(d.line("network", "public_addresses"), fmt.Sprintf("network.public_addresses: %d public addresses, at most %d", n, maxPublic))
	}
	for i, p := range c.Network.Peers {
		at := strconv.Itoa(i)
		_, err := noise.ParsePublicKey(p.ID)
		d.addErr(d.line("network", "peers", at), "network.peers: id", err)
		d.addErr(d.line("network", "peers", at), "network.peers: address", CheckAddress(p.Address))
	}
	var l slog.Level
	if err := l.UnmarshalText([]byte(c.LogLevel)); err != nil {
		d.add(d.line("log_level"), "log_level: want debug, info, warn or error")
	}
	c.checkSizes(d)
	c.checkFiles(d)
}

// minSize is the least quota and reserve: below it a mesh could not carry one mail with
// an attachment, and a reserve would reserve nothing.
const minSize = 1 << 20

// checkSizes looks at the sizes that the file gives, also at a 0, which would pass for a
// key that is missing.
func (c *Config) checkSizes(d *decoder) {
	for _, x := range []struct {
		path []string
		size Size
	}{
		{[]string{"storage", "quota", "large"}, c.Storage.Quota.Large},
		{[]string{"storage", "quota", "rest"}, c.Storage.Quota.Rest},
		{[]string{"storage", "reserve"}, c.Storage.Reserve},
	} {
		name := strings.Join(x.path, ".")
		if line := d.line(x.path...); line > 0 && !d.failed(name) && (x.size < minSize || d.zero[name]) {
			d.add(line, fmt.Sprintf("%s: at least %v", name, Size(minSize)))
		}
	}
}

// checkFiles looks for the files that must be there before a start.
func (c *Config) checkFiles(d *decoder) {
	if _, err := os.Stat(c.Secret.Entropy); err != nil {
		d.add(d.line("secret", "entropy"), fmt.Sprintf(`secret.entropy: %v; "asmtpd generate-new-key --entropy-output %s" makes the file`, cause(err), c.Secret.Entropy))
	}
	if f := c.Secret.PasswordFile; f != "" {
		if _, err := os.Stat(f); err != nil {
			d.add(d.line("secret", "password_file"), fmt.Sprintf("secret.password_file: %s: %v", f, cause(err)))
		}
	}
	if st, err := os.Stat(c.Storage.Path); err == nil && !st.IsDir() {
		d.add(d.line("storage", "path"), fmt.Sprintf("storage.path: %s is a file, want a folder", c.Storage.Path))
	}
}

// cause returns what a file operation failed with, without the path and the call.
func cause(err error) error {
	if p, ok := err.(*os.PathError); ok {
		return p.Err
	}
	return err
}

// CheckUser reports what is wrong with the text of a user: it is a passport id of 32
// or a device key of 64 hex digits.
func CheckUser(u string) error {
	for _, r := range u {
		if !strings.ContainsRune("0123456789abcdefABCDEF", r) {
			return fmt.Errorf("%.8q… is no user: want a passport id (32 hex digits) or a device key (64)", u)
		}
	}
	switch len(u) {
	case 32:
		return nil
	case 64:
		k, err := noise.ParsePublicKey(u)
		if err != nil {
			return err
		}
		return k.Check()
	}
	return fmt.Errorf("%.8q… has %d hex digits: want a passport id (32) or a device key (64)", u, len(u))
}

// CheckAddress reports what is wrong with an address that others shall dial: a host and a port.
func CheckAddress(a string) error {
	host, port, err := net.SplitHostPort(a)
	if err != nil {
		return fmt.Errorf("%q is no address: want HOST:PORT, an IPv6 host in brackets", a)
	}
	if host == "" || len(host) > 253 || strings.ContainsAny(host, " /@") {
		return fmt.Errorf("%q has no host that others could dial", a)
	}
	return checkPort(port, 1)
}

// CheckListen is CheckAddress for one to listen on: the host may be empty, the port 0.
func CheckListen(a string) error {
	host, port, err := net.SplitHostPort(a)
	if err != nil {
		return fmt.Errorf("%q is no address: want HOST:PORT, an IPv6 host in brackets", a)
	}
	if strings.ContainsAny(host, " /@") {
		return fmt.Errorf("%q has no host that this machine could listen on", a)
	}
	return checkPort(port, 0)
}

func checkPort(port string, least int) error {
	n, err := strconv.Atoi(port)
	if err != nil || n < least || n > 65535 {
		return fmt.Errorf("port %q: want a number from %d to 65535", port, least)
	}
	return nil
}
