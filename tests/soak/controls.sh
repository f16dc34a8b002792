#!/usr/bin/env bash
# What the post-training stages gain over doing without them, at equal compute, for several seeds: from one base model and
# one reward model of the reasoning curriculum, for each seed an SFT model, and from it GRPO, PPO on the reward model alone,
# both with rewards that change places, and more SFT for the processor seconds that GRPO took; SFT on bare answers beside
# it. Prints accuracy on the held-out questions of each arm, mean and range over the seeds. What is done is not done twice.
#
#   tests/soak/controls.sh                 needs launch/quickstart.sh's models and data in runs/quickstart
#
# SEEDS: default "1 2 3 4 5". Each run is one process of one thread, two at a time, so that processor seconds are the
# stage's own and not a wait for another rank's. About 20 minutes a seed on two cores.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source=tests/lib.sh
. tests/lib.sh

tanren=${TANREN:-$PWD/build/cpu/launch/tanren}
models=runs/quickstart
home=build/soak/controls
read -r -a seeds <<<"${SEEDS:-1 2 3 4 5}"
export OMP_NUM_THREADS=1

if [ ! -e "$models/grpo.done" ]; then
  echo "controls: $models has no finished quickstart; run launch/quickstart.sh first" >&2
  exit 1
fi
mkdir -p "$home"

# train NAME CONFIG KEY=VALUE...: a run into $home/NAME, the processor seconds of its step loop and start in NAME.seconds.
train() {
  local name=$1 config=$2
  shift 2
  [ ! -e "$home/$name.json" ] || return 0
  rm -rf "${home:?}/$name"
  if ! ( TIMEFORMAT=%U; time "$tanren" train "configs/quickstart/$config.yaml" run_directory="$home/$name" \
    tokenizer.path="$models/tokenizer" checkpoint.interval_steps=100000 "$@" >"$home/$name.log" 2>&1 ) 2>"$home/$name.seconds"; then
    echo "controls: $name failed; $home/$name.log ends:" >&2
    tail -n 5 "$home/$name.log" >&2
    return 1
  fi
  "$tanren" eval "$home/$name" --cases "$models/data/heldout.jsonl" --max-tokens 112 --out "$home/$name.answers.jsonl" \
    --summary "$home/$name.json" >>"$home/$name.log" 2>&1
  echo "controls: $name: $(accuracy "$name" '"difficulty":"[a-z]*"') of all, $(accuracy "$name" '"difficulty":"harder"') of the harder, $(cat "$home/$name.seconds") s"
}

# accuracy NAME PATTERN: share of right answers among the lines that match.
accuracy() {
  grep -E "$2" "$home/$1.answers.jsonl" | awk '/"correct":true/ { right++ } END { printf "%.3f", right / NR }'
}

sft() { train "sft-$1" sft seed="$1" init.from="$models/pretrain"; }
answers() {
  train "answers-$1" sft seed="$1" init.from="$models/pretrain" "data.examples.0.path=$models/data/sft_answers.jsonl"
}
grpo() { train "grpo-$1" grpo seed="$1" init.from="$home/sft-$1"; }
grpo_shuffled() { train "grpo_shuffled-$1" grpo seed="$1" init.from="$home/sft-$1" rewards.shuffle=true; }
ppo() { train "ppo-$1" ppo seed="$1" init.from="$home/sft-$1" init.reward="$models/reward_model"; }
ppo_shuffled() {
  train "ppo_shuffled-$1" ppo seed="$1" init.from="$home/sft-$1" init.reward="$models/reward_model" rewards.shuffle=true
}
# As many steps as fit into GRPO's processor seconds, at half of SFT's learning rate; other seed, other order.
more_sft() {
  local steps
  steps=$(paste "$home/grpo-$1.seconds" "$home/sft-$1.seconds" |
    awk -v sft="$(sed -nE 's/^train: \{steps: ([0-9]+).*/\1/p' configs/quickstart/sft.yaml)" '{ printf "%d", sft * $1 / $2 }')
  train "more_sft-$1" sft seed="$((100 + $1))" init.from="$home/sft-$1" train.steps="$steps" optimizer.learning_rate=5e-4
}

ppo_twice() {
  ppo "$1"
  ppo_shuffled "$1"
}

# both SEED A B: two at a time, and a failure of either is one.
both() {
  local first second status=0
  "$2" "$1" & first=$!
  "$3" "$1" & second=$!
  wait "$first" || status=1
  wait "$second" || status=1
  return "$status"
}

for seed in "${seeds[@]}"; do
  both "$seed" sft answers
  both "$seed" grpo grpo_shuffled
  both "$seed" more_sft ppo_twice
done

# mean (least to most) of NAME over the seeds.
spread() {
  for seed in "${seeds[@]}"; do accuracy "$1-$seed" "$2"; echo; done |
    awk '{ sum += $1; if (NR == 1 || $1 < least) least = $1; if (NR == 1 || $1 > most) most = $1 }
      END { printf "%.3f (%.3f to %.3f)", sum / NR, least, most }'
}
printf '\n%-15s %-26s %-26s %-26s %s\n' arm all 'same difficulty' harder 'processor seconds, mean'
for arm in answers sft more_sft grpo grpo_shuffled ppo ppo_shuffled; do
  printf '%-15s %-26s %-26s %-26s %s\n' "$arm" "$(spread "$arm" '"difficulty":"[a-z]*"')" "$(spread "$arm" '"difficulty":"same"')" \
    "$(spread "$arm" '"difficulty":"harder"')" \
    "$(for seed in "${seeds[@]}"; do cat "$home/$arm-$seed.seconds"; done | awk '{ s += $1 } END { printf "%.0f", s / NR }')"
done
