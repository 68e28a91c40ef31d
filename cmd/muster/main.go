// Muster is a clustered, multi-tenant receiver for Prometheus remote write.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"syscall"

	"github.com/urfave/cli/v2"
)

// version is set by the linker.
var version = "dev"

func main() {
	// Everything this process makes is its user's alone.
	syscall.Umask(0o077)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args, stdio{os.Stdout, os.Stderr})
	stop()
	os.Exit(code)
}

// run is main without the process: it returns the exit code.
func run(ctx context.Context, argv []string, std stdio) int {
	app := newApp(std)
	args, err := arrange(app, argv)
	if err == nil {
		err = app.RunContext(ctx, args)
	} else {
		err = usageError(err)
	}
	return report(std, argv, err)
}

func newApp(std stdio) *cli.App {
	app := &cli.App{
		Name:            "muster",
		Usage:           "a clustered, multi-tenant receiver for Prometheus remote write",
		Version:         version,
		HideVersion:     true,
		HideHelpCommand: true, // arrange knows the word
		Writer:          std.out,
		ErrWriter:       std.err,
		Flags:           globalFlags(),
		Before:          knownOutput,
		ExitErrHandler:  func(*cli.Context, error) {}, // report prints, run exits
		OnUsageError:    toldByReport,
		Commands: []*cli.Command{
			serverCommand(std),
			clusterCommand(std),
			ringCommand(std),
			tenantCommand(std),
			tokenCommand(std),
			certCommand(std),
			settingsCommand(std),
			snapshotCommand(std),
			queryCommand(std),
			demoCommand(std), selftestCommand(std),
			completionCommand(std),
			versionCommand(std),
		},
	}
	ownWords(app.Commands)
	return app
}

// everywhere ends the help of every verb.
const everywhere = `
EVERYWHERE:
   --data-dir, --server, --token-file, --ca-file, -o json: see muster help
`

// ownWords takes from urfave/cli what it would do to each verb: a verb "help",
// which hides an argument of that name, and usage errors on stdout.
func ownWords(commands []*cli.Command) {
	for _, c := range commands {
		c.HideHelpCommand, c.OnUsageError = true, toldByReport
		c.CustomHelpTemplate = cli.SubcommandHelpTemplate + everywhere
		ownWords(c.Subcommands)
	}
}

func toldByReport(c *cli.Context, err error, _ bool) error {
	return usageError(flagError(c.Command, err))
}

// unparsed is how the flag package says that a value is not of its flag's type.
var unparsed = regexp.MustCompile(`^invalid value "(.*)" for flag -([a-z0-9.-]+): `)

// flagError says of a flag's value what it should have been.
func flagError(verb *cli.Command, err error) error {
	is := unparsed.FindStringSubmatch(err.Error())
	if is == nil || verb == nil {
		return err
	}
	want := "a whole number"
	switch named(verb.Flags, is[2]).(type) {
	case *cli.DurationFlag:
		want = "a duration such as 30s or 5m"
	case *cli.UintFlag, *cli.Uint64Flag:
		want = "a whole number from 0"
	case *cli.Float64Flag:
		want = "a number"
	case *cli.BoolFlag:
		want = "true or false"
	}
	return fmt.Errorf("--%s %q: want %s", is[2], is[1], want)
}

func knownOutput(c *cli.Context) error {
	if o := c.String("output"); o != "text" && o != "json" {
		return usageError(fmt.Errorf("-o %q: want text or json", o))
	}
	return nil
}

// globalFlags may stand anywhere on the command line.
func globalFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "data-dir", Usage: "folder of the node's data (default: /var/lib/muster where it exists, else ./data)", EnvVars: []string{"MUSTER_DATA_DIR"}},
		&cli.StringFlag{Name: "server", Usage: "operator door of a node, https://host:10902; without it the socket in the data folder is used", EnvVars: []string{"MUSTER_SERVER"}},
		&cli.StringFlag{Name: "token-file", Usage: "file with an operator token, for --server", EnvVars: []string{"MUSTER_TOKEN_FILE"}},
		&cli.StringFlag{Name: "ca-file", Usage: "CA certificates for --server; without it the token names the CA", EnvVars: []string{"MUSTER_CA_FILE"}},
		&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "text or json", Value: "text"},
	}
}

func versionCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:  "version",
		Usage: "print the version",
		Action: func(c *cli.Context) error {
			if wantsJSON(c) {
				return std.json(map[string]string{"version": version})
			}
			std.printf("muster %s\n", version)
			return nil
		},
	}
}
