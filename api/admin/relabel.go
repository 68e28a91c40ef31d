package admin

import (
	"errors"
	"fmt"

	"github.com/muster-metrics/muster/cluster"
	"github.com/muster-metrics/muster/proto/clusterpb"
)

// relabelObject is a rule of Prometheus' relabel_config, in its words.
type relabelObject struct {
	SourceLabels []string `json:"source_labels,omitempty"`
	Separator    *string  `json:"separator,omitempty"`
	Regex        *string  `json:"regex,omitempty"`
	Modulus      uint64   `json:"modulus,omitempty"`
	TargetLabel  string   `json:"target_label,omitempty"`
	Replacement  *string  `json:"replacement,omitempty"`
	Action       string   `json:"action,omitempty"`
}

func relabelOf(rules *clusterpb.RelabelRules) *[]relabelObject {
	if rules == nil {
		return nil
	}
	out := make([]relabelObject, 0, len(rules.GetRules()))
	for _, r := range rules.GetRules() {
		out = append(out, relabelObject{
			SourceLabels: r.GetSourceLabels(), Separator: r.Separator, Regex: r.Regex, Modulus: r.GetModulus(),
			TargetLabel: r.GetTargetLabel(), Replacement: r.Replacement, Action: r.GetAction(),
		})
	}
	return &out
}

// relabelRules are the rules that the state keeps, once Prometheus' own code has
// taken them; field is where they stand in the body.
func relabelRules(field string, list *[]relabelObject) (*clusterpb.RelabelRules, error) {
	if list == nil {
		return nil, nil //nolint:nilnil // left out stays left out.
	}
	rules := &clusterpb.RelabelRules{}
	for _, o := range *list {
		rules.Rules = append(rules.Rules, &clusterpb.RelabelRule{
			SourceLabels: o.SourceLabels, Separator: o.Separator, Regex: o.Regex, Modulus: o.Modulus,
			TargetLabel: o.TargetLabel, Replacement: o.Replacement, Action: o.Action,
		})
	}
	if _, err := cluster.CompileRelabel(rules.GetRules()); err != nil {
		var rule *cluster.RuleError
		if errors.As(err, &rule) {
			if field = fmt.Sprintf("%s[%d]", field, rule.Rule); rule.Field != "" {
				field += "." + rule.Field
			}
			err = rule.Err
		}
		return nil, bad(field, "%s: %v", field, err)
	}
	return rules, nil
}
