#!/usr/bin/env bash
# From a bare machine to a small model that works out sums step by step: installs what is missing, builds, makes the
# data, pre-trains on two ranks, goes on at another layout, asks questions it has never seen, and says what was
# learned. Takes less than ten minutes on two cores. Run it again after an interruption: it goes on where it was.
#
# TANREN_STEPS: training steps in all (default 1000).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=tests/lib.sh
. tests/lib.sh

preset=cpu
tanren=build/$preset/launch/tanren
home=runs/quickstart
run=$home/pretrain
config=configs/quickstart.yaml
steps=${TANREN_STEPS:-1000}
first_steps=$((steps / 2))
phase="starting"
started=$SECONDS

if ! [[ $steps =~ ^[1-9][0-9]*$ ]] || [ "$steps" -lt 100 ]; then
  echo "quickstart: TANREN_STEPS=$steps: a number of steps from 100 on is needed" >&2
  exit 2
fi

headline() {
  phase=$1
  printf '\n=== %s  (%d:%02d)\n' "$phase" $(((SECONDS - started) / 60)) $(((SECONDS - started) % 60))
}
trap 'echo "quickstart: stopped while $phase. Run it again: what is done is not done twice." >&2' ERR

# The step of the newest checkpoint, 0 when there is none.
newest_step() {
  local directory name step=0
  for directory in "$run"/step-*/; do
    name=$(basename "$directory")
    if [[ $name =~ ^step-([0-9]+)$ ]] && [ -f "$directory/COMMIT" ]; then
      [ "$((10#${BASH_REMATCH[1]}))" -le "$step" ] || step=$((10#${BASH_REMATCH[1]}))
    fi
  done
  echo "$step"
}

# part NAME UNTIL_STEP OVERRIDE...: trains until a step and measures what was learned.
part() {
  local name=$1 until=$2 begin=$SECONDS status=0
  shift 2
  [ -e "$home/$name.seconds" ] || : >"$home/$name.seconds"
  if [ "$(newest_step)" -ge "$until" ]; then
    echo "done already: the newest checkpoint is of step $(newest_step)"
  else
    # train.stop_after ends a run as if it were preempted, with exit code 75: saved, to be continued.
    "$tanren" launch -n 2 train "$config" run_directory="$run" train.steps="$steps" train.stop_after="$until" "$@" ||
      status=$?
    echo $((SECONDS - begin)) >>"$home/$name.seconds"
    if [ "$status" -ne 0 ] && [ "$status" -ne 75 ]; then return "$status"; fi
    # Stopped by a signal, before its time.
    if [ "$(newest_step)" -lt "$until" ]; then return 75; fi
  fi
  if [ "$home/$name.json" -nt "$home/$name.seconds" ]; then return 0; fi
  "$tanren" launch -n 2 eval "$run" --cases "$home/data/heldout.jsonl" --out "$home/$name.answers.jsonl" \
    --summary "$home/$name.json"
}

# row NAME FROM_STEP TO_STEP: sets the part's row in summary.json and prints the table.
row() {
  "$tanren" report "$run" --stage "$1" --from-step "$2" --to-step "$3" --evaluation "$home/$1.json" \
    --seconds "$(awk '{ sum += $1 } END { print sum + 0 }' "$home/$1.seconds")" --summary "$home/summary.json"
}

headline "installing what the build needs"
launch/setup.sh

headline "building"
configure "$preset"
cmake --build --preset "$preset" --target tanren -j "$(build_jobs)"
"$tanren" --version

headline "making the task: arithmetic with worked steps"
mkdir -p "$home"
"$tanren" data synth --out "$home/data"
"$tanren" tokenizer train --kind characters --out "$home/tokenizer" "$home/data/train.jsonl"
for split in train heldout; do
  "$tanren" data tokenize --tokenizer "$home/tokenizer" --out "$home/tokens/$split" "$home/data/$split.jsonl"
done

headline "pre-training on two data-parallel ranks, to step $first_steps of $steps"
part pretrain "$first_steps" parallel.data=2 parallel.tensor=1
row pretrain 0 "$first_steps"

headline "going on with the same checkpoint as two tensor-parallel ranks, to step $steps"
part resume "$steps" parallel.data=1 parallel.tensor=2
row resume "$first_steps" "$steps"

headline "asking it"
"$tanren" generate "$run" --temperature 0 --max-tokens 96 -p $'Question: 47 + 38 = ?\nSteps:\n' \
  -p $'Question: 91 - 24 = ?\nSteps:\n'

phase="finished"
printf '\n=== done in %d:%02d\n' $(((SECONDS - started) / 60)) $(((SECONDS - started) % 60))
cat <<TXT
$home/summary.json
    what each stage learned and took
$run/metrics.jsonl
    every figure of the training; for TensorBoard: tensorboard --logdir $run/tb
$home/resume.answers.jsonl
    the held-out questions with the model's answers

Next:
  $tanren data show $home/tokens/train
  $tanren ckpt ls $run
  $tanren launch -n 2 train $config run_directory=runs/mine optimizer.learning_rate=1e-3
README.md goes on with text of your own.
TXT
