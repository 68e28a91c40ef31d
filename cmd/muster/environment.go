package main

import (
	"strings"

	"github.com/urfave/cli/v2"
)

// fromEnvironment lets flag --a.b-c be MUSTER_A_B_C as well.
func fromEnvironment(f cli.Flag) {
	name := "MUSTER_" + strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(f.Names()[0]))
	switch f := f.(type) {
	case *cli.StringFlag:
		f.EnvVars = []string{name}
	case *cli.BoolFlag:
		f.EnvVars = []string{name}
	case *cli.DurationFlag:
		f.EnvVars = []string{name}
	}
}
