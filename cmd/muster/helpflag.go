package main

import (
	"flag"

	"github.com/urfave/cli/v2"
)

// helpFlag is --help for every command of every app in this process. The
// library keeps one for all and writes to it whenever a command begins, which
// commands that run side by side must not see.
type helpFlag struct{ *cli.BoolFlag }

// Apply writes to a copy.
func (f helpFlag) Apply(set *flag.FlagSet) error {
	own := *f.BoolFlag
	return own.Apply(set)
}

func init() {
	cli.HelpFlag = helpFlag{&cli.BoolFlag{Name: "help", Aliases: []string{"h"}, Usage: "show help", DisableDefaultText: true}}
}
