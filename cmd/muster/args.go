package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// arrange puts the words of a command line into the one order that urfave/cli
// reads: global flags, verbs, the verb's flags, arguments. So a person may
// write `muster cluster status -o json --data-dir d` and `muster ring create
// hard --nodes n1` as well as any other order. `muster help ring create` is
// `muster ring create --help`.
func arrange(app *cli.App, argv []string) ([]string, error) {
	var (
		globals, verbs, flags, args []string
		commands                    = app.Commands
		leaf                        *cli.Command
		help                        bool
	)
	for i := 1; i < len(argv); i++ {
		word := argv[i]
		switch {
		case word == "--":
			args = append(args, argv[i+1:]...)
			i = len(argv)
		case len(word) < 2 || word[0] != '-':
			next := find(commands, word)
			if next == nil && word == "help" && len(commands) > 0 {
				help = true
				continue
			}
			if next == nil || len(args) > 0 {
				args = append(args, word)
				continue
			}
			leaf, commands = next, next.Subcommands
			verbs = append(verbs, word)
		case word == "-h" || word == "--help":
			help = true
		default:
			taken, global, err := flagWords(app, leaf, argv[i:])
			if err != nil {
				return nil, err
			}
			if global {
				globals = append(globals, taken...)
			} else {
				flags = append(flags, taken...)
			}
			i += len(taken) - 1
		}
	}
	if leaf != nil && len(leaf.Subcommands) > 0 && len(args) > 0 {
		return nil, fmt.Errorf("muster %s has no verb %q", strings.Join(verbs, " "), args[0])
	}
	if leaf == nil && len(args) > 0 {
		return nil, fmt.Errorf("muster has no verb %q", args[0])
	}
	if help { // of the verb, whatever else was typed
		return slices.Concat(argv[:1], verbs, []string{"--help"}), nil
	}
	if leaf != nil && leaf.ArgsUsage == "" && len(args) > 0 {
		return nil, fmt.Errorf("%q: muster %s takes no argument", args[0], strings.Join(verbs, " "))
	}
	out := slices.Concat(argv[:1], globals, verbs, flags)
	if len(args) > 0 {
		out = append(append(out, "--"), args...)
	}
	return out, nil
}

// flagWords are the one or two words of the flag that words begin with.
func flagWords(app *cli.App, leaf *cli.Command, words []string) (taken []string, global bool, err error) {
	name, _, joined := strings.Cut(strings.TrimLeft(words[0], "-"), "=")
	f := named(leafFlags(leaf), name)
	if f == nil {
		if f = named(app.Flags, name); f == nil {
			return nil, false, fmt.Errorf("flag %s is not known here; an argument that begins with - stands after --", words[0])
		}
		global = true
	}
	if _, isBool := f.(*cli.BoolFlag); isBool || joined {
		return words[:1], global, nil
	}
	if len(words) < 2 || isFlag(app, leaf, words[1]) {
		return nil, false, fmt.Errorf("flag %s wants a value", words[0])
	}
	return words[:2], global, nil
}

// isFlag says whether a word is a flag that is known here, which then is no
// flag's value: `token create --role --data-dir d` has forgotten the role.
func isFlag(app *cli.App, leaf *cli.Command, word string) bool {
	name, found := strings.CutPrefix(word, "--")
	name, _, _ = strings.Cut(name, "=")
	return found && (named(leafFlags(leaf), name) != nil || named(app.Flags, name) != nil)
}

func leafFlags(leaf *cli.Command) []cli.Flag {
	if leaf == nil {
		return nil
	}
	return leaf.Flags
}

func named(flags []cli.Flag, name string) cli.Flag {
	for _, f := range flags {
		if slices.Contains(f.Names(), name) {
			return f
		}
	}
	return nil
}

func find(commands []*cli.Command, name string) *cli.Command {
	for _, c := range commands {
		if c.HasName(name) {
			return c
		}
	}
	return nil
}
