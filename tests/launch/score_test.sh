#!/usr/bin/env bash
# tanren score: the log-probabilities are those that generation reports, at every layout; a reward model scores alone and
# beside a policy alike; any format of examples goes in and JSON lines come out; bad input is refused.
source "$(dirname "$0")/common.sh"
export OMP_NUM_THREADS=1  # the models are too small for two
ln -s "$SOURCE/configs" configs
mkdir -p runs/tutorial
echo '{"prompt":"What is AI?","responses":["AI is magic.","AI lets machines learn from data.","I don'"'"'t know."],"ranking":[2,1,3]}' \
  >runs/tutorial/rankings.jsonl
"$TANREN" tokenizer train --kind whitespace --out runs/tutorial/words configs/tutorial/love.txt >train.log 2>&1
"$TANREN" data tokenize --tokenizer runs/tutorial/words --out runs/tutorial/tokens configs/tutorial/love.txt >>train.log 2>&1
for stage in next_word ranking_sft ranking_reward_model; do
  expect_exit 0 train.log "$TANREN" train "configs/tutorial/$stage.yaml"
done
cd runs/tutorial || exit 1

# column FIELD FILE: the numbers of a field, one a line.
column() { sed -nE "s/.*\"$1\":\[([^]]*)\].*/\1/p" "$2" | tr ',' '\n'; }
# close A B BOUND: two files with one number a line.
close() {
  [ "$(wc -l <"$1")" -gt 0 ] || fail "$1 is empty"
  paste "$1" "$2" | awk -v bound="$3" 'NF != 2 || $1 - $2 > bound || $2 - $1 > bound { bad = 1 } END { exit bad }' ||
    { paste "$1" "$2" >&2; fail "$1 and $2 differ"; }
}

# --- against generation -----------------------------------------------------------------------------------------
"$TANREN" generate ranking_sft --prompt 'What is AI?' --n 6 --temperature 1 --max-tokens 40 --json |
  grep -E "\"completion\":\"[A-Za-z .']+\",\"finish\":\"stop\"" >generated.jsonl || true
[ -s generated.jsonl ] || fail "nothing was generated that ends"
while IFS= read -r line; do
  completion=$(sed -E 's/.*"completion":"([^"]*)".*/\1/' <<<"$line")
  "$TANREN" score ranking_sft --prompt 'What is AI?' -r "$completion" --json >scored.jsonl
  column logp scored.jsonl >scored.txt
  column logp <(echo "$line") | awk '{ sum += $1 } END { printf "%.6f\n", sum }' >generated.txt
  close scored.txt generated.txt 1e-3
done <generated.jsonl
echo "$(wc -l <generated.jsonl) generated answers have the log-probabilities that generation reported"

# A base model: text as it is. All next words together have a probability of 1, but for the end of text.
"$TANREN" score next_word --prompt 'I love' -r I -r love -r AI -r . -r loves -r people --json >words.jsonl
"$TANREN" generate next_word --prompt 'I love AI . AI loves people .' --temperature 0 --max-tokens 1 --json >end.jsonl
grep -q '"finish":"stop"' end.jsonl || fail "the base model does not end its text"
column logp words.jsonl | awk '{ sum += exp($1) } END { exit !(NR == 6 && sum > 0.9 && sum < 1.000001) }' ||
  fail "the next words have the log-probabilities $(column logp words.jsonl | tr '\n' ' ')"
"$TANREN" score ranking_sft --raw --prompt $'What is AI?\n' -r 'AI is magic.' --json >raw.jsonl
[ "$(column tokens raw.jsonl)" = 12 ] || fail "--raw counts the end of the turn"

# --- layouts, files and reward models ----------------------------------------------------------------------------
expect_exit 0 one.jsonl "$TANREN" score ranking_sft --examples rankings.jsonl --reward ranking_reward_model --json
column logp one.jsonl >one.logp
column reward one.jsonl >one.reward
for layout in 'parallel.tensor=2' 'parallel.tensor=1'; do
  "$TANREN" launch -n 2 score ranking_sft --examples rankings.jsonl --reward ranking_reward_model --json "$layout" >two.jsonl
  column logp two.jsonl >two.logp
  close one.logp two.logp 1e-4
  column reward two.jsonl >two.reward
  close one.reward two.reward 1e-4
done
"$TANREN" score ranking_reward_model --examples rankings.jsonl --json >alone.jsonl
column reward alone.jsonl >alone.reward
cmp one.reward alone.reward || fail "a reward model scores differently alone"
grep -q logp alone.jsonl && fail "a reward model has no log-probabilities"
cat >mixed.jsonl <<'JSONL'
{"prompt":"a","completion":"b"}
{"prompt":"a","chosen":"b","rejected":"c"}
{"prompt":[{"role":"user","content":"a"},{"role":"assistant","content":"b"},{"role":"user","content":"c"}],"completions":["d","e"]}
{"prompt":"a","completion":"b","label":false}
JSONL
expect_exit 0 mixed.out "$TANREN" score ranking_sft --examples mixed.jsonl --json
[ "$(wc -l <mixed.out)" -eq 4 ] || fail "four records gave $(wc -l <mixed.out) lines"
[ "$(sed -n 3p mixed.out | cut -c1-60)" = '{"prompt":[{"role":"user","content":"a"},{"role":"assistant"' ] || fail "$(sed -n 3p mixed.out)"
# The same answer to the same prompt is the same in every format.
[ "$(sed -n 1p mixed.out | grep -o '"logp":\[[^],]*')" = "$(sed -n 2p mixed.out | grep -o '"logp":\[[^],]*')" ] ||
  fail "formats differ: $(cat mixed.out)"
