package main

import (
	"fmt"
	"os"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/muster-metrics/muster/cmd/muster/selftest"
)

func selftestCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:  "selftest",
		Usage: "prove on this machine that three nodes keep what they acknowledge",
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return usageError(fmt.Errorf("%s wants no argument", c.Command.HelpName))
			}
			self, err := os.Executable()
			if err != nil {
				return err
			}
			return std.selftest(c, self)
		},
	}
}

// selftest says each step when it has ended.
func (s stdio) selftest(c *cli.Context, binary string) error {
	type step struct {
		Step    string  `json:"step"`
		OK      bool    `json:"ok"`
		Seconds float64 `json:"seconds"`
	}
	steps := []step{}
	err := selftest.Run(c.Context, selftest.Config{Binary: binary, Told: func(what string, took time.Duration, err error) {
		steps = append(steps, step{what, err == nil, took.Seconds()})
		if !wantsJSON(c) && err == nil {
			s.printf("ok  %s (%.1f s)\n", what, took.Seconds())
		}
	}})
	if wantsJSON(c) {
		if perr := s.json(map[string]any{"ok": err == nil, "steps": steps}); perr != nil {
			return perr
		}
	} else if err == nil {
		s.printf("This machine and this muster do what they promise.\n")
	}
	return err
}
