// Command demo shows the whole way of a mail with the real programs: three asmtpd
// processes on loopback form a mesh, Alice at the first node writes to Bob at the
// third, Bob reads, and Alice sees that it was delivered. "make demo" runs it.
//
// Everything lives in one temporary folder, which is removed at the end together
// with the processes. The environment variable KEEP=1 leaves both and prints how to go
// on by hand; FILE names an RFC 5322 message to send instead of the demo's own.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// patience bounds every wait of the demo.
const patience = 60 * time.Second

func main() {
	bin := flag.String("bin", "bin", "the folder of asmtpd and asmtp-cli, `DIR`")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *bin, os.Getenv("KEEP") != "", os.Getenv("FILE")); err != nil {
		fmt.Fprintln(os.Stderr, "demo: error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, bin string, keep bool, file string) (err error) {
	bin, err = filepath.Abs(bin)
	if err != nil {
		return err
	}
	if file != "" {
		if file, err = filepath.Abs(file); err != nil {
			return err
		}
		if _, err := os.Stat(file); err != nil {
			return fmt.Errorf("FILE: %w", err)
		}
	}
	dir, err := os.MkdirTemp("", "asmtp-demo-")
	if err != nil {
		return err
	}
	d := &demo{ctx: ctx, bin: bin, dir: dir, keep: keep}
	defer func() { err = errors.Join(err, d.close(err == nil)) }()
	if err := d.mesh(); err != nil {
		return err
	}
	if err := d.people(); err != nil {
		return err
	}
	return d.mail(file)
}

type demo struct {
	ctx   context.Context
	bin   string
	dir   string
	keep  bool
	nodes []*exec.Cmd
}

// node returns the data folder of node i, from 1.
func (d *demo) node(i int) string { return filepath.Join(d.dir, fmt.Sprintf("node%d", i)) }

// step prints what is done, does it, and prints how long it took.
func (d *demo) step(what string, do func() error) error {
	start := time.Now()
	err := do()
	mark := fmt.Sprintf("%.2f s", time.Since(start).Seconds())
	if err != nil {
		mark = "failed"
	}
	fmt.Printf("== %-58s %s\n", what, mark)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// run runs one of the programs and returns what it printed.
func (d *demo) run(name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(d.ctx, patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(d.bin, name), args...)
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, problems.String())
	}
	return out.String(), nil
}

func (d *demo) alice(args ...string) (string, error) {
	return d.run("asmtp-cli", append([]string{"--home", filepath.Join(d.dir, "alice")}, args...)...)
}

func (d *demo) bob(args ...string) (string, error) {
	return d.run("asmtp-cli", append([]string{"--home", filepath.Join(d.dir, "bob")}, args...)...)
}

// start starts node i with further arguments to "asmtpd up", and waits until it answers.
func (d *demo) start(i int, args ...string) error {
	logFile, err := os.OpenFile(filepath.Join(d.dir, fmt.Sprintf("node%d.log", i)), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer logFile.Close()
	cmd := exec.Command(filepath.Join(d.bin, "asmtpd"), append([]string{"up", "--data", d.node(i), "--listen", "127.0.0.1:0"}, args...)...)
	cmd.Stdout, cmd.Stderr = logFile, logFile
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C reaches the demo, which stops the nodes in order
	if err := cmd.Start(); err != nil {
		return err
	}
	d.nodes = append(d.nodes, cmd)
	return d.until(i, func(nodeStatus) bool { return true })
}

type nodeStatus struct {
	ID    string `json:"id"`
	Mesh  string `json:"mesh"`
	Peers []struct {
		ID        string `json:"id"`
		Connected bool   `json:"connected"`
	} `json:"peers"`
}

// until asks node i for its status until ok is content with it.
func (d *demo) until(i int, ok func(nodeStatus) bool) error {
	deadline := time.After(patience)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		out, err := d.run("asmtpd", "status", "--json", "--data", d.node(i))
		var s nodeStatus
		if err == nil {
			if err = json.Unmarshal([]byte(out), &s); err == nil && ok(s) {
				return nil
			}
		}
		select {
		case <-tick.C:
		case <-d.ctx.Done():
			return d.ctx.Err()
		case <-deadline:
			log, _ := os.ReadFile(filepath.Join(d.dir, fmt.Sprintf("node%d.log", i)))
			return fmt.Errorf("node %d was not ready after %v (last answer: %v)\n%s", i, patience, err, log)
		}
	}
}

