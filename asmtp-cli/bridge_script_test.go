package main_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/smtp"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// bridgeAddresses is what "bridge --json" prints.
type bridgeAddresses struct{ IMAP, SMTP, Fingerprint string }

// startBridge starts a bridge and returns where it listens.
func startBridge(cmd *exec.Cmd) (*scriptNode, bridgeAddresses, error) {
	n := &scriptNode{cmd: cmd, stderr: new(bytes.Buffer), done: make(chan error, 1)}
	cmd.Stderr = n.stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, bridgeAddresses{}, err
	}
	if err := cmd.Start(); err != nil {
		return nil, bridgeAddresses{}, err
	}
	var says bridgeAddresses
	err = json.NewDecoder(out).Decode(&says)
	go func() { n.done <- cmd.Wait() }()
	if err != nil {
		_ = cmd.Process.Kill() // it may have ended already
		<-n.done
		return nil, says, fmt.Errorf("%w\n%s", err, n.stderr)
	}
	return n, says, nil
}

// cmdBridge starts a bridge on free ports. It ends as nodes do.
func cmdBridge(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: bridge NAME [ARGS]")
	}
	n, says, err := startBridge(command(context.Background(), ts, append([]string{"asmtp-cli", "bridge", "--imap", "127.0.0.1:0", "--smtp", "127.0.0.1:0", "--json"}, args[1:]...)))
	if err != nil {
		ts.Fatalf("bridge %s: %v", args[0], err)
	}
	ts.Value("nodes").(*scriptNodes).byName[args[0]] = n
	ts.Setenv("IMAP_"+args[0], says.IMAP)
	ts.Setenv("SMTP_"+args[0], says.SMTP)
}

// cmdMail sends a file by SMTP.
func cmdMail(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 6 {
		ts.Fatalf("usage: mail SERVER USER PASSWORD FROM TO FILE")
	}
	text := strings.ReplaceAll(ts.ReadFile(args[5]), "\n", "\r\n")
	err := sendMail(args[0], smtp.PlainAuth("", args[1], args[2], "127.0.0.1"), args[3], args[4], text)
	if err != nil {
		fmt.Fprintln(ts.Stdout(), err)
	}
	if (err != nil) != neg {
		ts.Fatalf("mail: %v", err)
	}
}

// sendMail is smtp.SendMail without STARTTLS, whose certificate nobody has confirmed here.
func sendMail(server string, auth smtp.Auth, from, to, text string) error {
	c, err := smtp.Dial(server)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Auth(auth); err != nil {
		return err
	}
	if err := c.Mail(from); err != nil {
		return err
	}
	if err := c.Rcpt(to); err != nil {
		return err
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := io.WriteString(w, text); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return c.Quit()
}

// cmdFolder waits until the mails of a folder match, as a mail program reads them.
func cmdFolder(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 5 {
		ts.Fatalf("usage: folder REGEXP SERVER USER PASSWORD NAME")
	}
	want, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	conn, err := net.Dial("tcp", args[1])
	ts.Check(err)
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	in := bufio.NewReader(conn)
	do := func(tag, command string) string {
		fmt.Fprintf(conn, "%s %s\r\n", tag, command)
		var all strings.Builder
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				ts.Fatalf("%s: %v", command, err)
			}
			if rest, ok := strings.CutPrefix(line, tag+" "); ok {
				if !strings.HasPrefix(rest, "OK") {
					ts.Fatalf("%s: %s", strings.Fields(command)[0], rest)
				}
				return all.String()
			}
			all.WriteString(line)
		}
	}
	do("a", fmt.Sprintf("LOGIN %q %q", args[2], args[3]))
	do("b", fmt.Sprintf("SELECT %q", args[4]))
	for got := ""; ; {
		if got = do("c", "UID FETCH 1:* (FLAGS BODY.PEEK[])"); want.MatchString(got) {
			return
		}
		// Wait for news.
		fmt.Fprint(conn, "d IDLE\r\n")
		for line := ""; !strings.Contains(line, "EXISTS"); {
			if line, err = in.ReadString('\n'); err != nil {
				ts.Fatalf("no match for %q: %v; last:\n%s", args[0], err, got)
			}
		}
		fmt.Fprint(conn, "DONE\r\n")
		for line := ""; !strings.HasPrefix(line, "d OK"); {
			line, err = in.ReadString('\n')
			ts.Check(err)
		}
	}
}

// Every mail that was answered 250 is in the outbox after the bridge was killed, in any
// moment, on several connections.
func TestKilledBridgeKeepsWhatItAnswered(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	home := t.TempDir()
	prepare := func(args ...string) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), filepath.Join(binaries, "asmtp-cli"), args...)
		cmd.Env = append(os.Environ(), "ASMTP_HOME="+filepath.Join(home, "alice"), "HOME="+home, "XDG_DATA_HOME=")
		return cmd
	}
	run := func(args ...string) []byte {
		out, err := prepare(args...).Output()
		if err != nil {
			t.Fatalf("%v: %v", args, err)
		}
		return out
	}
	run("init", "--name", "alice", "--no-passphrase")
	run("contact", "add", "bob", "00112233445566778899aabbccddeeff") // mail for it waits
	var login struct{ User, Password string }
	if err := json.Unmarshal(run("bridge", "password", "--json"), &login); err != nil {
		t.Fatal(err)
	}
	n, at, err := startBridge(prepare("bridge", "--imap", "off", "--smtp", "127.0.0.1:0", "--json"))
	if err != nil {
		t.Fatal(err)
	}
	defer n.cmd.Process.Kill() // does nothing once it has ended
	answers := make(chan string, 1024)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() { sendUntilCut(at.SMTP, login.User, login.Password, answers) })
	}
	var ids []string
	for id := range answers {
		if ids = append(ids, id); len(ids) == 40 {
			n.cmd.Process.Kill()
			go func() { wg.Wait(); close(answers) }()
		}
		if len(ids) > 1000 {
			t.Fatal("it goes on")
		}
	}
	<-n.done
	inOutbox := make(map[string]bool)
	queue := json.NewDecoder(bytes.NewReader(run("queue", "--json")))
	for {
		var q struct{ ID string }
		if err := queue.Decode(&q); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		inOutbox[q.ID] = true
	}
	for _, id := range ids {
		if !inOutbox[id] {
			t.Errorf("%s was answered 250 and is lost", id)
		}
	}
}

// sendUntilCut sends mails over one connection until it breaks, and reports the ids.
func sendUntilCut(addr, user, password string, answers chan<- string) {
	c, err := smtp.Dial(addr)
	if err != nil {
		return
	}
	defer c.Close()
	if c.Auth(smtp.PlainAuth("", user, password, "127.0.0.1")) != nil {
		return
	}
	for {
		for _, step := range []struct {
			command string
			code    int
		}{{"MAIL FROM:<alice@asmtp>", 250}, {"RCPT TO:<bob@asmtp>", 250}, {"DATA", 354}, {"Subject: x\r\n\r\ntext\r\n.", 250}} {
			if _, err := c.Text.Cmd("%s", step.command); err != nil {
				return
			}
			_, text, err := c.Text.ReadResponse(step.code)
			if err != nil {
				return
			}
			if _, id, ok := strings.Cut(text, "queued as "); ok {
				answers <- id
			}
		}
	}
}
