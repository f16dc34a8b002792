#!/usr/bin/env bash
# What reinforcement gains over doing without it, at equal compute, for several seeds, where it is needed: worked answers
# exist for usual questions, and of stories of two steps for ten only; but answers to many such stories can be checked.
# From one base model of the reasoning curriculum, for each seed:
#
#   steps, answers   SFT on all of the curriculum's examples, with worked steps and with bare answers
#   no_replay        as steps, without replaying pre-training data
#   tenth, hundredth as steps, on a tenth and a hundredth of the examples
#   few              SFT on the usual questions and ten stories, until it learns no more from them
#   grpo             from few: right answers to stories and usual questions are rewarded
#   grpo_shuffled    the same with rewards that change places
#   more             from few: more SFT for the processor seconds that grpo took
#   ppo, ppo_shuffled  from few: PPO with a critic, rewarded as grpo
#   more_as_ppo      from few: more SFT for the processor seconds that ppo took
#
# Prints accuracy on the held-out questions of each arm, mean and range over the seeds. What is done is not done twice.
#
#   tests/soak/controls.sh                 needs launch/quickstart.sh's base model and data in runs/quickstart
#
# SEEDS: default "1 2 3 4 5"; ARMS: default all of the above, in an order in which each finds what it starts from. Each run
# is one process of one thread, two at a time, so that processor seconds are the stage's own and not a wait for another
# rank's. About 25 minutes a seed on two cores.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source=tests/lib.sh
. tests/lib.sh

export tanren=${TANREN:-$PWD/build/cpu/launch/tanren}
export models=runs/quickstart
export home=build/soak/scarce
read -r -a seeds <<<"${SEEDS:-1 2 3 4 5}"
read -r -a arms <<<"${ARMS:-few grpo more grpo_shuffled steps answers no_replay tenth hundredth ppo ppo_shuffled more_as_ppo}"
export OMP_NUM_THREADS=1

if [ ! -e "$models/pretrain.done" ]; then
  echo "controls: $models has no base model; run launch/quickstart.sh first" >&2
  exit 1
fi
mkdir -p "$home"

# The examples with ten stories in all, and as many prompts of stories as of usual questions.
story='"kind":"two_step"' usual='"difficulty":"same"'
(
  grep "$usual" "$models/data/sft.jsonl"
  grep -m 10 "$story" "$models/data/sft.jsonl"
) >"$home/few.jsonl"
prompts=$models/data/prompts.jsonl
usual_prompts=$(grep -c "$usual" "$prompts")
awk -v most="$usual_prompts" -v usual="$usual" -v story="$story" \
  'index($0, usual) || (index($0, story) && ++stories <= most)' "$prompts" >"$home/prompts.jsonl"

# accuracy NAME PATTERN: share of right answers among the lines that match.
accuracy() {
  grep -E "$2" "$home/$1.answers.jsonl" | awk '/"correct":true/ { right++ } END { printf "%.3f", right / NR }'
}

# train NAME CONFIG KEY=VALUE...: a run into $home/NAME, the processor seconds of its step loop and start in NAME.seconds.
train() {
  local name=$1 config=$2
  shift 2
  [ ! -e "$home/$name.json" ] || return 0
  rm -rf "${home:?}/$name"
  if ! ( TIMEFORMAT=%U; time "$tanren" train "configs/quickstart/$config.yaml" run_directory="$home/$name" \
    tokenizer.path="$models/tokenizer" checkpoint.interval_steps=100000 validation.interval_steps=100000 "$@" \
    >"$home/$name.log" 2>&1 ) 2>"$home/$name.seconds"; then
    echo "controls: $name failed; $home/$name.log ends:" >&2
    tail -n 5 "$home/$name.log" >&2
    return 1
  fi
  "$tanren" eval "$home/$name" --cases "$models/data/heldout.jsonl" --max-tokens 112 --out "$home/$name.answers.jsonl" \
    --summary "$home/$name.json" >>"$home/$name.log" 2>&1
  echo "controls: $name: $(accuracy "$name" .) of all, $(accuracy "$name" '"difficulty":"harder"') of the harder, $(cat "$home/$name.seconds") s"
}

