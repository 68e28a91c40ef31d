package otlp

import (
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
)

// Points says from which data point of a request each sample of its batch
// comes, and which data points are not stored whole.
type Points struct {
	// Total is the number of data points of the request.
	Total int

	of      []uint32            // by sample and exemplar of the batch: its data point
	refused map[uint32]struct{} // data points
	sifted  int                 // data points that never were converted
	next    uint32              // the number of the next one
	inside  bool                // the last sample's histogram goes on
}

// none is the data point of a sample that says something of its resource, and of
// an exemplar.
const none = ^uint32(0)

// Refuse notes that a sample of the batch, counted from 0, can never be stored.
func (p *Points) Refuse(sample int) {
	if sample < len(p.of) {
		p.reject(p.of[sample])
	}
}

// Rejected is the number of data points of which some sample is refused.
func (p *Points) Rejected() int { return p.sifted + len(p.refused) }

func (p *Points) reject(point uint32) {
	if point == none {
		return
	}
	if p.refused == nil {
		p.refused = map[uint32]struct{}{}
	}
	p.refused[point] = struct{}{}
}

// What the converter says of the samples that it makes of a resource.
const (
	targetInfo = "target_info"
	targetHelp = "Target metadata"
)

// point is the number of the data point that the converter appends a sample of,
// as it appends them: a histogram's last is the bucket of all, a summary's first
// is the sum, all others have one.
func (p *Points) point(ls labels.Labels, native bool, o *storage.AOptions) uint32 {
	name := ls.Get(model.MetricNameLabel)
	switch {
	case native:
	case o.MetricFamilyName == targetInfo && o.Metadata.Help == targetHelp:
		return none
	case o.Metadata.Type == model.MetricTypeHistogram:
		begins := !p.inside
		p.inside = !is(name, o.MetricFamilyName, "_bucket") || ls.Get(model.BucketLabel) != "+Inf"
		if !begins {
			return p.next - 1
		}
	case o.Metadata.Type == model.MetricTypeSummary && !is(name, o.MetricFamilyName, "_sum"):
		return p.next - 1
	}
	p.next++
	return p.next - 1
}

// is says whether a name is the family's with a suffix.
func is(name, family, suffix string) bool {
	return len(name) == len(family)+len(suffix) && strings.HasSuffix(name, suffix)
}
