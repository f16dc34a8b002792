#!/usr/bin/env bash
# The tests under AddressSanitizer and UndefinedBehaviorSanitizer, in build/asan. Arguments go to ctest.
#
# Leaks are not looked for: Open MPI keeps memory until the process ends. The build takes about twice the time and
# memory of the plain one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export TANREN_PRESET=asan
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=0:abort_on_error=1:strict_string_checks=1}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}
exec tests/run.sh "$@"
