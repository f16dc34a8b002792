#!/usr/bin/env bash
# Sets up, builds and runs all tests. The last line is "N passed, N failed, N skipped"; the exit code is 0 when
# nothing failed.
#
#   tests/run.sh              everything
#   tests/run.sh -R comm      only the ctest tests whose name matches; all arguments go to ctest
#
# TANREN_PRESET: another preset than cpu (debug, asan, tsan, cuda).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=tests/lib.sh
. tests/lib.sh

preset=${TANREN_PRESET:-cpu}
results=build/$preset/test-results.xml

launch/setup.sh --tests
begin=$SECONDS
configure "$preset"
cmake --build --preset "$preset" -j "$(build_jobs)"
echo "built in $((SECONDS - begin)) s"

begin=$SECONDS
rm -f "$results"
status=0
ctest --preset "$preset" -j "$(nproc)" --no-tests=error --output-junit "$PWD/$results" \
  --test-output-size-passed 100000000 --test-output-size-failed 100000000 "$@" || status=$?
echo "tests ran in $((SECONDS - begin)) s"
if [ ! -s "$results" ]; then
  echo "ctest wrote no results: nothing was tested" >&2
  echo "0 passed, 1 failed, 0 skipped"
  exit 1
fi
awk -f tests/tally.awk "$results" || status=1
exit "$status"
