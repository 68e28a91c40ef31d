package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"

	"github.com/urfave/cli/v2"
)

func tenantCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:  "tenant",
		Usage: "the tenants, their limits and their tokens",
		Subcommands: []*cli.Command{
			tenantList(std), tenantShow(std), tenantPut(std, true), tenantPut(std, false), tenantDelete(std), tenantApply(std), tenantRing(std),
			{
				Name: "token", Usage: "the tenant's credentials",
				Subcommands: []*cli.Command{tenantTokenCreate(std), tenantTokenList(std), tenantTokenRevoke(std)},
			},
		},
	}
}

func tenantPath(id string) string { return "/api/v1/tenants/" + url.PathEscape(id) }

// tenantLimits maps the flags of a tenant to the fields of its limits.
var tenantLimits = map[string]string{
	"active-series": "active_series", "new-series-per-second": "new_series_per_second",
	"samples-per-second": "samples_per_second", "burst-samples": "burst_samples",
	"request-bytes": "request_bytes", "series-per-request": "series_per_request",
	"samples-per-request": "samples_per_request", "label-names-per-series": "label_names_per_series",
	"label-name-length": "label_name_length", "label-value-length": "label_value_length",
	"exemplars": "exemplars",
}

// tenantTimes maps the flags that are durations to the tenant's fields.
var tenantTimes = map[string]string{
	"retention": "retention", "out-of-order-window": "out_of_order_window", "future-window": "future_window",
}

func tenantPut(std stdio, create bool) *cli.Command {
	flags := mutationFlags(&cli.StringFlag{Name: "state", Usage: "active or suspended"})
	for _, name := range sortedKeys(tenantTimes) {
		flags = append(flags, &cli.StringFlag{Name: name, Usage: "such as 15d or 2h; default: the settings'"})
	}
	for _, name := range sortedKeys(tenantLimits) {
		flags = append(flags, &cli.Int64Flag{Name: name, Usage: "limit; 0: none; default: the settings'"})
	}
	flags = append(flags, &cli.StringFlag{Name: "relabel", Usage: "file with a list of Prometheus' relabel rules, - for stdin; [] for none; default: the settings'"})
	cmd, done := &cli.Command{Name: "set", Usage: "change a tenant", ArgsUsage: "ID", Flags: flags}, "changed"
	if create {
		cmd.Name, cmd.Usage, done = "create", "create a tenant", "created"
	} else {
		cmd.Flags = append(cmd.Flags, tenantMoveFlags()...)
	}
	cmd.Action = func(c *cli.Context) error {
		id, err := oneArg(c, "the tenant's id")
		if err != nil {
			return err
		}
		var rules json.RawMessage
		if c.IsSet("relabel") {
			if rules, err = relabelFile(c.String("relabel")); err != nil {
				return err
			}
		}
		if c.IsSet("ring") || c.IsSet("delete-emptied") {
			return moveTenant(c, std, id)
		}
		r := request{method: http.MethodPut, path: tenantPath(id)}
		tenant := map[string]any{}
		if create {
			var zero int64
			r.ifVersion = &zero
		} else if tenant, r.ifVersion, err = currentTenant(c, id); err != nil {
			return err
		}
		overlay(c, tenant)
		if rules != nil {
			tenant["relabel"] = rules
		}
		r.body = tenant
		return act(c, std, done+" tenant "+id, r)
	}
	return cmd
}

// overlay lays the flags that are set over a tenant object.
func overlay(c *cli.Context, tenant map[string]any) {
	if c.IsSet("state") {
		tenant["state"] = c.String("state")
	}
	for flag, field := range tenantTimes {
		if c.IsSet(flag) {
			tenant[field] = c.String(flag)
		}
	}
	limits, _ := tenant["limits"].(map[string]any)
	if limits == nil {
		limits = map[string]any{}
	}
	for flag, field := range tenantLimits {
		if c.IsSet(flag) {
			limits[field] = c.Int64(flag)
		}
	}
	if len(limits) > 0 {
		tenant["limits"] = limits
	}
}

// currentTenant is the tenant's object without what the server computes.
func currentTenant(c *cli.Context, id string) (map[string]any, *int64, error) {
	cl, err := newClient(c)
	if err != nil {
		return nil, nil, err
	}
	var tenant map[string]any
	if err := cl.do(c.Context, request{method: http.MethodGet, path: tenantPath(id)}, &tenant); err != nil {
		return nil, nil, err
	}
	v, _ := tenant["version"].(float64)
	version := int64(v)
	for _, computed := range []string{"version", "ring", "id", "created", "created_by", "changed", "changed_by"} {
		delete(tenant, computed)
	}
	return tenant, &version, nil
}

func tenantList(std stdio) *cli.Command {
	return &cli.Command{
		Name: "list", Usage: "list the tenants",
		Action: func(c *cli.Context) error {
			cl, err := newClient(c)
			if err != nil {
				return err
			}
			tenants, err := allTenants(c, cl)
			if err != nil {
				return err
			}
			if wantsJSON(c) {
				return std.json(map[string]any{"tenants": tenants})
			}
			rows := make([][]string, 0, len(tenants))
			for _, raw := range tenants {
				var t struct {
					ID, State, Ring string
					Version         uint64
					Changed         string
					ChangedBy       string `json:"changed_by"`
				}
				if err := json.Unmarshal(raw, &t); err != nil {
					return err
				}
				rows = append(rows, []string{t.ID, t.State, dash(t.Ring), fmt.Sprint(t.Version), dash(t.Changed), dash(t.ChangedBy)})
			}
			std.table([]string{"TENANT", "STATE", "RING", "VERSION", "CHANGED", "BY"}, rows)
			return nil
		},
	}
}

// allTenants reads every page.
func allTenants(c *cli.Context, cl *client) ([]json.RawMessage, error) {
	all := []json.RawMessage{}
	for after := ""; ; {
		var page struct {
			Tenants []json.RawMessage `json:"tenants"`
			Next    string            `json:"next"`
		}
		q := url.Values{"limit": {"1000"}}
		if after != "" {
			q.Set("after", after)
		}
		if err := cl.do(c.Context, request{method: http.MethodGet, path: "/api/v1/tenants", query: q}, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Tenants...)
		if page.Next == "" || len(page.Tenants) == 0 {
			return all, nil
		}
		after = page.Next
	}
}

func tenantShow(std stdio) *cli.Command {
	return &cli.Command{
		Name: "show", Usage: "one tenant", ArgsUsage: "ID",
		Action: func(c *cli.Context) error {
			id, err := oneArg(c, "the tenant's id")
			if err != nil {
				return err
			}
			return show(c, std, tenantPath(id))
		},
	}
}

// show prints an object; it is read as JSON by people and programs alike.
func show(c *cli.Context, std stdio, path string) error {
	cl, err := newClient(c)
	if err != nil {
		return err
	}
	raw, _, err := cl.raw(c.Context, request{method: http.MethodGet, path: path})
	if err != nil {
		return err
	}
	return std.json(json.RawMessage(raw))
}

func tenantDelete(std stdio) *cli.Command {
	return &cli.Command{
		Name: "delete", Usage: "delete a tenant and its samples on the nodes", ArgsUsage: "ID", Flags: mutationFlags(),
		Action: func(c *cli.Context) error {
			id, err := oneArg(c, "the tenant's id")
			if err != nil {
				return err
			}
			return act(c, std, "deleted tenant "+id, request{method: http.MethodDelete, path: tenantPath(id)})
		},
	}
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
