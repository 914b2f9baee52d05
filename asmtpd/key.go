package main

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/asmtp/asmtp/internal/cli"
	"github.com/asmtp/asmtp/internal/durable"
	"github.com/asmtp/asmtp/noise"
)

// passwordEnv is the variable that holds the password of the node's key, as in the reference.
const passwordEnv = "ASMTPD_KEY_PASSWORD"

// maxPassword bounds what is read from a password file.
const maxPassword = 4096

func newGenerateKeyCommand() *cobra.Command {
	var output, passwordFile string
	var noPassword bool
	cmd := &cobra.Command{
		Use:   "generate-new-key",
		Short: "make the node's key and print its public id",
		Long: `Makes the entropy file from which, together with a password, the node's key comes,
and prints the node's public id. The password is asked for on a terminal; elsewhere it
comes from --password-file or ASMTPD_KEY_PASSWORD. Keep both: without either of them the
node cannot be the same node again.`,
		Example: "  asmtpd generate-new-key --entropy-output entropy.txt",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			password, err := newPassword(cmd, passwordFile, noPassword)
			if err != nil {
				return err
			}
			key, err := makeEntropy(output, password)
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), key.Public())
			return nil
		},
	}
	cmd.Flags().StringVar(&output, "entropy-output", "entropy.txt", "write the entropy to `FILE`, which must not exist")
	cmd.Flags().StringVar(&passwordFile, "password-file", "", "take the password from `FILE`")
	cmd.Flags().BoolVar(&noPassword, "no-password", false, "use no password: the entropy file alone is the key")
	return cmd
}

// makeEntropy writes a new entropy file and returns the key of it. An existing file
// is never overwritten: it is some node's identity.
func makeEntropy(path, password string) (*noise.PrivateKey, error) {
	entropy := make([]byte, noise.EntropySize)
	if _, err := rand.Read(entropy); err != nil {
		return nil, err
	}
	// The reference fails on a trailing newline, so there is none.
	err := durable.WriteNew(path, []byte(hex.EncodeToString(entropy)))
	if errors.Is(err, os.ErrExist) {
		return nil, hintError{&os.PathError{Op: "make", Path: path, Err: os.ErrExist}, "it may be the key of a node; choose another file with --entropy-output"}
	}
	if err != nil {
		return nil, err
	}
	return noise.NodeKey(entropy, password)
}

// loadKey reads an entropy file and returns the key of it and password.
func loadKey(path, password string) (*noise.PrivateKey, error) {
	b, err := cli.ReadFile(path, 2*noise.EntropySize+2)
	if err != nil {
		return nil, err
	}
	entropy, err := hex.DecodeString(string(bytes.TrimSpace(b)))
	if err != nil || len(entropy) != noise.EntropySize {
		return nil, hintError{
			fmt.Errorf("%s is no entropy file: want %d hex digits and nothing else", path, 2*noise.EntropySize),
			`take the file from a backup, or make a new node with "asmtpd generate-new-key"`,
		}
	}
	return noise.NodeKey(entropy, password)
}

// keyPassword finds the password of an existing key: the file of the configuration,
// the environment, a terminal, or none.
func keyPassword(file string) (string, error) {
	if file != "" {
		return passwordFromFile(file)
	}
	if p, ok := os.LookupEnv(passwordEnv); ok {
		return p, nil
	}
	if term.IsTerminal(int(os.Stdin.Fd())) {
		return ask("password of the node's key (empty if it has none): ")
	}
	return "", nil
}

// newPassword finds the password for a new key.
func newPassword(cmd *cobra.Command, file string, none bool) (string, error) {
	if none {
		return "", nil
	}
	if file != "" {
		return passwordFromFile(file)
	}
	if p, ok := os.LookupEnv(passwordEnv); ok {
		return p, nil
	}
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return "", hintError{errors.New("there is no terminal to ask for a password"),
			"give --password-file FILE, set " + passwordEnv + ", or give --no-password"}
	}
	p, err := askTwice("new password: ")
	if err == nil && p == "" {
		return "", hintError{errors.New("the password is empty; nothing was made"), "give --no-password if that is what you want"}
	}
	return p, err
}

func askTwice(prompt string) (string, error) {
	first, err := ask(prompt)
	if err != nil {
		return "", err
	}
	again, err := ask("once more: ")
	if err != nil {
		return "", err
	}
	if first != again {
		return "", errors.New("the two passwords differ; nothing was made")
	}
	return first, nil
}

func ask(prompt string) (string, error) {
	fmt.Fprint(os.Stderr, prompt)
	b, err := term.ReadPassword(int(os.Stdin.Fd()))
	fmt.Fprintln(os.Stderr)
	return string(b), err
}

func passwordFromFile(path string) (string, error) {
	b, err := cli.ReadFile(path, maxPassword)
	if err != nil {
		return "", fmt.Errorf("read the password: %w", err)
	}
	return strings.TrimRight(string(b), "\r\n"), nil
}
