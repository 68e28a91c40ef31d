#!/usr/bin/env bash
# The race detector needs a C compiler; install Debian's where there is none.
set -euo pipefail
if command -v "${CC:-gcc}" >/dev/null 2>&1; then exit 0; fi
if command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
  apt-get update -qq && apt-get install -y -qq --no-install-recommends gcc libc6-dev
  exit 0
fi
echo "make test needs a C compiler for the race detector: install gcc and libc6-dev" >&2
exit 1
