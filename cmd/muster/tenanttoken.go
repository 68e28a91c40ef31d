package main

import (
	"errors"
	"net/http"
	"net/url"

	"github.com/urfave/cli/v2"
)

func tenantTokenCreate(std stdio) *cli.Command {
	return &cli.Command{
		Name: "create", Usage: "make a token for the tenant; it is shown once", ArgsUsage: "ID", Flags: mutationFlags(ttlFlag("never")),
		Action: func(c *cli.Context) error {
			id, err := oneArg(c, "the tenant's id")
			if err != nil {
				return err
			}
			return createToken(c, std, tenantPath(id)+"/tokens", withTTL(c, map[string]any{}))
		},
	}
}

func tenantTokenList(std stdio) *cli.Command {
	return &cli.Command{
		Name: "list", Usage: "the tenant's tokens, without their secrets", ArgsUsage: "ID",
		Action: func(c *cli.Context) error {
			id, err := oneArg(c, "the tenant's id")
			if err != nil {
				return err
			}
			return listTokens(c, std, tenantPath(id)+"/tokens", "no tokens: `muster tenant token create "+id+"` makes one")
		},
	}
}

func tenantTokenRevoke(std stdio) *cli.Command {
	return &cli.Command{
		Name: "revoke", Usage: "end a token", ArgsUsage: "ID TOKEN-ID", Flags: mutationFlags(),
		Action: func(c *cli.Context) error {
			if c.NArg() != 2 {
				return usageError(errors.New("muster tenant token revoke wants two arguments: the tenant's id and the token's id"))
			}
			id, token := c.Args().Get(0), c.Args().Get(1)
			return act(c, std, "revoked token "+token, request{method: http.MethodDelete, path: tenantPath(id) + "/tokens/" + url.PathEscape(token)})
		},
	}
}
