package otlp

import (
	"encoding/json"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/muster-metrics/muster/ingest/wire"
)

// maxDepth is how deep messages may nest. A data point's attribute is the
// tenth; what nests deeper is a value within values.
const maxDepth = 64

// Measure is about the bytes of memory that a body takes once it is decoded. It
// fails with wire.ErrFraming where decoding would, or where the body nests too
// deep to be decoded.
func Measure(body []byte, isJSON bool) (int64, error) {
	if isJSON {
		return measureJSON(body)
	}
	n, err := measure(body, request, 0)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", wire.ErrFraming, err)
	}
	return n + int64(len(body)), nil // its strings
}

// kind is a message of opentelemetry.proto.collector.metrics.v1, as far as it
// has others in it or takes more memory than bytes of the body.
type kind uint8

const (
	request kind = iota
	resourceMetrics
	resource
	scopeMetrics
	scope
	metric
	numbers // Gauge and Sum
	numberPoint
	histograms
	histogramPoint
	exponentials
	exponentialPoint
	buckets
	summaries
	summaryPoint
	exemplar
	keyValue
	anyValue
	arrayValue
	keyValues
	entity
	leaf // a message or a string in a list, with nothing in it

	kinds
)

// bytesOf is what one of a kind takes, its place in a list, which may
// have twice the room it needs, included.
var bytesOf = [kinds]int64{
	resourceMetrics: 160, resource: 0, scopeMetrics: 160, scope: 0, metric: 144,
	numbers: 48, numberPoint: 160, histograms: 48, histogramPoint: 224, exponentials: 48, exponentialPoint: 256,
	buckets: 0, summaries: 48, summaryPoint: 144, exemplar: 176, keyValue: 96, anyValue: 48,
	arrayValue: 48, keyValues: 48, entity: 112, leaf: 64,
}

// childrenOf are the fields that are messages in turn.
var childrenOf = [kinds]map[protowire.Number]kind{
	request:          {1: resourceMetrics},
	resourceMetrics:  {1: resource, 2: scopeMetrics, 1000: scopeMetrics},
	resource:         {1: keyValue, 3: entity},
	scopeMetrics:     {1: scope, 2: metric},
	scope:            {3: keyValue},
	metric:           {5: numbers, 7: numbers, 9: histograms, 10: exponentials, 11: summaries, 12: keyValue},
	numbers:          {1: numberPoint},
	numberPoint:      {5: exemplar, 7: keyValue},
	histograms:       {1: histogramPoint},
	histogramPoint:   {8: exemplar, 9: keyValue},
	exponentials:     {1: exponentialPoint},
	exponentialPoint: {1: keyValue, 8: buckets, 9: buckets, 11: exemplar},
	summaries:        {1: summaryPoint},
	summaryPoint:     {6: leaf, 7: keyValue},
	exemplar:         {7: keyValue},
	keyValue:         {2: anyValue},
	anyValue:         {5: arrayValue, 6: keyValues},
	arrayValue:       {1: anyValue},
	keyValues:        {1: keyValue},
	entity:           {3: leaf, 4: leaf},
}

// bucketBytes is what a bucket's count takes, decoded and converted; it may be
// one byte of a body.
const bucketBytes = 24

func measure(b []byte, k kind, depth int) (int64, error) {
	if depth > maxDepth {
		return 0, fmt.Errorf("values nest deeper than %d", maxDepth)
	}
	sum := bytesOf[k]
	if k == buckets {
		sum += bucketBytes * int64(len(b))
	}
	for len(b) > 0 {
		number, wireType, n := protowire.ConsumeTag(b)
		if n < 0 {
			return 0, protowire.ParseError(n)
		}
		b = b[n:]
		child, ok := childrenOf[k][number]
		if !ok || wireType != protowire.BytesType {
			if n = protowire.ConsumeFieldValue(number, wireType, b); n < 0 {
				return 0, protowire.ParseError(n)
			}
			b = b[n:]
			continue
		}
		m, n := protowire.ConsumeBytes(b)
		if n < 0 {
			return 0, protowire.ParseError(n)
		}
		b = b[n:]
		if k == entity { // its keys are strings
			sum += bytesOf[leaf]
			continue
		}
		inner, err := measure(m, child, depth+1)
		if err != nil {
			return 0, err
		}
		sum += inner
	}
	return sum, nil
}

// What a JSON body's signs take at most once it is decoded.
const (
	objectBytes = 256
	arrayBytes  = 32
	commaBytes  = bucketBytes
)

func measureJSON(b []byte) (int64, error) {
	if !json.Valid(b) {
		return 0, fmt.Errorf("%w: not JSON", wire.ErrFraming)
	}
	sum, depth, quoted := int64(len(b)), 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			if depth++; depth > 2*maxDepth {
				return 0, fmt.Errorf("%w: values nest deeper than %d", wire.ErrFraming, 2*maxDepth)
			}
			sum += arrayBytes
			if c == '{' {
				sum += objectBytes - arrayBytes
			}
		case c == '}' || c == ']':
			depth--
		case c == ',':
			sum += commaBytes
		}
	}
	return sum, nil
}
