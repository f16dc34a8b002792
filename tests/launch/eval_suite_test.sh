#!/usr/bin/env bash
# Evaluation suites: exit codes of gates, errors by name, a trace that replays alike, the same summary at one and two
# ranks, checkers that hang, scenarios, and the short form.
HERE=$(cd "$(dirname "$0")" && pwd)
source "$HERE/common.sh"
source "$HERE/stages.sh"

for stage in pretrain sft reward_model; do
  expect_exit 0 "$stage.log" "$TANREN" launch -n 2 train "$stage.yaml" run_directory="$stage"
done
cat >scenarios.jsonl <<'JSON'
{"turns": [{"user": "1 + 1 = ?", "answer": 2}, {"user": "2 + 2 = ?", "answer": 4}], "kind": "talk"}
{"turns": [{"user": "3 + 1 = ?"}, {"user": "2 + 3 = ?", "answer": "5"}], "harmful": ["[0-9]"], "kind": "talk"}
JSON
cat >suite.yaml <<'YAML'
checkpoint: sft
reward: reward_model
versus: pretrain
reference: pretrain
out: out
max_tokens: 24
tests:
  - name: sums
    cases: synth/heldout.jsonl
    limit: 8
    strategies:
      - name: greedy
      - {name: vote, parts: [sample: {n: 4, temperature: 1}, vote: {by: reward}], curve: [1, 2, 4]}
      - {name: beams, parts: [beam: {width: 2, samples: 2, score: reward, max_steps: 3}, select: {by: reward}]}
      - {name: hurried, parts: [sample: {thinking_tokens: 6, answer_tokens: 4}]}
      - {name: shown, parts: [prompt: {zero_shot: "= ?", few_shot: {path: synth/sft.jsonl, k: 1}}, sample: {repetition_penalty: 1.2, no_repeat_ngram: 4}]}
  - name: talks
    cases: scenarios.jsonl
    strategies: [{name: greedy}]
  - {name: texts, perplexity: {tokens: [{path: tokens}], micro_batches: 2}}
  - {name: answers, perplexity: {examples: [{path: synth/sft.jsonl, limit: 40}]}}
  - {name: ranked, rankings: [{path: rankings.jsonl}]}
gates:
  - {test: sums, strategy: greedy, figure: accuracy, minimum: 0}
  - {test: texts, figure: perplexity, maximum: 1e6}
  - {test: ranked, figure: reward_calibration_error, maximum: 1}
YAML

# eval_suite RANKS [ARGUMENT...]
eval_suite() {
  local ranks=$1
  shift
  "$TANREN" launch -n "$ranks" eval suite.yaml "$@"
}

# --- gates ------------------------------------------------------------------------------------------------------
expect_exit 0 passed.log eval_suite 2 --trace trace
expect_text passed.log "0 of 3 gates failed"
for name in sums talks; do expect_text passed.log "$name: "; done
failing='{test: sums, strategy: greedy, figure: accuracy, minimum: 2}'
failing+=', {test: talks, strategy: greedy, figure: tokens, maximum: 1}'
failing+=', {test: texts, figure: perplexity, maximum: 0}'
failing+=', {test: ranked, figure: rankings, minimum: 1e9}'
expect_exit 3 failed.log eval_suite 2 out=out-failed "gates=[$failing, {test: sums, strategy: vote, figure: pass_at_4, minimum: 0}]"
expect_text failed.log "gate failed: test sums, strategy greedy: accuracy"
expect_text failed.log "is below the minimum 2; wrong cases, the first: synth/heldout.jsonl:"
expect_text failed.log "is above the maximum 1; cases with the most tokens, the first: scenarios.jsonl:"
expect_text failed.log "is above the maximum 0; it is a figure of all tokens of tokens together"
expect_text failed.log "it is a figure of all pairs of rankings.jsonl together; tanren score reward_model --examples FILE"
expect_text failed.log "4 of 5 gates failed"
grep -q '"passed": false' out-failed/summary.json || fail "the summary does not say that a gate failed"
for figure in win_rate reference_kl majority_at_4 best_by_reward_at_4 pass_at_4 consistency forced harmful_rate reward_accuracy \
  reward_brier reward_calibration_error perplexity by_difficulty by_kind tokens_per_case seconds; do
  grep -q "\"$figure\":" out/summary.json || fail "summary.json has no $figure"
done
# The reward model's last validation was over the same rankings.
for figure in brier calibration_error; do
  paste -d' ' <(sed -nE "s/.*\"validation_$figure\":([^,}]+).*/\1/p" reward_model/metrics.jsonl | tail -n 1) \
    <(sed -nE "s/.*\"reward_$figure\": ([^,]+).*/\1/p" out/summary.json | head -n 1) |
    awk '{d = $1 - $2; if (d < 0) d = -d; ok = NF == 2 && $1 > 0 && $1 < 1 && d < 1e-3} END {exit !ok}' ||
    fail "the suite and the validation of its reward model measure another $figure"
done
[ "$(grep -c '"test":"sums","strategy":"greedy"' out/samples.jsonl)" -eq 8 ] || fail "not 8 greedy lines of sums"
[ "$(grep -c '"test":"talks"' out/samples.jsonl)" -eq 4 ] || fail "not 4 turns in the samples"