# more NAME ARM SEED: as many steps of SFT as fit into ARM's processor seconds, at half of SFT's learning rate; other seed,
# other order.
more() {
  local steps
  steps=$(paste "$home/$2-$3.seconds" "$home/few-$3.seconds" | awk '{ printf "%d", 1200 * $1 / $2 }')
  train "$1" sft seed="$((100 + $3))" init.from="$home/few-$3" "data.examples.0.path=$home/few.jsonl" \
    train.steps="$steps" optimizer.learning_rate=5e-4
}

# run ARM-SEED
run() {
  local arm=${1%-*} seed=${1##*-}
  local rl=(seed="$seed" init.from="$home/few-$seed" "data.examples.0.path=$home/prompts.jsonl" optimizer.learning_rate=1e-4)
  local grpo=("${rl[@]}" rl.epochs=2 train.steps=60 schedule.warmup_steps=12)
  local ppo=("${rl[@]}" "init.reward=''" rewards.checker_weight=1 guards.max_reward_gap=0)
  case $arm in
    steps) train "$1" sft seed="$seed" init.from="$models/pretrain" ;;
    no_replay) train "$1" sft seed="$seed" init.from="$models/pretrain" sft.replay_share=0 ;;
    tenth) train "$1" sft seed="$seed" init.from="$models/pretrain" data.examples.0.limit=1000 ;;
    hundredth) train "$1" sft seed="$seed" init.from="$models/pretrain" data.examples.0.limit=100 ;;
    answers) train "$1" sft seed="$seed" init.from="$models/pretrain" "data.examples.0.path=$models/data/sft_answers.jsonl" ;;
    few) train "$1" sft seed="$seed" init.from="$models/pretrain" "data.examples.0.path=$home/few.jsonl" train.steps=1200 ;;
    more) more "$1" grpo "$seed" ;;
    more_as_ppo) more "$1" ppo "$seed" ;;
    grpo) train "$1" grpo "${grpo[@]}" ;;
    grpo_shuffled) train "$1" grpo "${grpo[@]}" rewards.shuffle=true ;;
    ppo) train "$1" ppo "${ppo[@]}" ;;
    ppo_shuffled) train "$1" ppo "${ppo[@]}" rewards.shuffle=true ;;
    *)
      echo "controls: no arm $arm" >&2
      return 255 # ends xargs
      ;;
  esac
}
export -f run train accuracy more

# An arm after the other: each finds what it starts from.
for arm in "${arms[@]}"; do
  printf "$arm-%s\n" "${seeds[@]}" | xargs -P 2 -I {} bash -euo pipefail -c 'run {}'
done

# mean (least to most) of the numbers on stdin.
mean_and_range() {
  awk '{ sum += $1; if (NR == 1 || $1 < least) least = $1; if (NR == 1 || $1 > most) most = $1 }
    END { if (NR == 0) print "-"; else printf "%.3f (%.3f to %.3f)", sum / NR, least, most }'
}

# accuracies NAME PATTERN; and the last of the rises of the base validation loss that each run of NAME logged, in nats.
accuracies() { for seed in "${seeds[@]}"; do accuracy "$1-$seed" "$2"; echo; done | mean_and_range; }
forgetting() {
  for seed in "${seeds[@]}"; do
    sed -nE 's/.*"validation_forgetting":([^,}]+).*/\1/p' "$home/$1-$seed/metrics.jsonl" | tail -n 1
  done | mean_and_range
}

printf '\n%-15s %-24s %-24s %-24s %-24s %-24s %s\n' arm all 'same difficulty' harder 'of them stories' forgetting 'processor s, mean'
for arm in "${arms[@]}"; do
  printf '%-15s %-24s %-24s %-24s %-24s %-24s %s\n' "$arm" "$(accuracies "$arm" .)" "$(accuracies "$arm" "$usual")" \
    "$(accuracies "$arm" '"difficulty":"harder"')" "$(accuracies "$arm" "$story")" "$(forgetting "$arm")" \
    "$(for seed in "${seeds[@]}"; do cat "$home/$arm-$seed.seconds"; done | awk '{ s += $1 } END { printf "%.0f", s / NR }')"
done