func connected(want int) func(nodeStatus) bool {
	return func(s nodeStatus) bool {
		n := 0
		for _, p := range s.Peers {
			if p.Connected {
				n++
			}
		}
		return n >= want
	}
}

func (d *demo) mesh() error {
	if err := d.step("node 1 starts and founds a mesh", func() error { return d.start(1) }); err != nil {
		return err
	}
	var line string
	err := d.step("node 1 invites: asmtpd mesh invite", func() (err error) {
		line, err = d.run("asmtpd", "mesh", "invite", "--uses", "2", "--data", d.node(1))
		line = strings.TrimSpace(line)
		return err
	})
	if err != nil {
		return err
	}
	for i := 2; i <= 3; i++ {
		err := d.step(fmt.Sprintf("node %d joins: asmtpd up --join 'LINE'", i), func() error { return d.start(i, "--join", line) })
		if err != nil {
			return err
		}
	}
	return d.step("each node is connected to the other two", func() error {
		for i := 1; i <= 3; i++ {
			if err := d.until(i, connected(2)); err != nil {
				return err
			}
		}
		return nil
	})
}

type identity struct {
	Passport string `json:"passport"`
}

// person makes an account with the node in data, and returns its passport id.
func (d *demo) person(as func(...string) (string, error), name, data string) (string, error) {
	if _, err := as("init", "--name", name, "--no-passphrase"); err != nil {
		return "", err
	}
	if _, err := as("connect", "--local", "--data", data); err != nil {
		return "", err
	}
	out, err := as("id", "--json")
	if err != nil {
		return "", err
	}
	var id identity
	if err := json.Unmarshal([]byte(out), &id); err != nil {
		return "", fmt.Errorf("asmtp-cli id --json: %w", err)
	}
	return id.Passport, nil
}

func (d *demo) people() error {
	var alice, bob string
	err := d.step("Alice has an account at node 1", func() (err error) {
		alice, err = d.person(d.alice, "alice", d.node(1))
		return err
	})
	if err != nil {
		return err
	}
	err = d.step("Bob has an account at node 3", func() (err error) {
		bob, err = d.person(d.bob, "bob", d.node(3))
		return err
	})
	if err != nil {
		return err
	}
	return d.step("Alice and Bob add each other as contacts", func() error {
		if _, err := d.alice("contact", "add", "bob", bob); err != nil {
			return err
		}
		_, err := d.bob("contact", "add", "alice", alice)
		return err
	})
}

// letter writes the demo's own mail: a text and a file to attach.
func (d *demo) letter() (text, attachment string, err error) {
	text, attachment = filepath.Join(d.dir, "letter.txt"), filepath.Join(d.dir, "garden.csv")
	if err := os.WriteFile(text, []byte("Hi Bob,\n\nthis letter met no server but ours on its way.\nThe list you asked for is attached.\n\nAlice\n"), 0o600); err != nil {
		return "", "", err
	}
	return text, attachment, os.WriteFile(attachment, []byte("bed,plant\n1,beans\n2,peas\n3,pumpkins\n"), 0o600)
}

type mail struct {
	ID    string `json:"id"`
	State string `json:"state"`
}

// show prints the output of a command, indented below the command itself.
func show(command, out string) {
	fmt.Printf("\n   $ %s\n", command)
	for line := range strings.Lines(out) {
		fmt.Print("   ", line)
	}
	fmt.Println()
}

