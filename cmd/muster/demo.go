package main

import (
	"errors"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/muster-metrics/muster/cmd/muster/demo"
)

func demoCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:  "demo",
		Usage: "a three-node cluster on this machine with live samples",
		Flags: []cli.Flag{
			&cli.DurationFlag{Name: "duration", Usage: "end after this time, with a verdict; exit 0 iff all is as it should be"},
			&cli.BoolFlag{Name: "keep", Usage: "leave data and logs in place"},
		},
		Action: func(c *cli.Context) error {
			self, err := os.Executable()
			if err != nil {
				return err
			}
			err = demo.Run(c.Context, demo.Config{
				Binary: self, Duration: c.Duration("duration"), Keep: c.Bool("keep"), Out: std.out, Live: isTerminal(std.out),
			})
			if errors.Is(err, demo.ErrVerdict) {
				return errQuiet{exitFailed}
			}
			return err
		},
		Subcommands: []*cli.Command{{
			Name: "scraper", Hidden: true, Usage: "the demo's writer where no prometheus is on the PATH",
			Flags: []cli.Flag{
				&cli.StringFlag{Name: "config", Required: true},
				&cli.StringFlag{Name: "dir", Required: true},
			},
			Action: func(c *cli.Context) error {
				return demo.Scrape(c.Context, c.String("config"), c.String("dir"))
			},
		}},
	}
}

// isTerminal says whether a person watches.
func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0
}
