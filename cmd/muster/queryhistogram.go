package main

import (
	"encoding/json"
	"fmt"
	"strings"
)

// answeredHistogram is a native histogram as Prometheus' API answers it.
type answeredHistogram struct {
	Count   string   `json:"count"`
	Sum     string   `json:"sum"`
	Buckets [][4]any `json:"buckets"` // which ends belong to it, the ends, the count
}

// answeredPoint is a moment and what there is then: a text, or a histogram.
type answeredPoint struct {
	at   float64 // Unix seconds
	text string
}

// UnmarshalJSON takes [time, value].
func (p *answeredPoint) UnmarshalJSON(raw []byte) error {
	var pair [2]json.RawMessage
	if err := json.Unmarshal(raw, &pair); err != nil {
		return err
	}
	if err := json.Unmarshal(pair[0], &p.at); err != nil {
		return err
	}
	if json.Unmarshal(pair[1], &p.text) == nil {
		return nil
	}
	var h answeredHistogram
	if err := json.Unmarshal(pair[1], &h); err != nil {
		return err
	}
	p.text = h.String()
	return nil
}

// ends are the brackets of a bucket, by the number that the API gives.
var ends = [][2]string{{"(", "]"}, {"[", ")"}, {"(", ")"}, {"[", "]"}}

// String is a histogram in one line, as Prometheus writes it.
func (h answeredHistogram) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "{count:%s, sum:%s", h.Count, h.Sum)
	for _, bucket := range h.Buckets {
		end := ends[0]
		if k, ok := bucket[0].(float64); ok && k > 0 && int(k) < len(ends) {
			end = ends[int(k)]
		}
		fmt.Fprintf(&b, ", %s%v,%v%s:%v", end[0], bucket[1], bucket[2], end[1], bucket[3])
	}
	b.WriteByte('}')
	return b.String()
}
