// Package wire turns the bodies of write requests into the one form in which
// muster sends, places and stores series, and reads that form back.
//
// A series' labels are checked and laid out once, at the door, exactly as
// Prometheus' labels.Labels keeps them in memory; their hash places the series
// and finds it in the TSDB. Whatever encoding a write came in, equal label
// sets end as equal bytes.
package wire
