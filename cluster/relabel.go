package cluster

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/relabel"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

// Bounds on a tenant's rules: each is run on every series of every write.
const (
	maxRules     = 100
	maxRuleBytes = 16 << 10 // all texts of a rule
)

// RuleError says which relabelling rule is wrong, from 0, and which field of it.
type RuleError struct {
	Rule  int
	Field string
	Err   error
}

func (e *RuleError) Error() string { return fmt.Sprintf("relabel rule %d: %v", e.Rule+1, e.Err) }
func (e *RuleError) Unwrap() error { return e.Err }

var relabelActions = map[string]relabel.Action{
	"": relabel.Replace, "replace": relabel.Replace, "keep": relabel.Keep, "drop": relabel.Drop,
	"keepequal": relabel.KeepEqual, "dropequal": relabel.DropEqual, "hashmod": relabel.HashMod,
	"labelmap": relabel.LabelMap, "labeldrop": relabel.LabelDrop, "labelkeep": relabel.LabelKeep,
	"lowercase": relabel.Lowercase, "uppercase": relabel.Uppercase,
}

// CompileRelabel makes Prometheus' configuration of the rules, by its own
// judgement of what is one. The error is a *RuleError.
func CompileRelabel(rules []*clusterpb.RelabelRule) ([]*relabel.Config, error) {
	out := make([]*relabel.Config, 0, len(rules))
	for i, r := range rules {
		c, field, err := compileRule(r)
		if err != nil {
			return nil, &RuleError{Rule: i, Field: field, Err: err}
		}
		out = append(out, c)
	}
	return out, nil
}

func compileRule(r *clusterpb.RelabelRule) (c *relabel.Config, field string, err error) {
	conf := relabel.DefaultRelabelConfig
	action, ok := relabelActions[strings.ToLower(r.GetAction())]
	if !ok {
		return nil, "action", fmt.Errorf("action %s: want one of Prometheus' relabel actions", quote(r.GetAction()))
	}
	conf.Action, conf.Modulus, conf.TargetLabel = action, r.GetModulus(), r.GetTargetLabel()
	for _, l := range r.GetSourceLabels() {
		if !model.UTF8Validation.IsValidLabelName(l) {
			return nil, "source_labels", fmt.Errorf("source label %s is no label's name", quote(l))
		}
		conf.SourceLabels = append(conf.SourceLabels, model.LabelName(l))
	}
	if r.Separator != nil {
		conf.Separator = r.GetSeparator()
	}
	if r.Replacement != nil {
		conf.Replacement = r.GetReplacement()
	}
	if r.Regex != nil && r.GetRegex() != conf.Regex.String() {
		if conf.Regex, err = relabel.NewRegexp(r.GetRegex()); err != nil {
			return nil, "regex", fmt.Errorf("regex %s: %w", quote(r.GetRegex()), err)
		}
	}
	if err := conf.Validate(model.UTF8Validation); err != nil {
		return nil, "", err
	}
	return &conf, "", nil
}

// checkRelabel is what apply looks at: it must not depend on a release's idea of
// what a regular expression is.
func checkRelabel(prefix string, rules *clusterpb.RelabelRules) *clusterpb.Refusal {
	if n := len(rules.GetRules()); n > maxRules {
		return invalid(prefix+"relabel", "%srelabel has %d rules: want at most %d", prefix, n, maxRules)
	}
	for i, r := range rules.GetRules() {
		if r.SizeVT() > maxRuleBytes {
			return invalid(prefix+"relabel", "%srelabel: rule %d has more than %d bytes", prefix, i+1, maxRuleBytes)
		}
	}
	return nil
}

// unspoken refuses what the members do not all understand yet.
func unspoken(st *State, cmd *clusterpb.Command) *clusterpb.Refusal {
	if st.Cluster() == nil || st.Supports(Relabelling) {
		return nil
	}
	field := ""
	specs := func(prefix string, s *clusterpb.TenantSpec) {
		if s.GetRelabel() != nil {
			field = prefix + "relabel"
		}
	}
	settings := func(s *clusterpb.Settings) {
		specs("tenant_defaults.", s.GetTenantDefaults())
		if s.GetSplitTenantLabel() != "" {
			field = "split_tenant_label"
		}
	}
	switch c := cmd.GetChange().(type) {
	case *clusterpb.Command_PutTenant:
		specs("", c.PutTenant.GetSpec())
	case *clusterpb.Command_PutSettings:
		settings(c.PutSettings.GetSettings())
	case *clusterpb.Command_RestoreState:
		settings(c.RestoreState.GetSettings())
		for _, t := range c.RestoreState.GetTenants() {
			specs("", t.GetSpec())
		}
	}
	if field == "" {
		return nil
	}
	return unsafe(field, "%s: not before the cluster speaks version %d, it speaks %d: it does a minute after every member runs a release that can", field, Relabelling, st.Version())
}

// ruleTexts are the rules as events tell them.
func ruleTexts(rules *clusterpb.RelabelRules) []string {
	if rules == nil {
		return nil
	}
	if len(rules.GetRules()) == 0 {
		return []string{"none"}
	}
	out := make([]string, 0, len(rules.GetRules()))
	for _, r := range rules.GetRules() {
		var b strings.Builder
		b.WriteString(r.GetAction())
		if r.GetAction() == "" {
			b.WriteString("replace")
		}
		add := func(name, value string, there bool) {
			if there {
				b.WriteString(" " + name + "=" + strconv.Quote(value))
			}
		}
		add("source_labels", strings.Join(r.GetSourceLabels(), " "), len(r.GetSourceLabels()) > 0)
		add("separator", r.GetSeparator(), r.Separator != nil)
		add("regex", r.GetRegex(), r.Regex != nil)
		add("modulus", strconv.FormatUint(r.GetModulus(), 10), r.GetModulus() > 0)
		add("target_label", r.GetTargetLabel(), r.GetTargetLabel() != "")
		add("replacement", r.GetReplacement(), r.Replacement != nil)
		out = append(out, b.String())
	}
	return out
}
