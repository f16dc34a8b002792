#!/usr/bin/env bash
# From a bare machine to a small model that reasons: installs what is missing, builds, makes a curriculum of arithmetic
# with worked steps, and runs every stage on two CPU ranks: pre-training, supervised fine-tuning, a reward model from
# ranked answers, PPO on that reward model alone, and DPO and GRPO from the same fine-tuned model. Each stage is measured
# on questions that no stage has seen. Run it again after an interruption: it goes on where it was.
#
# TANREN_PERCENT: length of each stage in percent of what its config says (default 100, at least 25).
set -Eeuo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=tests/lib.sh
. tests/lib.sh

preset=cpu
tanren=build/$preset/launch/tanren
home=runs/quickstart
data=$home/data
samples=8
percent=${TANREN_PERCENT:-100}
phase="starting"
started=$SECONDS

if ! [[ $percent =~ ^[1-9][0-9]{1,3}$ ]] || [ "$percent" -lt 25 ]; then
  echo "quickstart: TANREN_PERCENT=$percent: a whole number from 25 to 9999 is needed" >&2
  exit 2
fi

# Stages of another length or of other configs are not gone on with.
settings="percent $percent, configs $(cat configs/quickstart/*.yaml configs/models/reasoner.yaml | cksum)"
if [ -e "$home" ] && [ "$settings" != "$(cat "$home/settings" 2>/dev/null)" ]; then
  echo "quickstart: $home was made with other settings: move it away, or go on with those" >&2
  exit 2
fi
mkdir -p "$home"
echo "$settings" >"$home/settings"

headline() {
  phase=$1
  printf '\n=== %s  (%d:%02d)\n' "$phase" $(((SECONDS - started) / 60)) $(((SECONDS - started) % 60))
}
trap 'echo "quickstart: stopped while $phase. Run it again: what is done is not done twice." >&2' ERR

# train NAME: one stage of configs/quickstart, unless it is done; the seconds of all its parts are kept.
train() {
  local name=$1 begin=$SECONDS status=0 steps
  if [ -e "$home/$name.done" ]; then
    echo "done already"
    return
  fi
  steps=$(sed -nE 's/^train: \{steps: ([0-9]+).*/\1/p' "configs/quickstart/$name.yaml")
  "$tanren" launch -n 2 train "configs/quickstart/$name.yaml" train.steps=$(((steps * percent + 99) / 100)) || status=$?
  echo $((SECONDS - begin)) >>"$home/$name.seconds"
  if [ "$status" -ne 0 ]; then return "$status"; fi
  : >"$home/$name.done"
}

# measure NAME [REFERENCE]: held-out accuracy of a stage's model, greedy and over samples, scored by the reward model;
# how far the samples are from the model that the stage began with.
measure() {
  local name=$1 reference=()
  if [ $# -gt 1 ]; then reference=(--reference "$home/$2"); fi
  if [ -s "$home/$name.json" ] && [ "$home/$name.json" -nt "$home/$name.done" ]; then return; fi
  "$tanren" launch -n 2 eval "$home/$name" --cases "$data/heldout.jsonl" --samples "$samples" --max-tokens 112 \
    --reward "$home/reward_model" "${reference[@]}" --out "$home/$name.answers.jsonl" --summary "$home/$name.json"
}

# row NAME DIRECTORY: sets the stage's row in summary.json and prints the table.
row() {
  local evaluation=()
  if [ -s "$home/$2.json" ]; then evaluation=(--evaluation "$home/$2.json"); fi
  "$tanren" report "$home/$2" --stage "$1" "${evaluation[@]}" --summary "$home/summary.json" \
    --seconds "$(awk '{ sum += $1 } END { print sum + 0 }' "$home/$2.seconds")"
}

# rank NAME CASES: the fine-tuned model's own answers to the cases, ranked by the judge.
rank() {
  if [ -e "$data/$1.jsonl" ]; then return; fi
  "$tanren" launch -n 2 eval "$home/sft" --cases "$2" --samples 4 --temperature 1.2 --max-tokens 112 \
    --out "$home/$1.samples.jsonl"
  "$tanren" annotate "$home/$1.samples.jsonl" --judge arithmetic --out "$data/$1.jsonl"
}

headline "installing what the build needs"
launch/setup.sh

headline "building"
configure "$preset"
cmake --build --preset "$preset" --target tanren -j "$(build_jobs)"
"$tanren" --version

headline "making the task: arithmetic with worked steps"
"$tanren" data synth --out "$data" --sft 10000 --longer-sft 0.008 --prompts 8000 --harder-prompts 0.75
"$tanren" tokenizer train --kind characters --out "$home/tokenizer" "$data/pretrain.jsonl"
"$tanren" data tokenize --tokenizer "$home/tokenizer" --split pretrain=0.98 --split validation=0.02 \
  --out "$home/tokens" "$data/pretrain.jsonl"

headline "pre-training on texts about arithmetic"
train pretrain
row pretrain pretrain

headline "supervised fine-tuning: questions with worked answers"
train sft
row sft sft

headline "ranking answers of the fine-tuned model"
head -n 4000 "$data/prompts.jsonl" >"$home/prompts_to_rank.jsonl"
tail -n 400 "$data/prompts.jsonl" >"$home/prompts_to_rank_heldout.jsonl"
rank rankings "$home/prompts_to_rank.jsonl"
rank rankings_heldout "$home/prompts_to_rank_heldout.jsonl"

headline "a reward model learns the ranking"
train reward_model
measure pretrain
row pretrain pretrain
measure sft pretrain
row sft sft
row rm reward_model

headline "PPO, rewarded by the reward model alone"
train ppo
measure ppo sft
row ppo ppo

headline "DPO, from the same fine-tuned model"
train dpo
measure dpo sft
row dpo dpo

headline "GRPO, from the same fine-tuned model: right answers are rewarded"
train grpo
measure grpo sft
row grpo grpo

headline "asking it"
"$tanren" generate "$home/grpo" --temperature 0 --max-tokens 112 -p "47 + 38 = ?" -p "Ben has 86 pens and gives away 49. How \
many pens are left?"

headline "a page about all of it"
"$tanren" report "$home"

phase="finished"
printf '\n=== done in %d:%02d\n' $(((SECONDS - started) / 60)) $(((SECONDS - started) % 60))
cat <<TXT
$home/report.html
    curves, figures and wrong answers of every stage, for a browser
$home/summary.json
    what each stage learned and took
$home/grpo/metrics.jsonl
    every figure of a stage; for TensorBoard: tensorboard --logdir $home/grpo/tb
$home/grpo.answers.jsonl
    the held-out questions with the model's answers

Next:
  $tanren generate $home/grpo -p "Mia has 23 coins, gives away 4 and gets 15 more. How many coins does Mia have?"
  $tanren data show $data/sft.jsonl --tokenizer $home/tokenizer
  $tanren launch -n 2 eval configs/quickstart/eval.yaml
  $tanren ckpt ls $home/sft
  $tanren launch -n 2 train configs/quickstart/sft.yaml run_directory=runs/mine optimizer.learning_rate=5e-4
README.md goes on with text of your own; docs/post_training.md explains the stages.
TXT
