package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"
)

// completionCommand prints a script that lets a shell complete verbs and flags.
func completionCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:        "completion",
		Usage:       "print a script for the shell: bash, zsh or fish",
		ArgsUsage:   "bash|zsh|fish",
		Description: "bash: source <(muster completion bash)\nzsh:  source <(muster completion zsh)\nfish: muster completion fish | source",
		Action: func(c *cli.Context) error {
			verbs := verbsOf("", c.App.Commands, c.App.Flags)
			switch {
			case c.NArg() == 1 && c.Args().First() == "bash":
				std.printf("%s", bashCompletion(verbs))
			case c.NArg() == 1 && c.Args().First() == "zsh":
				std.printf("autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit\n%s", bashCompletion(verbs))
			case c.NArg() == 1 && c.Args().First() == "fish":
				std.printf("%s", fishCompletion(verbs))
			default:
				return usageError(errors.New("muster completion wants a shell: bash, zsh or fish"))
			}
			return nil
		},
	}
}

// verb is a place on the command line, and what may follow there.
type verb struct {
	path  string // "cluster status"; "" before the first verb
	words []string
}

func verbsOf(path string, commands []*cli.Command, flags []cli.Flag) []verb {
	at := verb{path: path}
	var below []verb
	for _, c := range commands {
		if c.Hidden {
			continue
		}
		at.words = append(at.words, c.Name)
		below = append(below, verbsOf(strings.TrimSpace(path+" "+c.Name), c.Subcommands, c.Flags)...)
	}
	for _, f := range flags {
		at.words = append(at.words, "--"+f.Names()[0])
	}
	if path == "completion" {
		at.words = append(at.words, "bash", "zsh", "fish")
	}
	return append([]verb{at}, below...)
}

func bashCompletion(verbs []verb) string {
	var known, cases strings.Builder
	for i, v := range verbs {
		if i > 0 {
			if i > 1 {
				known.WriteByte('|')
			}
			fmt.Fprintf(&known, "%q", v.path)
		}
		fmt.Fprintf(&cases, "    %q) words=%q ;;\n", v.path, strings.Join(v.words, " "))
	}
	return `_muster() {
  local at="" words="" next i
  for ((i = 1; i < COMP_CWORD; i++)); do
    next="${at:+$at }${COMP_WORDS[i]}"
    case "$next" in
    ` + known.String() + `) at="$next" ;;
    esac
  done
  case "$at" in
` + cases.String() + `  esac
  COMPREPLY=($(compgen -W "$words" -- "${COMP_WORDS[COMP_CWORD]}"))
  [ ${#COMPREPLY[@]} -gt 0 ] || COMPREPLY=($(compgen -f -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -F _muster muster
`
}

func fishCompletion(verbs []verb) string {
	var out strings.Builder
	out.WriteString("function __muster_at\n  set -l at\n  for word in (commandline -opc)[2..]\n    switch \"$at $word\"\n      case")
	for _, v := range verbs[1:] {
		fmt.Fprintf(&out, " ' %s'", v.path)
		if !strings.Contains(v.path, " ") {
			continue
		}
		fmt.Fprintf(&out, " '%s'", v.path)
	}
	out.WriteString("\n        set at (string trim \"$at $word\")\n    end\n  end\n  test \"$at\" = \"$argv\"\nend\n")
	for _, v := range verbs {
		if len(v.words) > 0 {
			fmt.Fprintf(&out, "complete -c muster -n '__muster_at \"%s\"' -a '%s'\n", v.path, strings.Join(v.words, " "))
		}
	}
	return out.String()
}
