#!/usr/bin/env bash
# What takes too long for every commit. Runs one part, or all of them; each says what it found, and the exit code is
# that of the worst.
#
#   tests/soak.sh                  all parts
#   tests/soak.sh sanitizers       all tests under AddressSanitizer and UndefinedBehaviorSanitizer
#   tests/soak.sh shakespeare      nanoGPT's CPU baseline on character-level tinyshakespeare, on 1 and on 2 ranks
#   tests/soak.sh kill             kill -9 of ranks at random moments, ROUNDS times, against a run left alone
#   tests/soak.sh real_data        every post-training stage on data that people made: tests/soak/real_data.sh
#   tests/soak.sh wordings         one right answer, many wordings: tests/soak/wordings.sh
#   tests/soak.sh costs            post-training beside pre-training, generation beside PyTorch: tests/soak/costs.sh
#   tests/soak.sh controls         reinforcement beside doing without it, over seeds, after the quickstart: tests/soak/controls.sh
#
# TANREN_DATA: the data of the parts shakespeare and real_data (default ../shared/data). ROUNDS: default 20.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=tests/lib.sh
. tests/lib.sh

tanren=$PWD/build/cpu/launch/tanren
data=${TANREN_DATA:-../shared/data}
scratch=build/soak
rounds=${ROUNDS:-20}

build() {
  launch/setup.sh --tests
  configure cpu
  cmake --build --preset cpu --target tanren -j "$(build_jobs)"
  mkdir -p "$scratch"
}

sanitizers() { tests/sanitizers.sh; }

# nanoGPT's README: validation loss 1.88 for this shape and these 2,000 steps.
shakespeare() {
  local text home=$scratch/shakespeare ranks loss begin worst=0
  text=$(find "$data/text" -name '*shakespeare*' -type f 2>/dev/null | sort | head -n 1)
  if [ -z "$text" ]; then
    echo "soak: shakespeare skipped: no tinyshakespeare under $data/text (TANREN_DATA)"
    return 0
  fi
  build
  "$tanren" tokenizer train --kind characters --format text --no-specials --out "$home/tokenizer" "$text"
  "$tanren" data tokenize --tokenizer "$home/tokenizer" --split train=0.9 --split validation=0.1 --no-end-of-text \
    --out "$home/tokens" "$text"
  for ranks in 1 2; do
    rm -rf "$home/run-$ranks"
    begin=$SECONDS
    "$tanren" launch -n "$ranks" train configs/shakespeare_char.yaml run_directory="$home/run-$ranks" \
      tokenizer.path="$home/tokenizer" data.train.0.path="$home/tokens/train" \
      data.validation.0.path="$home/tokens/validation"
    loss=$(grep -o '"validation_loss":[^,}]*' "$home/run-$ranks/metrics.jsonl" | tail -n 1 | cut -d: -f2)
    echo "soak: shakespeare on $ranks ranks: validation loss $loss (nanoGPT 1.88) in $((SECONDS - begin)) s"
    awk -v loss="$loss" 'BEGIN { exit !(loss + 0 > 0 && loss + 0 <= 1.88) }' || worst=1
  done
  return "$worst"
}

# The processes that are ranks of the run in directory $1.
rank_pids() {
  local process arguments
  for process in /proc/[0-9]*; do
    [ "$(cat "$process/comm" 2>/dev/null)" = tanren ] || continue
    arguments=$(tr '\0' ' ' <"$process/cmdline" 2>/dev/null) || continue
    case $arguments in
      *" launch "*) ;;
      *" run_directory=$1 "*) echo "${process#/proc/}" ;;
    esac
  done
}

# The metrics that must not depend on how often a run was killed.
losses() { grep -o '"step":[0-9]*,"loss":[^,]*' "$1/metrics.jsonl"; }

kill_ranks() {
  local home=$scratch/kill round victim launcher status shard
  local overrides=(train.steps=400 train.log_interval=1 checkpoint.interval_steps=7 validation.interval_steps=0
    samples.interval_steps=0 tokenizer.path="$home/tokenizer" data.train.0.path="$home/tokens"
    data.validation.0.path="$home/tokens" parallel.data=2)
  build
  rm -rf "$home"
  mkdir -p "$home"
  "$tanren" data synth --out "$home/data"
  "$tanren" tokenizer train --kind characters --out "$home/tokenizer" "$home/data/train.jsonl"
  "$tanren" data tokenize --tokenizer "$home/tokenizer" --out "$home/tokens" "$home/data/train.jsonl"
  "$tanren" launch -n 2 train configs/quickstart/pretrain.yaml run_directory="$home/whole" "${overrides[@]}" >"$home/whole.log"
  for ((round = 1; round <= rounds; ++round)); do
    "$tanren" launch -n 2 train configs/quickstart/pretrain.yaml run_directory="$home/killed" "${overrides[@]}" \
      >>"$home/killed.log" 2>&1 &
    launcher=$!
    sleep "$(awk -v seed="$RANDOM" 'BEGIN { srand(seed); print 1 + 4 * rand() }')"
    victim=$(rank_pids "$home/killed" | shuf -n 1)
    if [ -n "$victim" ]; then kill -KILL "$victim" 2>/dev/null || true; fi
    status=0
    wait "$launcher" || status=$?
    echo "soak: kill $round of $rounds: exit code $status"
    if [ "$status" -eq 2 ]; then
      tail -n 20 "$home/killed.log" >&2
      return 1
    fi
  done
  "$tanren" launch -n 2 train configs/quickstart/pretrain.yaml run_directory="$home/killed" "${overrides[@]}" >>"$home/killed.log"
  if ! cmp <(losses "$home/whole") <(losses "$home/killed"); then
    echo "soak: the killed run's losses differ from those of the run left alone" >&2
    return 1
  fi
  # The stored tensors must be the same bytes; the shards of one layout are.
  for shard in "$home"/whole/step-00000400/*.safetensors; do
    cmp "$shard" "$home/killed/step-00000400/$(basename "$shard")"
  done
  echo "soak: kill: $(losses "$home/whole" | wc -l) losses and all tensors equal those of the run left alone"
}

parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(sanitizers shakespeare kill real_data wordings costs controls)
worst=0
for part in "${parts[@]}"; do
  # In the background, since -e does not hold inside a command that || follows.
  case $part in
    sanitizers) sanitizers & ;;
    shakespeare) shakespeare & ;;
    kill) kill_ranks & ;;
    real_data | wordings | costs | controls) "tests/soak/$part.sh" & ;;
    *) echo "soak.sh: unknown part '$part'; known are sanitizers, shakespeare, kill, real_data, wordings, costs, controls" >&2; exit 2 ;;
  esac
  wait $! || { echo "soak: $part FAILED" >&2; worst=1; }
done
exit "$worst"
