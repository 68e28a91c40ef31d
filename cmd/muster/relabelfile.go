package main

import (
	"encoding/json"
	"errors"
	"fmt"

	"go.yaml.in/yaml/v3"
)

// relabelRule is a rule of Prometheus' relabel_config as a file has it and the
// admin API takes it. What is left out stays left out.
type relabelRule struct {
	SourceLabels []string `yaml:"source_labels" json:"source_labels,omitempty"`
	Separator    *string  `yaml:"separator" json:"separator,omitempty"`
	Regex        *string  `yaml:"regex" json:"regex,omitempty"`
	Modulus      uint64   `yaml:"modulus" json:"modulus,omitempty"`
	TargetLabel  string   `yaml:"target_label" json:"target_label,omitempty"`
	Replacement  *string  `yaml:"replacement" json:"replacement,omitempty"`
	Action       string   `yaml:"action" json:"action,omitempty"`
}

// relabelText is a list of rules in one form, whatever way it is written: JSON.
func relabelText(list *yaml.Node) (string, error) {
	if list.Kind == yaml.AliasNode {
		list = list.Alias
	}
	if list.Kind != yaml.SequenceNode {
		return "", fmt.Errorf("line %d: relabel is no list of rules", list.Line)
	}
	rules := []relabelRule{}
	for _, n := range list.Content {
		var r relabelRule
		err := eachField(n, "a relabel rule", func(key string, line int, value *yaml.Node) error {
			to := map[string]any{
				"source_labels": &r.SourceLabels, "separator": &r.Separator, "regex": &r.Regex, "modulus": &r.Modulus,
				"target_label": &r.TargetLabel, "replacement": &r.Replacement, "action": &r.Action,
			}[key]
			if to == nil {
				return fmt.Errorf("line %d: unknown field %q", line, "relabel."+key)
			}
			if err := value.Decode(to); err != nil {
				return fmt.Errorf("line %d: relabel.%s is not what Prometheus takes there", line, key)
			}
			return nil
		})
		if err != nil {
			return "", err
		}
		rules = append(rules, r)
	}
	text, err := json.Marshal(rules)
	return string(text), err
}

// relabelFile reads the rules of --relabel.
func relabelFile(name string) (json.RawMessage, error) {
	raw, err := readFileOrStdin(name)
	if err != nil {
		return nil, fmt.Errorf("read the rules: %w", err)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(raw, &doc); err != nil {
		return nil, usageError(fmt.Errorf("%s: %w", name, err))
	}
	if len(doc.Content) == 0 {
		return nil, usageError(errors.New(name + " has no list of rules; [] is an empty one"))
	}
	text, err := relabelText(doc.Content[0])
	if err != nil {
		return nil, usageError(fmt.Errorf("%s: %w", name, err))
	}
	return json.RawMessage(text), nil
}

// rulesIn says how many rules a text of relabelText has; "" is the default's.
func rulesIn(text string) string {
	var rules []relabelRule
	switch err := json.Unmarshal([]byte(text), &rules); {
	case err != nil:
		return "default"
	case len(rules) == 1:
		return "1 rule"
	default:
		return fmt.Sprintf("%d rules", len(rules))
	}
}
