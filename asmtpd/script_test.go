package main_test

import (
	"os"
	"testing"

	"github.com/asmtp/asmtp/internal/asmtptest/programs"
)

func TestMain(m *testing.M) { os.Exit(programs.Main(m)) }

// The operator's commands do what docs/operating.md says, with real processes.
func TestScripts(t *testing.T) { programs.Scripts(t, "testdata") }
