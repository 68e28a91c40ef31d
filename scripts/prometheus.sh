#!/usr/bin/env bash
# Puts a real Prometheus under BUILD/prometheus: Debian's package, unpacked and
# not installed, so that no service starts. Says so where it cannot be had.
set -uo pipefail
build=${1:-build}
if command -v prometheus >/dev/null 2>&1 || [ -x "$build/prometheus/usr/bin/prometheus" ]; then exit 0; fi
skip() {
  echo "SKIP: no prometheus binary ($1); stories with a real Prometheus are skipped" >&2
  exit 1
}
command -v apt-get >/dev/null 2>&1 && command -v dpkg-deb >/dev/null 2>&1 || skip "no apt-get"
mkdir -p "$build/prometheus.deb" && cd "$build/prometheus.deb" || skip "no build folder"
if ! apt-get download -qq prometheus >/dev/null 2>&1; then
  [ "$(id -u)" = 0 ] && apt-get update -qq >/dev/null 2>&1
  apt-get download -qq prometheus >/dev/null 2>&1 || skip "apt-get download prometheus failed"
fi
dpkg-deb -x prometheus_*.deb ../prometheus.tmp && mv ../prometheus.tmp ../prometheus || skip "unpacking failed"
