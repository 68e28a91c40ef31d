package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/urfave/cli/v2"
)

func settingsCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:  "settings",
		Usage: "what holds for the whole cluster",
		Subcommands: []*cli.Command{
			{
				Name: "show", Usage: "print the settings",
				Action: func(c *cli.Context) error { return show(c, std, "/api/v1/settings") },
			},
			{
				Name: "set", Usage: "change settings: FIELD=VALUE, tenant_defaults.retention=30d", ArgsUsage: "FIELD=VALUE ...",
				Flags: mutationFlags(),
				Action: func(c *cli.Context) error {
					if c.NArg() == 0 {
						return usageError(errors.New("muster settings set wants FIELD=VALUE"))
					}
					return setSettings(c, std)
				},
			},
		},
	}
}

// setSettings reads the settings, lays the assignments over them, and writes
// them back if nobody else did in between.
func setSettings(c *cli.Context, std stdio) error {
	cl, err := newClient(c)
	if err != nil {
		return err
	}
	var settings map[string]any
	if err := cl.do(c.Context, request{method: http.MethodGet, path: "/api/v1/settings"}, &settings); err != nil {
		return err
	}
	v, _ := settings["version"].(float64)
	version := int64(v)
	for _, computed := range []string{"version", "changed", "changed_by"} {
		delete(settings, computed)
	}
	for _, a := range c.Args().Slice() {
		field, value, ok := strings.Cut(a, "=")
		if !ok {
			return usageError(fmt.Errorf("%q: want FIELD=VALUE", a))
		}
		if err := assign(settings, strings.Split(field, "."), value); err != nil {
			return usageError(fmt.Errorf("%q: %w", a, err))
		}
	}
	return act(c, std, "changed the settings", request{method: http.MethodPut, path: "/api/v1/settings", body: settings, ifVersion: &version})
}

// assign sets a field, which may lie in an object; values that read as JSON
// are numbers and booleans, all others text.
func assign(object map[string]any, path []string, value string) error {
	for len(path) > 1 {
		inner, ok := object[path[0]].(map[string]any)
		if !ok {
			return fmt.Errorf("settings have no object %s", path[0])
		}
		object, path = inner, path[1:]
	}
	var v any
	if err := json.Unmarshal([]byte(value), &v); err != nil {
		v = value
	}
	object[path[0]] = v
	return nil
}
