package store

import (
	"github.com/prometheus/prometheus/model/labels"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/muster-metrics/muster/proto/storepb"
)

// maxMatchers bounds what one request may ask the TSDB to intersect.
const maxMatchers = 1000

var matchTypes = map[storepb.LabelMatcher_Type]labels.MatchType{
	storepb.LabelMatcher_EQ:  labels.MatchEqual,
	storepb.LabelMatcher_NEQ: labels.MatchNotEqual,
	storepb.LabelMatcher_RE:  labels.MatchRegexp,
	storepb.LabelMatcher_NRE: labels.MatchNotRegexp,
}

// matchersOf reads the request's matchers; what is wrong with them is the
// caller's fault (InvalidArgument).
func matchersOf(in []*storepb.LabelMatcher) ([]*labels.Matcher, error) {
	if len(in) > maxMatchers {
		return nil, status.Errorf(codes.InvalidArgument, "%d matchers: at most %d", len(in), maxMatchers)
	}
	out := make([]*labels.Matcher, 0, len(in))
	for _, m := range in {
		typ, ok := matchTypes[m.GetType()]
		if !ok {
			return nil, status.Errorf(codes.InvalidArgument, "matcher of %q: unknown type %d", m.GetName(), m.GetType())
		}
		lm, err := labels.NewMatcher(typ, m.GetName(), m.GetValue())
		if err != nil {
			return nil, status.Errorf(codes.InvalidArgument, "matcher of %q: %v", m.GetName(), err)
		}
		out = append(out, lm)
	}
	return out, nil
}

// split judges the matchers on external labels and returns the others, which
// are the TSDB's to judge. ok is false where an external label does not match.
func split(matchers []*labels.Matcher, external labels.Labels) (inner []*labels.Matcher, ok bool) {
	for _, m := range matchers {
		if !external.Has(m.Name) {
			inner = append(inner, m)
			continue
		}
		if !m.Matches(external.Get(m.Name)) {
			return nil, false
		}
	}
	return inner, true
}
