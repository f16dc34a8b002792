#!/usr/bin/env bash
# Installs the build, then builds and runs tests/install/consumer against it.
set -euo pipefail
work=$(mktemp -d "${TMPDIR:-/tmp}/tanren-install.XXXXXX")
trap 'rm -rf "$work"' EXIT
"$CMAKE" --install "$BUILD" --prefix "$work/prefix" >"$work/install.log" || { cat "$work/install.log"; exit 1; }
"$CMAKE" -S "$(dirname "$0")/consumer" -B "$work/build" -G Ninja -DCMAKE_BUILD_TYPE=Release \
  -DCMAKE_PREFIX_PATH="$work/prefix" -DCMAKE_CXX_COMPILER_LAUNCHER="${LAUNCHER:-}"
"$CMAKE" --build "$work/build"
"$work/build/consumer" | tee "$work/output"
grep -q "loss fell" "$work/output"
"$work/prefix/bin/tanren" --version
