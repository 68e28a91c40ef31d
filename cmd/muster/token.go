package main

import (
	"errors"
	"net/http"
	"net/url"

	"github.com/urfave/cli/v2"
)

func tokenCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:  "token",
		Usage: "tokens that let nodes and people in",
		Subcommands: []*cli.Command{
			{
				Name: "create", Usage: "make a token; it is shown once",
				Flags: []cli.Flag{
					&cli.StringFlag{Name: "role", Usage: "node, viewer, operator or admin"},
					&cli.StringFlag{Name: "expires", Usage: "such as 1h or 30d (node: 1h; others: never)"},
					dryRunFlag(),
				},
				Action: func(c *cli.Context) error {
					if c.String("role") == "" {
						return usageError(errors.New("muster token create wants --role node, viewer, operator or admin"))
					}
					body := map[string]any{"role": c.String("role")}
					if e := c.String("expires"); e != "" {
						body["expires"] = e
					}
					return createToken(c, std, "/api/v1/tokens", body)
				},
			},
			{
				Name: "list", Usage: "the tokens, without their secrets",
				Action: func(c *cli.Context) error { return show(c, std, "/api/v1/tokens") },
			},
			{
				Name: "revoke", Usage: "end a token", ArgsUsage: "ID", Flags: mutationFlags(),
				Action: func(c *cli.Context) error {
					id, err := oneArg(c, "the token's id")
					if err != nil {
						return err
					}
					return act(c, std, "revoked token "+id, request{method: http.MethodDelete, path: "/api/v1/tokens/" + url.PathEscape(id)})
				},
			},
		},
	}
}