expect_exit 0 table.log "$TANREN" score ranking_sft --examples mixed.jsonl
expect_text table.log 'of 1 ranked pairs are in the order of the ranking by log-probability'
expect_text table.log 'a best answer is first in '

# Of choices the right one is above the others; what is first in the JSON lines is what the last lines count.
cat >choices.jsonl <<'JSONL'
{"question":"a","choice0":"b","choice1":"c","choice2":"ddd","label":0}
{"question":"a","choice0":"b","choice1":"c","choice2":"ddd","label":1}
{"question":"a","choice0":"b","choice1":"c","choice2":"ddd","label":2}
JSONL
"$TANREN" score ranking_sft --examples choices.jsonl --format ranking --json >choices.out
grep -qF '"prompt":"a\n- b\n- c\n- ddd","responses":["b","c","ddd"]' choices.out || fail "$(head -n 1 choices.out)"
grep -o '"ranking":[^}]*' choices.out | tr '\n' ' ' | grep -qF '"ranking":[1,2,2] "ranking":[2,1,2] "ranking":[2,2,1]' ||
  fail "$(cat choices.out)"
"$TANREN" score ranking_sft --examples choices.jsonl --format ranking >choices.log
# Of three questions that differ in the right choice alone exactly one is answered rightly.
[ "$(grep -c 'a best answer is first in 1 of 3' choices.log)" = 2 ] || fail "$(tail -n 2 choices.log)"
[ "$("$TANREN" score ranking_sft --examples choices.jsonl --json | grep -c '"responses":\["[^,]*"\]')" = 3 ] ||
  fail "without --format the right choice alone is scored"

# --- what does not fit, left out --------------------------------------------------------------------------------
long=$(head -c 80 /dev/zero | tr '\0' b)
printf '%s\n' '{"prompt":"a","responses":["b","c"],"ranking":[1,2]}' \
  "{\"prompt\":\"a\",\"responses\":[\"b\",\"$long\"],\"ranking\":[2,1]}" '{"prompt":"b","responses":["c","a"],"ranking":[1,2]}' >long.jsonl
expect_exit 0 long.log "$TANREN" score ranking_sft --examples long.jsonl --skip-long --json
expect_text long.log '1 of 3 prompts were left out'
"$TANREN" score ranking_sft --examples long.jsonl --skip-long --json >long.out 2>/dev/null
[ "$(wc -l <long.out)" = 3 ] || fail "a line of input is no line of output"
sed -n 2p long.out | grep -qF '"left_out":"answer 2: ' || fail "$(sed -n 2p long.out)"
# What stays is scored as without the one left out.
sed 2d long.jsonl >short.jsonl
"$TANREN" score ranking_sft --examples short.jsonl --json | cmp - <(sed 2d long.out) || fail "a record left out changes others"
"$TANREN" score ranking_sft --examples long.jsonl --skip-long >long.out 2>/dev/null
grep -qF '  left out: answer 2: ' long.out || fail "$(cat long.out)"
grep -q ' of 2 ranked pairs .* in [0-9]* of 2$' long.out || fail "$(tail -n 2 long.out)"

# --- bad input --------------------------------------------------------------------------------------------------
refused() {  # refused TEXT ARGUMENT...
  local text=$1
  shift
  expect_exit 2 refused.log "$TANREN" score "$@"
  expect_text refused.log "$text"
}
refused 'give one --prompt with its answers' ranking_sft
refused 'give one --prompt with its answers' ranking_sft --prompt a
refused 'give one --prompt with its answers' ranking_sft --prompt a --prompt b -r c
refused 'leave --prompt and --response' ranking_sft --prompt a -r b --examples mixed.jsonl
refused '--format: format rankings is none of by_content, ranking' ranking_sft --examples mixed.jsonl --format rankings
refused 'missing.jsonl: there is no such file' ranking_sft --examples missing.jsonl
echo '{"prompt":"a","answer":"1"}' >bad.jsonl
refused 'bad.jsonl:1: a record of format answer has no answer to score' ranking_sft --examples bad.jsonl
echo '{"text":"a"}' >bad.jsonl
refused 'bad.jsonl:1: a record of format text has no prompt' ranking_sft --examples bad.jsonl
{ cat mixed.jsonl; echo '{"prompt":"a"'; } >bad.jsonl
refused 'bad.jsonl:5: not JSON' ranking_sft --examples bad.jsonl
refused '--response: answer 2: ' ranking_sft --prompt a -r b -r "$(head -c 80 /dev/zero | tr '\0' b)"
expect_text refused.log 'more than model.context_length (64)'
! grep -q 'skip-long' refused.log || fail 'of a single prompt nothing would be left'
refused 'more than model.context_length (64); --skip-long leaves such prompts out' ranking_sft --examples long.jsonl
sed -n 2p long.jsonl >only.jsonl
refused 'nothing is left to score: the answers to each of 1 prompts' ranking_sft --examples only.jsonl --skip-long
refused "more than model.context_length" next_word --prompt "$(for _ in $(seq 80); do printf 'I '; done)" -r AI
refused 'the word "hate" at byte 2' next_word --prompt 'I hate' -r AI
refused 'an answer without a token' next_word --prompt I -r ''
refused 'mixed.jsonl:3: answer 1: a conversation needs a chat template' ranking_sft --examples mixed.jsonl --raw
refused 'was made with another tokenizer' ranking_sft --prompt a -r b --reward next_word
refused 'is no reward model' ranking_sft --prompt a -r b --reward ranking_sft
refused 'it scores answers (tanren score) and generates none' ranking_reward_model --prompt a -r b --reward ranking_reward_model
expect_exit 2 refused.log "$TANREN" generate ranking_reward_model --prompt a
expect_text refused.log 'it scores answers (tanren score) and generates none'
echo "scored"