func (d *demo) mail(file string) error {
	args := []string{"send", "--json", "--to", "bob"}
	if file != "" {
		args = append(args, "--raw", file)
	} else {
		text, attachment, err := d.letter()
		if err != nil {
			return err
		}
		args = append(args, "--subject", "A first letter", "--attach", attachment, text)
	}
	var sent, got mail
	err := d.step("Alice sends; her node has it on disk", func() error {
		out, err := d.alice(append(args, "--wait", "accepted", "--timeout", "30s")...)
		if err != nil {
			return err
		}
		return json.Unmarshal([]byte(out), &sent)
	})
	if err != nil {
		return err
	}
	err = d.step("Bob's client takes it from his node: asmtp-cli sync", func() error { return d.arrive(&got) })
	if err != nil {
		return err
	}
	return d.look(sent, got)
}

// arrive syncs Bob until the mail is there.
func (d *demo) arrive(got *mail) error {
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		out, err := d.bob("sync", "--json")
		if err != nil {
			return err
		}
		if first, _, _ := strings.Cut(out, "\n"); first != "" {
			return json.Unmarshal([]byte(first), got)
		}
	}
	return fmt.Errorf("no mail arrived within %v", patience)
}

// look shows what Bob and Alice see, and checks that Alice sees the truth.
func (d *demo) look(sent, got mail) error {
	for _, c := range []struct {
		as   func(...string) (string, error)
		name string
		args []string
	}{
		{d.bob, "bob", []string{"inbox"}},
		{d.bob, "bob", []string{"read", got.ID}},
	} {
		out, err := c.as(c.args...)
		if err != nil {
			return err
		}
		show("asmtp-cli --home "+c.name+" "+strings.Join(c.args, " "), out)
	}
	err := d.step("Alice's client hears that Bob's device has it", func() error { return d.delivered(sent) })
	if err != nil {
		return err
	}
	out, err := d.alice("status", sent.ID)
	if err != nil {
		return err
	}
	show("asmtp-cli --home alice status "+sent.ID, out)
	return nil
}

func (d *demo) delivered(sent mail) error {
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		if _, err := d.alice("sync"); err != nil {
			return err
		}
		out, err := d.alice("status", sent.ID, "--json")
		if err != nil {
			return err
		}
		var m mail
		if err := json.Unmarshal([]byte(out), &m); err != nil {
			return err
		}
		if m.State == "delivered" || m.State == "read" {
			return nil
		}
	}
	return fmt.Errorf("the mail was not delivered within %v", patience)
}

// close stops the nodes and removes the folder, or says how to go on by hand.
func (d *demo) close(good bool) error {
	if d.keep && good {
		d.goOn()
		return nil
	}
	var errs []error
	for i := len(d.nodes) - 1; i >= 0; i-- {
		errs = append(errs, stopNode(d.nodes[i]))
	}
	errs = append(errs, os.RemoveAll(d.dir))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("clean up: %w", err)
	}
	fmt.Println("== all nodes stopped, nothing left behind")
	return nil
}

// stopNode ends a node as an operator would, and by force if it does not listen.
func stopNode(cmd *exec.Cmd) error {
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop a node: %w", err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("a node ended badly: %w", err)
		}
		return nil
	case <-time.After(20 * time.Second):
		return errors.Join(errors.New("a node did not stop within 20 s and was killed"), cmd.Process.Kill(), <-done)
	}
}

func (d *demo) goOn() {
	cli := filepath.Join(d.bin, "asmtp-cli")
	fmt.Printf(`
The nodes go on running. Their data, their logs and both accounts are in
  %[1]s
Try:
  %[2]s --home %[1]s/bob reply %[3]s
  %[2]s --home %[1]s/alice sync --follow
  %[4]s status --data %[1]s/node2
Stop them and remove everything:
  kill`, d.dir, cli, "ID", filepath.Join(d.bin, "asmtpd"))
	for _, n := range d.nodes {
		fmt.Printf(" %d", n.Process.Pid)
	}
	fmt.Printf("; rm -r %s\n", d.dir)
}
