#!/usr/bin/env bash
# Every config that the tree ships is valid, and the quickstart finds the steps of each stage.
set -euo pipefail
# shellcheck source=tests/launch/common.sh
. "$(dirname "$0")/common.sh"

cd "$SOURCE"
checked=0
for config in configs/shakespeare_char.yaml configs/quickstart/*.yaml configs/tutorial/*.yaml \
  configs/wordings/*.yaml; do
  kind=()
  case $config in
    */eval.yaml | */meaning.yaml | */sampling.yaml) kind=(--suite) ;;
    */ranking_model.yaml) continue ;;  # a section that the others include
  esac
  "$TANREN" config validate "$config" "${kind[@]}" >"$WORK/log" 2>&1 || {
    cat "$WORK/log" >&2
    fail "$config is not valid"
  }
  checked=$((checked + 1))
done
[ "$checked" -gt 10 ] || fail "only $checked configs were found"
for stage in pretrain sft reward_model ppo dpo grpo; do
  grep -qE '^train: \{steps: [0-9]+' "configs/quickstart/$stage.yaml" || fail "no steps in $stage.yaml"
done
echo "$checked configs are valid"
