// The compliance suite's tests, at one commit. Its module has another name than
// its path, so it is reached by a replacement.
module github.com/muster-metrics/muster/scripts/compliance/suite

go 1.26.7

require github.com/prometheus/complicance/remotewrite2 v0.0.0

replace github.com/prometheus/complicance/remotewrite2 => github.com/prometheus/compliance/remotewrite/receiver v0.0.0-20260806071727-67b8327a2e93
