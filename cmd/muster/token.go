package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

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
					ttlFlag("1h for a node, never for others"),
					dryRunFlag(), requestIDFlag(), // a new token has no version
				},
				Action: func(c *cli.Context) error {
					if c.String("role") == "" {
						return usageError(errors.New("muster token create wants --role node, viewer, operator or admin"))
					}
					return createToken(c, std, "/api/v1/tokens", withTTL(c, map[string]any{"role": c.String("role")}))
				},
			},
			{
				Name: "list", Usage: "the tokens, without their secrets",
				Action: func(c *cli.Context) error {
					return listTokens(c, std, "/api/v1/tokens", "no tokens: `muster token create` makes one")
				},
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

// ttlFlag is how long a token lives.
func ttlFlag(otherwise string) cli.Flag {
	return &cli.StringFlag{Name: "ttl", Aliases: []string{"expires"}, Usage: "how long it is valid, such as 1h or 30d", DefaultText: otherwise}
}

func withTTL(c *cli.Context, body map[string]any) map[string]any {
	if ttl := c.String("ttl"); ttl != "" {
		body["expires"] = ttl
	}
	return body
}

// createToken asks for a token and prints it alone on stdout, so that a script
// may keep it.
func createToken(c *cli.Context, std stdio, path string, body any) error {
	cl, err := newClient(c)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.Context, commandTimeout)
	defer cancel()
	raw, _, err := cl.raw(ctx, mutation(c, request{method: http.MethodPost, path: path, body: body}))
	if err != nil || wantsJSON(c) {
		return orJSON(std, raw, err)
	}
	var t struct{ ID, Token, Expires string }
	if err := json.Unmarshal(raw, &t); err != nil {
		return err
	}
	if c.Bool("dry-run") {
		std.said("made a token", applied{DryRun: true})
		return nil
	}
	std.notef("token %s, shown this once", t.ID)
	if t.Expires != "" {
		std.notef(", until %s", t.Expires)
	}
	std.notef(":\n")
	std.printf("%s\n", t.Token)
	return nil
}

// listedToken is a token without its secret.
type listedToken struct {
	ID      string `json:"id"`
	Role    string `json:"role"`
	Tenant  string `json:"tenant"`
	Created string `json:"created"`
	By      string `json:"created_by"`
	Expires string `json:"expires"`
	Expired bool   `json:"expired"`
	UsedBy  string `json:"used_by"`
}

// listTokens shows tokens of nodes and people, or of one tenant.
func listTokens(c *cli.Context, std stdio, path, none string) error {
	if wantsJSON(c) {
		return show(c, std, path)
	}
	cl, err := newClient(c)
	if err != nil {
		return err
	}
	var all struct {
		Tokens []listedToken `json:"tokens"`
	}
	if err := cl.do(c.Context, request{method: http.MethodGet, path: path}, &all); err != nil {
		return err
	}
	if len(all.Tokens) == 0 {
		std.notef("%s\n", none)
		return nil
	}
	slices.SortFunc(all.Tokens, func(a, b listedToken) int {
		return cmp.Or(strings.Compare(a.Role, b.Role), strings.Compare(a.Created, b.Created), strings.Compare(a.ID, b.ID))
	})
	rows := make([][]string, 0, len(all.Tokens))
	for _, t := range all.Tokens {
		state, role := "valid", t.Role
		switch {
		case t.Expired:
			state = "expired"
		case t.UsedBy != "":
			state = "used by " + t.UsedBy
		}
		if t.Tenant != "" {
			role = "tenant"
		}
		expires := t.Expires
		if expires == "" {
			expires = "never"
		}
		rows = append(rows, []string{t.ID, role, state, t.Created, dash(t.By), expires})
	}
	std.table([]string{"ID", "ROLE", "STATE", "CREATED", "BY", "EXPIRES"}, rows)
	return nil
}
