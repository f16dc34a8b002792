#!/usr/bin/env bash
# From random weights to a model that reasons, on two CPU ranks: pre-training, supervised fine-tuning, a reward model from
# ranked answers, PPO on that reward model alone, and DPO and GRPO from the same fine-tuned model. Each stage is measured
# on held-out questions; the last lines are a table. Run it again after an interruption: it goes on where it was.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=tests/lib.sh
. tests/lib.sh

preset=cpu
tanren=build/$preset/launch/tanren
home=runs/reasoning
data=$home/data
samples=8
started=$SECONDS

headline() { printf '\n=== %s  (%d:%02d)\n' "$1" $(((SECONDS - started) / 60)) $(((SECONDS - started) % 60)); }

# stage NAME: trains configs/reasoning/NAME.yaml, unless it is done.
stage() {
  local begin=$SECONDS
  headline "$1"
  [ -e "$home/$1.done" ] && { echo "done already"; return; }
  "$tanren" launch -n 2 train "configs/reasoning/$1.yaml"
  echo $((SECONDS - begin)) >"$home/$1.done"
}

# measure NAME [OPTION...]: held-out accuracy of a stage's model, greedy and over samples.
measure() {
  local name=$1
  shift
  [ "$home/$name.json" -nt "$home/$name.done" ] && return
  "$tanren" launch -n 2 eval "$home/$name" --cases "$data/heldout.jsonl" --samples "$samples" --max-tokens 96 \
    --out "$home/$name.answers.jsonl" --summary "$home/$name.json" "$@"
}

# rank NAME CASES: the SFT model's own answers to the cases, ranked by the scripted judge.
rank() {
  [ -e "$data/$1.jsonl" ] && return
  "$tanren" launch -n 2 eval "$home/sft" --cases "$2" --samples 4 --max-tokens 96 --out "$home/$1.samples.jsonl"
  "$tanren" annotate "$home/$1.samples.jsonl" --judge arithmetic --out "$data/$1.jsonl"
}

headline "building"
launch/setup.sh
configure "$preset"
cmake --build --preset "$preset" --target tanren -j "$(build_jobs)"

headline "making the task"
mkdir -p "$home"
"$tanren" data synth --out "$data"
"$tanren" tokenizer train --kind characters --out "$home/tokenizer" "$data/pretrain.jsonl"
"$tanren" data tokenize --tokenizer "$home/tokenizer" --split pretrain=0.98 --split validation=0.02 \
  --out "$home/tokens" "$data/pretrain.jsonl"

stage pretrain
stage sft
headline "ranking answers of the fine-tuned model"
head -n 3600 "$data/prompts.jsonl" >"$home/prompts_to_rank.jsonl"
tail -n 400 "$data/prompts.jsonl" >"$home/prompts_to_rank_heldout.jsonl"
rank rankings "$home/prompts_to_rank.jsonl"
rank rankings_heldout "$home/prompts_to_rank_heldout.jsonl"
stage reward_model
stage ppo
stage dpo
stage grpo

headline "measuring on held-out questions"
for name in pretrain sft ppo dpo grpo; do
  extra=(--reward "$home/reward_model")
  # A base model reads the layout that it was pre-trained on.
  measure "$name" "${extra[@]}"
done

headline "what was learned"
printf '%-10s %9s %11s %10s %12s %8s\n' stage greedy "majority of $samples" "best by RM" "steps valid" seconds
for name in pretrain sft ppo dpo grpo; do
  figure() { sed -nE "s/^  \"$1\": ([0-9.e-]+),?$/\1/p" "$home/$name.json"; }
  printf '%-10s %9.4f %11.4f %10.4f %12.4f %8s\n' "$name" "$(figure accuracy)" "$(figure majority)" "$(figure best_of_n)" \
    "$(figure steps_valid)" "$(cat "$home/$name.done")"
done
