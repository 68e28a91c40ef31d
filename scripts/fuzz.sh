#!/usr/bin/env bash
# Runs every fuzz target of the project, one after the other: for a time (30s), or
# a number of executions (10000000x) each. A second argument names those to run.
set -euo pipefail
time=${1:-30s}
only=${2:-}
grep -rl --include='*_test.go' '^func Fuzz' . | xargs -n1 dirname | sort -u | while read -r dir; do
  grep -ho '^func Fuzz[A-Za-z0-9_]*' "$dir"/*_test.go | sed 's/^func //' | while read -r target; do
    if [ -n "$only" ] && [[ ",$only," != *",${target#Fuzz},"* ]]; then continue; fi
    echo "== $dir $target"
    # What it finds is written to testdata/fuzz beside the test, and is a seed from then on.
    go test "$dir" -run '^$' -fuzz "^$target\$" -fuzztime "$time" -timeout 0 </dev/null
  done
done
