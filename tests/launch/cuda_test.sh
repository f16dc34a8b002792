#!/usr/bin/env bash
# On a GPU: every stage gives the CPU's losses in fp32, resumes bit for bit, and gives the same losses on two ranks that
# share the device; checkpoints go from one device to the other. Skipped where there is no GPU.
HERE=$(cd "$(dirname "$0")" && pwd)
source "$HERE/common.sh"

"$TANREN" doctor --directory "$WORK" >doctor.log 2>/dev/null || true
if ! grep -q '^gpu  *0:' doctor.log; then
  echo "skipped: $(sed -nE 's/^gpu +none: //p' doctor.log)"
  exit 77
fi
source "$HERE/stages.sh"

run() {  # run STAGE DIRECTORY RANKS DEVICE [key=value ...]
  local stage=$1 directory=$2 ranks=$3 device=$4
  shift 4
  "$TANREN" launch -n "$ranks" train "$stage.yaml" "run_directory=$WORK/$directory" "parallel.device=$device" "$@"
}

# same_losses A B BOUND: relative to the loss, or to 0.1 where it is smaller.
same_losses() {
  paste -d' ' <(losses "$1") <(losses "$2") |
    awk -v bound="$3" '{d = $2 - $4; if (d < 0) d = -d; m = $2 < 0 ? -$2 : $2; if (m < 0.1) m = 0.1; if (d > worst * m) worst = d / m
      if ($1 != $3 || d > bound * m) bad = 1} END {printf "%.1e", worst; exit bad || NR != 12}' ||
    { echo; paste -d' ' <(losses "$1") <(losses "$2") >&2; fail "$1 and $2 have other losses"; }
}

expect_exit 0 pretrain.log run pretrain pretrain 1 cuda
expect_exit 0 pretrain.log run pretrain pretrain-cpu 1 cpu
echo "pretrain: largest difference from the CPU $(same_losses pretrain pretrain-cpu 1e-4)"
for stage in sft reward_model dpo ppo grpo; do
  expect_exit 0 "$stage.log" run "$stage" "$stage" 1 cuda
  expect_exit 0 "$stage.log" run "$stage" "$stage-cpu" 1 cpu
  expect_exit 75 "$stage.log" run "$stage" "$stage-stopped" 1 cuda train.stop_after=6
  expect_exit 0 "$stage.log" run "$stage" "$stage-stopped" 1 cuda
  same_run "$stage" "$stage-stopped" 12
  expect_exit 0 "$stage.log" run "$stage" "$stage-2x1" 2 cuda
  expect_exit 0 "$stage.log" run "$stage" "$stage-1x2" 2 cuda parallel.tensor=2
  # Samples are chosen by comparisons of logits: one that falls the other way makes another rollout, so stage rl is held
  # to its losses within a rollout's noise only where the samples are the same.
  echo "$stage: resumed bit for bit; largest difference from the CPU $(same_losses "$stage" "$stage-cpu" 1e-3)," \
    "at 2x1 $(same_losses "$stage" "$stage-2x1" 1e-4), at 1x2 $(same_losses "$stage" "$stage-1x2" 1e-3)"
done
# A GPU's checkpoint goes on on the CPU, and back.
expect_exit 75 cross.log run sft sft-cross 1 cuda train.stop_after=4
expect_exit 75 cross.log run sft sft-cross 1 cpu train.stop_after=8
expect_exit 0 cross.log run sft sft-cross 1 cuda
echo "sft over GPU, CPU, GPU: largest difference from the GPU alone $(same_losses sft sft-cross 1e-4)"
expect_exit 0 eval.log "$TANREN" eval sft --cases synth/heldout.jsonl --max-tokens 24
echo "all stages on the GPU"
