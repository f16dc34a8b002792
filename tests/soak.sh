#!/usr/bin/env bash
# What takes too long for every commit. Runs one part, or all of them; each says what it found, and the exit code is
# that of the worst.
#
#   tests/soak.sh                  all parts
#   tests/soak.sh sanitizers       all tests under AddressSanitizer and UndefinedBehaviorSanitizer
#   tests/soak.sh shakespeare      nanoGPT's CPU baseline on character-level tinyshakespeare, on 1 and on 2 ranks
#   tests/soak.sh kills            1,000 times kill -9, at random moments and at each point of saving: tests/soak/kills.sh
#   tests/soak.sh corruptions      10,000 damaged checkpoints, each refused by name: tests/soak/corruptions.sh
#   tests/soak.sh real_data        every post-training stage on data that people made: tests/soak/real_data.sh
#   tests/soak.sh wordings         one right answer, many wordings: tests/soak/wordings.sh
#   tests/soak.sh costs            post-training beside pre-training, generation beside PyTorch: tests/soak/costs.sh
#   tests/soak.sh controls         reinforcement beside doing without it, over seeds, after the quickstart: tests/soak/controls.sh
#
# TANREN_DATA: the data of the parts shakespeare and real_data (default ../shared/data).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=tests/lib.sh
. tests/lib.sh

tanren=$PWD/build/cpu/launch/tanren
data=${TANREN_DATA:-../shared/data}
scratch=build/soak

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

# built PART: a script of tests/soak that takes the binary as it is.
built() {
  build
  "tests/soak/$1.sh"
}

parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(sanitizers shakespeare kills corruptions real_data wordings costs controls)
worst=0
for part in "${parts[@]}"; do
  # In the background, since -e does not hold inside a command that || follows.
  case $part in
    sanitizers) sanitizers & ;;
    shakespeare) shakespeare & ;;
    kills | corruptions) built "$part" & ;;
    real_data | wordings | costs | controls) "tests/soak/$part.sh" & ;;
    *)
      echo "soak.sh: unknown part '$part'; known are sanitizers, shakespeare, kills, corruptions, real_data, wordings, costs," \
        "controls" >&2
      exit 2
      ;;
  esac
  wait $! || { echo "soak: $part FAILED" >&2; worst=1; }
done
exit "$worst"
