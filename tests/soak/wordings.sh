#!/usr/bin/env bash
# One right answer, many wordings: does a model learn what an answer means, and does it keep its wordings? From nothing
# to the tables of docs/benchmarks/wordings.md: pre-training, SFT, a reward model, PPO and DPO on two CPU ranks, once
# for each seed, which also chooses the wordings that no training file has. docs/benchmarks/wordings.md says how long it took.
#
#   tests/soak/wordings.sh             seed 1
#   tests/soak/wordings.sh 1 2 3       several, and the mean and range of their figures
#
# MODELS: which of them are trained, measured and in the tables; default all. `MODELS="sft ppo dpo"` leaves out the three
# that only show what is lost with a loose tie to the SFT model.
#
# Each seed has a directory build/soak/wordings/seed-N; run again, it goes on where it was. jq is needed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source=tests/lib.sh
. tests/lib.sh

root=$PWD
tanren=${TANREN:-$root/build/cpu/launch/tanren}
configs=$root/configs/wordings
scratch=$root/build/soak/wordings
seeds=("$@")
[ ${#seeds[@]} -gt 0 ] || seeds=(1)
for seed in "${seeds[@]}"; do
  if ! [[ $seed =~ ^[0-9]{1,9}$ ]]; then
    echo "wordings.sh: '$seed' is not a seed: whole numbers are" >&2
    exit 2
  fi
done
command -v jq >/dev/null || { echo "wordings.sh: jq is needed: apt-get install jq" >&2; exit 2; }

# train NAME CONFIG [KEY=VALUE...]: a stage in the directory NAME, unless it is done.
train() {
  local name=$1 config=$2 begin=$SECONDS
  shift 2
  [ ! -e "$name.done" ] || return 0
  "$tanren" launch -n 2 train "$configs/$config.yaml" run_directory="$name" seed="$seed" "$@" >"$name.log" 2>&1 ||
    { tail -n 20 "$name.log" >&2; echo "wordings.sh: $PWD/$name.log ends with the reason" >&2; return 1; }
  echo $((SECONDS - begin)) >"$name.done"
}

# measure NAME SUITE [KEY=VALUE...]: NAME/summary.json, unless it is there. Exit code 3, a gate that failed, is told in
# the table and ends nothing.
measure() {
  local name=$1 suite=$2 status=0
  shift 2
  [ ! -e "$name/summary.json" ] || return 0
  "$tanren" launch -n 2 eval "$configs/$suite.yaml" out="$name" seed="$seed" "$@" >"$name.log" 2>&1 || status=$?
  [ "$status" -eq 0 ] || [ "$status" -eq 3 ] || { tail -n 20 "$name.log" >&2; return 1; }
}

# What heldout_recall.jsonl holds, in the formats of the suites. Of seen wordings a third each time, in turn: a ranking
# has as many of them as of unseen ones. The rankings have one kind of error each, digit or name.
split_held_out() {
  local held_out=data/heldout_recall.jsonl error
  # shellcheck disable=SC2016  # the variables are jq's
  local rank='
    def of(from; to): [range(from; to) as $i | select(.errors[$i] == $error) | .wrong[$i]];
    def rank(right; wrong): select((wrong | length) > 0) |
      {prompt, responses: (right + wrong), ranking: ((right | map(1)) + (wrong | map(2)))};
    (.unseen | length) as $n | (.seen | length) as $s | (input_line_number % ($s / $n | floor) * $n) as $at |'
  jq -c '{prompt, answer, kind}' "$held_out" >cases.jsonl
  jq -c '{prompt, completions: .seen}' "$held_out" >loss_seen.jsonl
  jq -c '{prompt, completions: .unseen}' "$held_out" >loss_unseen.jsonl
  jq -c '{prompt, completions: .wrong[:(.seen|length)]}' "$held_out" >loss_wrong_seen.jsonl
  jq -c '{prompt, completions: .wrong[(.seen|length):]}' "$held_out" >loss_wrong_unseen.jsonl
  for error in digit name; do
    jq -c --arg error "$error" "$rank"' rank(.seen[$at:$at+$n]; of($at; $at+$n))' "$held_out" >"seen_$error.jsonl"
    jq -c --arg error "$error" "$rank"' rank(.unseen; of($s; $s+$n))' "$held_out" >"unseen_$error.jsonl"
    jq -c --arg error "$error" "$rank"' rank(.unseen; of($at; $at+$n))' "$held_out" >"across_$error.jsonl"
  done
}

prepare() {
  [ ! -e prepared ] || return 0
  "$tanren" data synth --out data --seed "$seed" --recall 5000 --pretrain 4000 >synth.log
  # Words and single digits are tokens: what is looked up is then near in tokens, and copied by a small model.
  "$tanren" tokenizer train --kind bpe --vocab-size 640 --split-pattern qwen --out tokenizer data/pretrain.jsonl \
    data/recall_pretrain.jsonl >tokenizer.log
  "$tanren" data tokenize --tokenizer tokenizer --split pretrain=0.98 --split validation=0.02 --out tokens \
    data/pretrain.jsonl data/recall_pretrain.jsonl >tokenize.log
  split_held_out
  : >prepared
}

# The last three are tied to the SFT model less: they show what is lost then.
read -r -a models <<<"${MODELS:-sft ppo dpo ppo_low_kl ppo_loose dpo_loose}"

# policy NAME: one of the models that start from SFT's.
policy() {
  case $1 in
    sft) train sft sft ;;
    ppo) train ppo ppo ;;
    dpo) train dpo dpo ;;
    ppo_low_kl) train ppo_low_kl ppo rl.kl_coefficient=0.05 ;;
    ppo_loose) train ppo_loose ppo rl.kl_coefficient=0 optimizer.learning_rate=3e-4 ;;
    dpo_loose) train dpo_loose dpo preference.pairs=best_and_worst preference.beta=0.01 optimizer.learning_rate=1e-4 ;;
    *)
      echo "wordings.sh: MODELS: there is no model $1" >&2
      return 2
      ;;
  esac
}

