package wire

// Reason is why samples can never be stored.
type Reason uint8

// The reasons, all found at the door.
const (
	NoMetricName Reason = iota
	EmptyLabelName
	DuplicateLabelName
	NotUTF8
	TooManyLabels
	LabelNameTooLong
	LabelValueTooLong
	LabelsTooLong
	TooOld
	TooNew
	NativeHistogram
	NotCumulative
	ScaleTooCoarse
	AttributeName
	BadHistogram
	BadExemplar

	reasons
)

// String is the reason as an answer says it.
func (r Reason) String() string {
	switch r {
	case NoMetricName:
		return "no metric name"
	case EmptyLabelName:
		return "empty label name"
	case DuplicateLabelName:
		return "duplicate label name"
	case NotUTF8:
		return "label is not UTF-8"
	case TooManyLabels:
		return "more labels than label_names_per_series"
	case LabelNameTooLong:
		return "label name longer than label_name_length"
	case LabelValueTooLong:
		return "label value longer than label_value_length"
	case LabelsTooLong:
		return "labels longer than 1 MiB together"
	case TooOld:
		return "older than out_of_order_window"
	case TooNew:
		return "further ahead than future_window"
	case NativeHistogram:
		return "native histograms are not taken while a node of an older release is a member"
	case NotCumulative:
		return "temporality is not cumulative"
	case ScaleTooCoarse:
		return "exponential histogram has a scale below -4"
	case AttributeName:
		return "attribute name has no letter or digit"
	case BadHistogram:
		return "histogram is not valid"
	case BadExemplar:
		return "labels of an exemplar are not valid, or longer than 128 characters"
	default:
		return "unknown reason"
	}
}

// Refusals counts refused samples by reason, with the first series of each.
type Refusals struct {
	count [reasons]int
	first [reasons]string
	total int
}

// Total is the number of refused samples.
func (r *Refusals) Total() int { return r.total }

// Each calls f for each reason that there was.
func (r *Refusals) Each(f func(reason Reason, count int, first string)) {
	for i, n := range r.count {
		if n > 0 {
			f(Reason(i), n, r.first[i])
		}
	}
}

// add refuses n samples; show is asked for the series when it is the first.
func (r *Refusals) add(reason Reason, n int, show func() string) {
	if n == 0 {
		return
	}
	if r.count[reason] == 0 {
		r.first[reason] = show()
	}
	r.count[reason] += n
	r.total += n
}