# --- layouts: all but seconds is the same, sums over ranks to their last digits -----------------------------------
without_seconds() {
  sed '/"seconds"/d' "$1"
}
expect_exit 0 one.log eval_suite 1 out=out-one
without_seconds out/summary.json >two.json
without_seconds out-one/summary.json >one.json
awk '
  NR == FNR { first[FNR] = $0; lines = FNR; next }
  $0 == first[FNR] { next }
  { split(first[FNR], a, ": "); split($0, b, ": "); x = a[2] + 0; y = b[2] + 0; d = x > y ? x - y : y - x
    if (a[1] != b[1] || x == 0 || d > 1e-5 * (x < 0 ? -x : x)) { print first[FNR] " and " $0; bad = 1 } }
  END { exit bad || lines != FNR }' one.json two.json || fail "the summaries at one and two ranks differ"
diff <(sed 's/"\(score\|mean_logp\)":[-0-9.e]*//g' out/samples.jsonl) \
  <(sed 's/"\(score\|mean_logp\)":[-0-9.e]*//g' out-one/samples.jsonl) >samples.diff || fail "the samples at one and two ranks differ"

# --- trace and replay -------------------------------------------------------------------------------------------
for part in prompt sample beam extract check vote select; do
  expect_exit 0 replay.log eval_suite 2 --replay trace --part "$part"
  expect_text replay.log "lines, the same"
done
expect_exit 0 replay.log "$TANREN" eval suite.yaml --replay trace --part sums/vote/vote
sed -i '3s/"reply":[0-9]*/"reply":77/' trace/sums/vote/vote.jsonl
expect_exit 1 replay.log "$TANREN" eval suite.yaml --replay trace --part vote
expect_text replay.log "1 different; the first: case 2, turn 0: traced {\"reply\":77}"

# --- checkers that hang, and that are not there -----------------------------------------------------------------
expect_exit 0 hang.log eval_suite 2 out=out-hang "reference=''" tests.0.limit=2 'tests.0.strategies=[{name: greedy}]' \
  'tests.0.check={checker: external, command: [sleep, "60"], time_limit_seconds: 0.3}'
[ "$(grep -c '"checker_failures": 2.0' out-hang/summary.json)" -ge 1 ] || fail "2 hanging checks are not counted"
grep -q '"checker_failure":' out-hang/samples.jsonl || fail "the samples do not say why a check failed"

# --- bad input --------------------------------------------------------------------------------------------------
sed 's/cases: synth/casess: synth/' suite.yaml >misspelt.yaml
expect_exit 2 bad.log "$TANREN" eval misspelt.yaml
expect_text bad.log "misspelt.yaml:9:5: tests.0.casess: unknown key; did you mean tests.0.cases?"
expect_exit 2 bad.log eval_suite 1 gates.0.figure=acuracy
expect_text bad.log "there is no figure acuracy; did you mean accuracy?"
echo '{"question": "1 + 1 = ?"}' >unanswered.jsonl
expect_exit 2 bad.log eval_suite 1 tests.0.cases=unanswered.jsonl
expect_text bad.log "unanswered.jsonl:1: there is no field \"answer\""
{ head -n 1 synth/heldout.jsonl; printf '{"prompt": "%0300d", "answer": 1}\n' 1; } >long.jsonl
expect_exit 2 bad.log eval_suite 1 tests.0.cases=long.jsonl
expect_text bad.log "long.jsonl:2: a prompt of"
expect_exit 0 long.log eval_suite 1 out=out-long tests.0.cases=long.jsonl oversize=count
grep -q '"oversize": 1.0' out-long/summary.json || fail "the prompt that does not fit is not counted"
sed -e 's/{kind: characters, path: tokenizer}/{kind: bytes}/' -e '/^init:/d' -e '/^sft:/d' -e 's/steps: 12/steps: 2/' \
  -e 's/decay_steps: 12/decay_steps: 2/' -e '/^validation:/d' sft.yaml >bytes.yaml
expect_exit 0 bytes.log "$TANREN" train bytes.yaml run_directory=bytes
expect_exit 2 bad.log eval_suite 1 reward=bytes
expect_text bad.log "reward: bytes/step-00000002 was made with another tokenizer"
expect_exit 2 bad.log "$TANREN" eval suite.yaml --samples 4
expect_text bad.log "--samples goes with --cases"
expect_exit 2 bad.log "$TANREN" eval sft --cases synth/heldout.jsonl --trace trace
expect_exit 2 bad.log eval_suite 1 --replay trace

# --- the short form ---------------------------------------------------------------------------------------------
expect_exit 0 short.log "$TANREN" launch -n 2 eval sft --cases synth/heldout.jsonl --limit 8 --samples 4 --max-tokens 24 \
  --reward reward_model --out short.jsonl --summary short.json
[ "$(wc -l <short.jsonl)" -eq 8 ] || fail "the short form does not log 8 cases"
for figure in accuracy majority pass_at_1 pass_at_n consistency best_of_n weighted_vote by_difficulty; do
  grep -q "\"$figure\":" short.json || fail "short.json has no $figure"
done
"$TANREN" annotate short.jsonl --judge arithmetic --out ranked.jsonl >annotate.log 2>&1 || true
expect_text annotate.log "8 groups"
echo "suites: gates, layouts, replay, checkers, bad input and the short form as expected"
