// Package otlp turns OTLP metrics into the frames of package wire.
//
//	body ─▶ measure ─▶ decode ─▶ sift ─▶ Prometheus' converter ─▶ appender ─▶ wire.Layout
//	        memory     pdata     what it would          one sample at a time
//	                             give up on
//
// The names and labels are those that Prometheus' own OTLP endpoint makes of
// the same data, since the code is. That code gives up on the rest of a metric
// at the first data point that it cannot convert; so those are taken out before,
// and counted, and all others are stored. Points keeps from which data point a
// sample comes: the answer counts these.
//
// A body of a few bytes can decode to a hundred times as much, and nest as deep
// as it likes. Measure finds out before anything is decoded.
//
// https://opentelemetry.io/docs/specs/otlp/
package otlp
