package prom

import (
	"fmt"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/muster-metrics/muster/proto/peerpb"
)

// maxMatchers bounds what one select may ask a store to intersect.
const maxMatchers = 1000

var matchTypes = [...]labels.MatchType{
	peerpb.Matcher_EQ:  labels.MatchEqual,
	peerpb.Matcher_NEQ: labels.MatchNotEqual,
	peerpb.Matcher_RE:  labels.MatchRegexp,
	peerpb.Matcher_NRE: labels.MatchNotRegexp,
}

func matchersOf(in []*peerpb.Matcher) ([]*labels.Matcher, error) {
	if len(in) > maxMatchers {
		return nil, fmt.Errorf("%d matchers: at most %d", len(in), maxMatchers)
	}
	out := make([]*labels.Matcher, 0, len(in))
	for _, m := range in {
		if m.GetType() < 0 || int(m.GetType()) >= len(matchTypes) {
			return nil, fmt.Errorf("matcher of %q: unknown type %d", m.GetName(), m.GetType())
		}
		lm, err := labels.NewMatcher(matchTypes[m.GetType()], m.GetName(), m.GetValue())
		if err != nil {
			return nil, fmt.Errorf("matcher of %q: %w", m.GetName(), err)
		}
		out = append(out, lm)
	}
	return out, nil
}

func matchersPB(in []*labels.Matcher) []*peerpb.Matcher {
	out := make([]*peerpb.Matcher, 0, len(in))
	for _, m := range in {
		p := &peerpb.Matcher{Name: m.Name, Value: m.Value}
		for wire, typ := range matchTypes {
			if typ == m.Type {
				p.Type = peerpb.Matcher_Type(wire)
			}
		}
		out = append(out, p)
	}
	return out
}

// everything matches each series: for a select whose matchers were all on the
// tenant label, which no series carries.
var everything = labels.MustNewMatcher(labels.MatchRegexp, model.MetricNameLabel, ".*")

// splitTenant takes the matchers on the tenant label out of ms: they choose
// among tenants.
func splitTenant(ms []*labels.Matcher, label string) (inner, tenant []*labels.Matcher) {
	for _, m := range ms {
		if m.Name == label {
			tenant = append(tenant, m)
		} else {
			inner = append(inner, m)
		}
	}
	return inner, tenant
}

func matchesAll(ms []*labels.Matcher, value string) bool {
	for _, m := range ms {
		if !m.Matches(value) {
			return false
		}
	}
	return true
}
