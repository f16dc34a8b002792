#!/usr/bin/env bash
# docs/tutorial.md, line by line: every command runs, in order, and prints what the page says; a second time as well,
# over what the first left. Then the claims about the order of probabilities and rewards, from the numbers themselves.
source "$(dirname "$0")/common.sh"
export OMP_NUM_THREADS=1  # the models are too small for two

ln -s "$SOURCE/configs" configs
mkdir -p build/cpu/launch
ln -s "$TANREN" build/cpu/launch/tanren

# The page's indented lines: commands, and behind one "# prints: TEXT".
run_page() {
  local line commands=0 checks=0
  : >output.log
  while IFS= read -r line; do
    line=${line#    }
    if [[ $line == "# prints: "* ]]; then
      expect_text output.log "${line#"# prints: "}"
      checks=$((checks + 1))
    else
      eval "$line" >output.log 2>&1 </dev/null || { cat output.log >&2; fail "$line"; }
      cat output.log >>all.log
      commands=$((commands + 1))
    fi
  done < <(grep '^    [^ ]' "$SOURCE/docs/tutorial.md")
  if [ "$commands" -lt 16 ] || [ "$checks" -lt 9 ]; then fail "only $commands commands and $checks checks were found in the page"; fi
  echo "$commands commands, $checks checks"
}
run_page
run_page

# numbers FIELD CHECKPOINT: of the answers A, B and C.
numbers() {
  "$TANREN" score "runs/tutorial/$2" --examples runs/tutorial/rankings.jsonl --json |
    sed -nE "s/.*\"$1\":\[([^]]*)\].*/\1/p" | tr ',' ' '
}
human_order() { awk 'NF == 3 && $2 > $1 && $1 > $3 { good = 1 } END { exit !good }' <<<"$1"; }
before=$(numbers logp ranking_sft)
human_order "$before" && fail "the policy is in the person's order before it has learnt it: $before"
for policy in ranking_dpo ranking_ppo; do
  after=$(numbers logp "$policy")
  human_order "$after" || fail "$policy gives A, B, C the log-probabilities $after"
  # B became likelier than it was, not only less unlikely than the others.
  [ "$(awk '{ print ($2 > b) }' b="$(awk '{ print $2 }' <<<"$before")" <<<"$after")" = 1 ] || fail "$policy: B fell to $after"
  echo "$policy: $before -> $after"
done
rewards=$(numbers reward ranking_reward_model)
human_order "$rewards" || fail "the reward model gives A, B, C $rewards"
echo "reward model: $rewards"
