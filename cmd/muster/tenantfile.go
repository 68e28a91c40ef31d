package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v3"

	"github.com/muster-metrics/muster/cluster"
)

// tenantSpec is a tenant as a file has it, or the cluster: the fields that an
// operator writes, by their paths, in one form: limits.active_series "5",
// retention "30d".
type tenantSpec struct {
	id     string
	line   int
	fields map[string]string
}

// Fields of the tenant object that a file may have and that are not looked at:
// so what `tenant list -o json` prints can be applied.
var computedFields = []string{"ring", "version", "created", "created_by", "changed", "changed_by"}

// parseTenants reads YAML or JSON: tenant objects in documents of their own, in
// lists, or in a list `tenants`. Errors name the line.
func parseTenants(r io.Reader) ([]tenantSpec, error) {
	var all []tenantSpec
	seen := map[string]int{}
	dec := yaml.NewDecoder(r)
	for {
		var doc yaml.Node
		err := dec.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		list, err := tenantNodes(&doc)
		if err != nil {
			return nil, err
		}
		for _, n := range list {
			t, err := parseTenant(n)
			if err != nil {
				return nil, err
			}
			if first := seen[t.id]; first != 0 {
				return nil, fmt.Errorf("line %d: tenant %s stands in line %d already", t.line, t.id, first)
			}
			seen[t.id] = t.line
			all = append(all, t)
		}
	}
}

// tenantNodes are the objects of one document.
func tenantNodes(doc *yaml.Node) ([]*yaml.Node, error) {
	n := doc
	if n.Kind == yaml.DocumentNode {
		n = n.Content[0]
	}
	switch {
	case n.Kind == yaml.ScalarNode && n.Tag == "!!null": // an empty document
		return nil, nil
	case n.Kind == yaml.SequenceNode:
		return n.Content, nil
	case n.Kind == yaml.MappingNode && len(n.Content) == 2 && n.Content[0].Value == "tenants":
		if n = n.Content[1]; n.Kind != yaml.SequenceNode {
			return nil, fmt.Errorf("line %d: tenants is no list", n.Line)
		}
		return n.Content, nil
	case n.Kind == yaml.MappingNode:
		return []*yaml.Node{n}, nil
	default:
		return nil, fmt.Errorf("line %d: want a tenant, or a list of tenants", n.Line)
	}
}

func parseTenant(n *yaml.Node) (tenantSpec, error) {
	t := tenantSpec{line: n.Line, fields: map[string]string{"state": "active"}}
	err := eachField(n, "a tenant", func(key string, line int, value *yaml.Node) error {
		switch {
		case key == "limits":
			return eachField(value, "limits", func(key string, line int, value *yaml.Node) error {
				return t.limit(key, line, value)
			})
		case key == "relabel":
			text, err := relabelText(value)
			t.fields[key] = text
			return err
		case slices.Contains(computedFields, key):
			return nil
		case value.Kind != yaml.ScalarNode:
			return fmt.Errorf("line %d: %s: want a single value", line, key)
		case key == "id":
			t.id = value.Value
		case key == "state":
			t.fields[key] = value.Value
		case tenantTimes[strings.ReplaceAll(key, "_", "-")] != "":
			text, err := sameSpan(value.Value)
			if err != nil {
				return fmt.Errorf("line %d: %s %q: want a duration such as 15d, 2h or 30m", line, key, value.Value)
			}
			t.fields[key] = text
		default:
			return fmt.Errorf("line %d: unknown field %q", line, key)
		}
		return nil
	})
	if err == nil && !cluster.ValidTenantID(t.id) {
		err = fmt.Errorf("line %d: id %q: want letters, digits and ._:@=+-, at most 128, beginning with a letter or a digit", t.line, t.id)
	}
	return t, err
}

func (t *tenantSpec) limit(key string, line int, value *yaml.Node) error {
	if tenantLimits[strings.ReplaceAll(key, "_", "-")] == "" {
		return fmt.Errorf("line %d: unknown field %q", line, "limits."+key)
	}
	n, err := strconv.ParseInt(value.Value, 10, 64)
	if err != nil || value.Kind != yaml.ScalarNode || n < 0 {
		return fmt.Errorf("line %d: limits.%s %q: want a whole number, 0 for no limit", line, key, value.Value)
	}
	t.fields["limits."+key] = strconv.FormatInt(n, 10)
	return nil
}

// eachField calls f with the fields of an object.
func eachField(n *yaml.Node, what string, f func(key string, line int, value *yaml.Node) error) error {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind != yaml.MappingNode {
		return fmt.Errorf("line %d: %s is no object", n.Line, what)
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if value.Kind == yaml.AliasNode {
			value = value.Alias
		}
		if seen[key.Value] {
			return fmt.Errorf("line %d: %s stands there twice", key.Line, key.Value)
		}
		seen[key.Value] = true
		if value.Kind == yaml.ScalarNode && value.Tag == "!!null" {
			continue // left out
		}
		if err := f(key.Value, key.Line, value); err != nil {
			return err
		}
	}
	return nil
}

// sameSpan gives durations that are equal one text.
func sameSpan(text string) (string, error) {
	d, err := model.ParseDuration(text)
	if err != nil {
		return "", err
	}
	return d.String(), nil
}

// body is the tenant as the admin API takes it.
func (t tenantSpec) body() map[string]any {
	out, limits := map[string]any{}, map[string]any{}
	for path, value := range t.fields {
		if field, ok := strings.CutPrefix(path, "limits."); ok {
			n, _ := strconv.ParseInt(value, 10, 64) // as it was written by limit
			limits[field] = n
			continue
		}
		if path == "relabel" {
			out[path] = json.RawMessage(value)
			continue
		}
		out[path] = value
	}
	if len(limits) > 0 {
		out["limits"] = limits
	}
	return out
}

// differences from what there is, in words; nil is no tenant.
func (t tenantSpec) differences(was map[string]string) []string {
	paths := map[string]bool{}
	for p := range t.fields {
		paths[p] = true
	}
	for p := range was {
		paths[p] = true
	}
	var out []string
	for _, p := range sortedKeys(paths) {
		switch before, after := was[p], t.fields[p]; {
		case before == after:
		case p == "relabel":
			out = append(out, "relabel "+rulesIn(before)+" -> "+rulesIn(after))
		case before == "":
			out = append(out, p+"="+after)
		case after == "":
			out = append(out, p+" "+before+" -> default")
		default:
			out = append(out, p+" "+before+" -> "+after)
		}
	}
	return out
}