# Everything of one seed, in the working directory.
run_seed() {
  prepare
  train pretrain pretrain
  train sft sft
  train reward_model reward_model
  measure meaning meaning
  for name in "${models[@]}"; do
    policy "$name"
    measure "eval-$name" eval checkpoint="$name"
  done
  measure sampling sampling
}

# values FILE FILTER: of each seed's summary.json under FILE; "-" where it has none.
values() {
  local seed
  for seed in "${seeds[@]}"; do
    jq -r "$2 // \"-\"" "$scratch/seed-$seed/$1/summary.json"
  done
}

# cell FORMAT: the mean of the numbers on stdin and, of several, their range.
cell() {
  awk -v format="$1" '
    $1 == "-" { next }
    { sum += $1; if (n == 0 || $1 < low) low = $1; if (n == 0 || $1 > high) high = $1; ++n }
    END {
      if (n == 0) { print "-"; exit }
      printf format, sum / n
      if (n > 1) printf " (" format "-" format ")", low, high
      print ""
    }'
}

# row TITLE CELL...: a line of a table.
row() {
  printf '| %s' "$1"
  shift
  printf ' | %s' "$@"
  printf ' |\n'
}

meaning_tables() {
  local name setting
  echo
  row "wording" "SFT loss, nats a token" "of the nearly right sentence"
  row "---" "---" "---"
  for name in seen unseen; do
    row "$name" "$(values meaning ".tests.loss_$name.figures.loss" | cell %.3f)" \
      "$(values meaning ".tests.loss_wrong_$name.figures.loss" | cell %.3f)"
  done
  echo
  row "right above nearly right" "a wrong digit" "another name"
  row "---" "---" "---"
  for name in seen unseen across; do
    row "$name" "$(values meaning ".tests.${name}_digit.figures.reward_accuracy" | cell %.4f)" \
      "$(values meaning ".tests.${name}_name.figures.reward_accuracy" | cell %.4f)"
  done
}

# diversity_row TITLE DIRECTORY STRATEGY
diversity_row() {
  local figures=".tests.recall.strategies[\"$3\"].figures"
  row "$1" "$(values "$2" "$figures.pass_at_1" | cell %.4f)" "$(values "$2" "$figures.wordings_right" | cell %.2f)" \
    "$(values "$2" "$figures.distinct_right" | cell %.3f)"
}

tables() {
  local name setting
  meaning_tables
  echo
  row "model" "right, of 16 samples" "wordings among the right ones" "distinct share"
  row "---" "---" "---" "---"
  for name in "${models[@]}"; do diversity_row "$name" "eval-$name" samples16; done
  echo
  row "sampling of the SFT model" "right, of 16 samples" "wordings among the right ones" "distinct share"
  row "---" "---" "---" "---"
  for setting in "temperature "{0.3,0.7,1,1.3} "top_k "{1,5,20} "top_p "{0.8,0.9,0.95}; do
    name=${setting/ /-}
    diversity_row "$setting" sampling "${name/./_}"
  done
}

for seed in "${seeds[@]}"; do
  mkdir -p "$scratch/seed-$seed"
  begin=$SECONDS
  # In the background, since -e does not hold inside a command that || follows.
  (cd "$scratch/seed-$seed" && run_seed) &
  wait $! || { echo "wordings.sh: seed $seed FAILED" >&2; exit 1; }
  echo "wordings: seed $seed in $((SECONDS - begin)) s"
done
tables
