package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/urfave/cli/v2"
)

// tenantApply makes the cluster's tenants those of a file. All of it is
// rehearsed by the cluster before the first change; each tenant is then changed
// only if it is still as it was read.
func tenantApply(std stdio) *cli.Command {
	return &cli.Command{
		Name:  "apply",
		Usage: "make the tenants those of a file; may be repeated",
		Description: "The file holds tenant objects as `tenant show` prints them, in YAML or JSON: a list, a list named\n" +
			"tenants, or documents of one each. Fields that are left out take the settings' defaults.\n" +
			"--prune deletes the tenants that the file does not name, except the settings' default_tenant,\n" +
			"and never all of them: an empty file is refused.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "file", Aliases: []string{"f"}, Usage: "the file; - for stdin"},
			&cli.BoolFlag{Name: "prune", Usage: "delete the tenants that the file does not name"},
			dryRunFlag(), // each tenant's version is looked at by itself
		},
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 || c.String("file") == "" {
				return usageError(errors.New("muster tenant apply wants -f FILE and no argument"))
			}
			raw, err := readFileOrStdin(c.String("file"))
			if err != nil {
				return fmt.Errorf("read the tenants: %w", err)
			}
			want, err := parseTenants(bytes.NewReader(raw))
			if err != nil {
				return usageError(fmt.Errorf("%s: %w", c.String("file"), err))
			}
			if len(want) == 0 && c.Bool("prune") {
				return usageError(fmt.Errorf("%s names no tenant: --prune would delete all of them", c.String("file")))
			}
			cl, err := newClient(c)
			if err != nil {
				return err
			}
			return applyTenants(c, std, cl, want)
		},
	}
}

func readFileOrStdin(name string) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(os.Stdin)
	}
	return os.ReadFile(name)
}

// tenantStep is what happens to one tenant.
type tenantStep struct {
	ID     string   `json:"id"`
	Change string   `json:"change"` // + ~ -
	Fields []string `json:"fields"`

	version int64
	body    map[string]any
}

func (s tenantStep) request(dry bool) request {
	r := request{method: http.MethodPut, path: tenantPath(s.ID), body: s.body, ifVersion: &s.version, dryRun: dry, id: newRequestID()}
	if s.Change == "-" {
		r.method, r.body = http.MethodDelete, nil
	}
	return r
}

// tenantPlan is all that apply does.
type tenantPlan struct {
	DryRun    bool         `json:"dry_run,omitempty"`
	Revision  uint64       `json:"revision,omitempty"` // of the last change
	Created   int          `json:"created"`
	Changed   int          `json:"changed"`
	Deleted   int          `json:"deleted"`
	Unchanged int          `json:"unchanged"`
	Kept      []string     `json:"kept"` // that --prune does not delete
	Tenants   []tenantStep `json:"tenants"`
}

func applyTenants(c *cli.Context, std stdio, cl *client, want []tenantSpec) error {
	plan, err := planTenants(c, cl, want)
	if err != nil {
		return err
	}
	for _, s := range plan.Tenants { // before the first change
		if err := cl.do(c.Context, s.request(true), nil); err != nil {
			return inTenant(s.ID, "nothing was changed", err)
		}
	}
	for i, s := range plan.Tenants {
		if plan.DryRun {
			break
		}
		ctx, cancel := context.WithTimeout(c.Context, commandTimeout)
		var a applied
		err := cl.do(ctx, s.request(false), &a)
		cancel()
		if err != nil {
			return inTenant(s.ID, fmt.Sprintf("%d of %d changes were made, the command may be repeated", i, len(plan.Tenants)), err)
		}
		plan.Revision = a.Revision
		if !wantsJSON(c) {
			std.step(s)
		}
	}
	if wantsJSON(c) {
		return std.json(plan)
	}
	std.appliedTenants(plan)
	return nil
}

// inTenant says which tenant an error is about, and how far it came.
func inTenant(id, far string, err error) error {
	var f *failure
	if !errors.As(err, &f) {
		return fmt.Errorf("tenant %s: %w; %s", id, err, far)
	}
	own := *f
	own.Text = fmt.Sprintf("tenant %s: %s; %s", id, f.Text, far)
	return &own
}

// planTenants compares the file with the cluster.
func planTenants(c *cli.Context, cl *client, want []tenantSpec) (*tenantPlan, error) {
	raws, err := allTenants(c, cl)
	if err != nil {
		return nil, err
	}
	var settings struct {
		DefaultTenant string `json:"default_tenant"`
	}
	if err := cl.do(c.Context, request{method: http.MethodGet, path: "/api/v1/settings"}, &settings); err != nil {
		return nil, err
	}
	there, versions := map[string]map[string]string{}, map[string]int64{}
	for _, raw := range raws {
		var o struct{ Version int64 }
		list, err := parseTenants(bytes.NewReader(raw))
		if err != nil || len(list) != 1 || json.Unmarshal(raw, &o) != nil {
			return nil, fmt.Errorf("read the tenants of %s: %w: its version is another than this program's", cl.where, err)
		}
		there[list[0].id], versions[list[0].id] = list[0].fields, o.Version
	}
	plan := &tenantPlan{DryRun: c.Bool("dry-run"), Kept: []string{}, Tenants: []tenantStep{}}
	named := map[string]bool{}
	for _, t := range want {
		named[t.id] = true
		was, known := there[t.id]
		step := tenantStep{ID: t.id, Change: "~", Fields: t.differences(was), version: versions[t.id], body: t.body()}
		switch {
		case !known:
			step.Change = "+"
			plan.Created++
		case len(step.Fields) == 0:
			plan.Unchanged++
			continue
		default:
			plan.Changed++
		}
		plan.Tenants = append(plan.Tenants, step)
	}
	for _, id := range sortedKeys(there) {
		switch {
		case named[id] || !c.Bool("prune"):
		case id == settings.DefaultTenant:
			plan.Kept = append(plan.Kept, id)
		default:
			plan.Deleted++
			plan.Tenants = append(plan.Tenants, tenantStep{ID: id, Change: "-", Fields: []string{}, version: versions[id]})
		}
	}
	return plan, nil
}

func (s stdio) step(t tenantStep) {
	s.printf("%s\n", strings.TrimRight(t.Change+" "+t.ID+"  "+strings.Join(t.Fields, ", "), " "))
}

func (s stdio) appliedTenants(p *tenantPlan) {
	if p.DryRun {
		for _, t := range p.Tenants {
			s.step(t)
		}
		s.printf("dry run, nothing is changed; otherwise: ")
	}
	s.printf("%d created, %d changed, %d deleted, %d unchanged\n", p.Created, p.Changed, p.Deleted, p.Unchanged)
	for _, id := range p.Kept {
		s.notef("%s is not in the file, and stays: it is the settings' default_tenant. `muster tenant delete %s` deletes it.\n", id, id)
	}
}
