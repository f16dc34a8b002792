#!/usr/bin/env bash
# Everything of the CUDA backend that runs on the emulated GPU (tests/emulation/emulator.h), under each schedule: the kernel and
# engine tests, attention by each family of kernels, and every stage beside the CPU. Long: on two cores
# the kernel tests of one schedule take some eight minutes and the stages seven.
#   tests/soak/emulated.sh [BUILD DIRECTORY]
set -euo pipefail
ROOT=$(cd "$(dirname "$0")/../.." && pwd)
BUILD=$(cd "${1:-$ROOT/build/cpu}" && pwd)
PROGRAMS=$BUILD/tests/emulation
export TANREN_TEST_DEVICE=cuda OMP_NUM_THREADS=1
for schedule in early late random:1 random:2; do
  echo "== $schedule: kernels"
  TANREN_EMULATION=$schedule "$PROGRAMS/tanren_kernels_emulated_test"
  for family in mma scalar; do
    echo "== $schedule: attention by $family"
    TANREN_EMULATION=$schedule TANREN_ATTENTION=$family "$PROGRAMS/tanren_kernels_emulated_test" --gtest_filter='Attention*'
  done
  echo "== $schedule: engine"
  TANREN_EMULATION=$schedule "$PROGRAMS/tanren_engine_emulated_test"
done
echo "== stages"
TANREN=$PROGRAMS/tanren_emulated SOURCE=$ROOT bash "$ROOT/tests/launch/cuda_test.sh"
