package main_test

import (
	"os"
	"testing"

	"github.com/asmtp/asmtp/internal/asmtptest/scripts"
)

func TestMain(m *testing.M) { os.Exit(scripts.Main(m)) }

// The operator's commands do what docs/operating.md says, with real processes.
func TestScripts(t *testing.T) { scripts.Run(t, "testdata") }
