package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/urfave/cli/v2"
)

// tenantMoveFlags are those of `tenant set` that move a tenant to another ring.
func tenantMoveFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "ring", Usage: "move it to this ring, in one step; goes with no other field"},
		&cli.BoolFlag{Name: "delete-emptied", Usage: "with --ring: delete the ring that claims nobody else, in the same step"},
	}
}

// moveTenant moves a tenant to a ring. It is a change of its own, of the rings'
// claims: together with another one it would not be made at one revision.
func moveTenant(c *cli.Context, std stdio, id string) error {
	ring := c.String("ring")
	if ring == "" {
		return usageError(errors.New("--delete-emptied wants --ring RING"))
	}
	others := map[string]any{}
	if overlay(c, others); len(others) > 0 || c.IsSet("relabel") {
		return usageError(errors.New("--ring is a change of its own: set the other fields before or after it"))
	}
	body := struct {
		Ring          string `json:"ring"`
		DeleteEmptied bool   `json:"delete_emptied,omitempty"`
	}{ring, c.Bool("delete-emptied")}
	return act(c, std, "moved tenant "+id+" to ring "+ring, request{method: http.MethodPut, path: tenantPath(id) + "/ring", body: body})
}

// tenantRing shows where a tenant's series go, and where they went before.
func tenantRing(std stdio) *cli.Command {
	return &cli.Command{
		Name: "ring", Usage: "the ring that a tenant's series go to, and those before it", ArgsUsage: "ID",
		Action: func(c *cli.Context) error {
			id, err := oneArg(c, "the tenant's id")
			if err != nil {
				return err
			}
			cl, err := newClient(c)
			if err != nil {
				return err
			}
			raw, _, err := cl.raw(c.Context, request{method: http.MethodGet, path: tenantPath(id) + "/ring"})
			if err != nil {
				return err
			}
			if wantsJSON(c) {
				return std.json(json.RawMessage(raw))
			}
			return std.routes(raw)
		},
	}
}

// routes draws a tenant's rings, the newest first.
func (s stdio) routes(raw []byte) error {
	var a struct {
		ID, Ring, Claim, Since string
		Past                   []struct{ Ring, From, To, Closed string }
	}
	if err := json.Unmarshal(raw, &a); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	claim := "claims it as " + a.Claim
	if a.Claim == "" {
		claim = "takes the tenants that no other ring claims"
	}
	s.printf("TENANT %s  ring %s, which %s\n\n", a.ID, dash(a.Ring), claim)
	rows := [][]string{{dash(a.Ring), a.Since, "now", "-"}}
	for i := len(a.Past) - 1; i >= 0; i-- {
		p := a.Past[i]
		closed := p.Closed
		if closed == "" {
			closed = "not yet"
		}
		rows = append(rows, []string{dash(p.Ring), p.From, p.To, closed})
	}
	s.table([]string{"RING", "FROM", "TO", "CLOSED"}, rows)
	if len(a.Past) > 0 {
		s.printf("What was written by a former ring is read from its nodes until it is in the bucket and gone from their disks.\n")
	}
	return nil
}
