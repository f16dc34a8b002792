#!/usr/bin/env bash
# Every guard and every check of post-training data and models is seen to fire, on a run built to trip it, with a
# message that names the place, the value and the way out.
HERE=$(cd "$(dirname "$0")" && pwd)
source "$HERE/common.sh"
source "$HERE/tiny_task.sh"

count=0
# run STAGE [key=value ...]: one rank, a new run directory, which $last names afterwards.
run() {
  local stage=$1
  shift
  count=$((count + 1))
  last=run-$count
  "$TANREN" train "$stage.yaml" "run_directory=$WORK/$last" "$@"
}

# says CODE STAGE TEXT... -- [key=value ...]: the exit code, and all the texts.
says() {
  local code=$1 stage=$2 texts=() text
  shift 2
  while [ "$1" != -- ]; do texts+=("$1"); shift; done
  shift
  expect_exit "$code" said.log run "$stage" "$@"
  for text in "${texts[@]}"; do expect_text said.log "$text"; done
  echo "ok ($code): $(grep -F -- "${texts[0]}" said.log | head -n 1 | cut -c1-180)"
}

# guard TEXT STAGE KEY=BOUND [key=value ...]: warned of by default, and the run goes on to its end; with action stop it
# is saved and ends with exit code 1, and goes on when it is run again without the bound.
guard() {
  local text=$1 stage=$2 bound=$3 key=${3%%=*}
  shift 3
  says 0 "$stage" "$text" "warning" "$key ${bound#*=}" "finished" -- "$bound" "$@"
  says 1 "$stage" "$text" "a guard ended the run, step" "is saved" -- "$bound" guards.action=stop "$@"
  [ -n "$(ls -d "$WORK/$last"/step-* 2>/dev/null)" ] || fail "$key: a stop without a save"
  expect_exit 0 again.log "$TANREN" train "$stage.yaml" "run_directory=$WORK/$last" "$@"
  expect_text again.log "resumed"
}

# --- guards: bounds on what a run does ----------------------------------------------------------------------------
# The base corpus is what tiny/sft knows, and the learning rate destroys it.
base=('data.validation=[{path: tiny/base}]' validation.interval_steps=2 optimizer.learning_rate=0.3 train.steps=6)
for stage in sft preference rl; do
  guard "the base validation loss has risen by" "$stage" guards.max_forgetting=0.1 "${base[@]}" init.from=tiny/sft
done
# A reward model that scores by its language model's likelihood trains that too.
guard "the base validation loss has risen by" reward_model guards.max_forgetting=0.1 "${base[@]}" init.from=tiny/sft reward_model.likelihood=mean
fast=(rl.algorithm=grpo rl.kl_coefficient=1e-6 train.steps=6)
guard "an answer's KL to the reference is" rl guards.max_kl=0.01 "${fast[@]}"
# Steps are paid for and right answers are not: the longer an answer, the more steps it holds.
guard "answers have" rl guards.max_length_ratio=1.05 "${fast[@]}" rewards.step_weight=4 rewards.checker_weight=0 train.steps=12
guard "of the right answers to one prompt" rl guards.min_distinct=0.9 "${fast[@]}"
# The reward model prefers "no", which is never right: the reward rises and the accuracy falls.
guard "reward hacking: the reward rose from" rl guards.max_reward_gap=0.3 "${fast[@]}" init.reward=tiny/reward \
  rewards.checker_weight=0 validation.interval_steps=4 train.steps=24
# What is paid for an answer is beyond every number.
says 0 rl "the mean reward is not finite" -- "${fast[@]}" rewards.checker=external 'rewards.command=[echo, "1e308"]' \
  rewards.checker_weight=1e6 train.steps=2

# A bound that nothing would measure is refused.
says 2 rl "guards.max_kl: 0.5, but with rl.kl_coefficient 0" -- rl.algorithm=grpo guards.max_kl=0.5
says 2 rl "guards.max_reward_gap: 0.1 needs held-out prompts" -- guards.max_reward_gap=0.1 'data.validation_examples=[]'
says 2 rl "guards.max_reward_gap: 0.1 is looked at in validation" -- guards.max_reward_gap=0.1
says 2 rl "guards.min_distinct: 0.5 compares right answers" -- guards.min_distinct=0.5
says 2 sft "guards.max_forgetting: 0.1, but data.validation names no base corpus" -- guards.max_forgetting=0.1
says 2 sft "guards.max_forgetting: 0.1 is looked at in validation" -- guards.max_forgetting=0.1 'data.validation=[{path: tiny/base}]'
says 2 sft "guards.max_kl: 0.5, but stage sft does not measure it" -- guards.max_kl=0.5
says 2 reward_model "guards.max_forgetting: 0.5, but stage reward_model does not measure it" -- guards.max_forgetting=0.5

says 2 rl "rewards.shuffle: answers of different lengths" "set rewards.step_weight (0.5) to 0" -- rewards.shuffle=true rewards.step_weight=0.5

# --- records that are no use: counted and left out, and too many end the run before it starts ------------------------
# records NAME STAGE REASON LINE...: the lines among 400 good ones are counted; among 2 they are too many.
records() {
  local name=$1 stage=$2 good=$3 reason=$4 line
  shift 4
  for _ in $(seq 50); do cat "$good"; done >"$name.jsonl"
  cat "$good" >"$name-many.jsonl"
  for line in "$@"; do echo "$line" | tee -a "$name.jsonl" >>"$name-many.jsonl"; done
  says 0 "$stage" "$reason" "$name.jsonl:$(($(wc -l <"$good") * 50 + 1))" -- "data.examples=[{path: $name.jsonl}]" train.steps=1
  says 2 "$stage" "$reason" "data.examples.0" "$name-many.jsonl" -- "data.examples=[{path: $name-many.jsonl}]"
}
records untrained sft tiny/sft.jsonl "no answer" \
  '{"messages":[{"role":"user","content":"1"},{"role":"assistant","content":"2","train":false}]}'
records empty sft tiny/sft.jsonl "empty response" '{"prompt":"1+1","completion":"  "}'
records one_side preference tiny/rankings.jsonl "missing field" '{"prompt":"1","chosen":"2"}' '{"prompt":"1","rejected":"2"}'
records equal_sides preference tiny/rankings.jsonl "equal sides" '{"prompt":"1","chosen":"2","rejected":"2"}'
records no_permutation reward_model tiny/rankings.jsonl "no permutation" '{"prompt":"1","responses":["2","3"],"ranking":"A > A"}'
records no_ranking reward_model tiny/rankings.jsonl "no ranking" '{"prompt":"1","responses":["2","3"],"ranking":[1,3]}'
records two_ranks reward_model tiny/rankings.jsonl "equal sides" '{"prompt":"1","responses":["2","3","2"],"ranking":[1,2,3]}'
records tied reward_model tiny/rankings.jsonl "no preference" '{"prompt":"1","responses":["2","3"],"ranking":[1,1]}'
long=$(printf '%070d' 0)
records too_long sft tiny/sft.jsonl "longer than model.context_length" "{\"prompt\":\"$long\",\"completion\":\"1\"}"
records long_prompt rl tiny/prompts.jsonl "longer than the micro-batch" "{\"prompt\":\"$long\",\"answer\":\"1\"}"
records unlabelled preference tiny/rankings.jsonl "no chosen and rejected answer" '{"prompt":"1","completion":"2"}'
records unknown sft tiny/sft.jsonl "is not in the vocabulary" '{"prompt":"1","completion":"Z"}'

# --- what is said of pairs before the first step ----------------------------------------------------------------------
sed '1,2s/^{/{"margin":1.5,/; 3s/^{/{"margin":-0.5,/' tiny/rankings.jsonl >margins.jsonl
margins=('data.examples=[{path: margins.jsonl}]' train.steps=1)
has="3 units have a margin, 0.833333 in the mean, from -0.5 to 1.5 (1 below 0, as where sides are swapped)"
says 0 reward_model "$has" "16 pairs: the better answer has" 'a rule "longer is better" would be right in 0.0 %' -- "${margins[@]}"
if grep -q "margin.*no effect" said.log; then fail "the pairwise loss reads margins"; fi
says 0 reward_model "$has, which has no effect with reward_model.loss listwise" -- "${margins[@]}" reward_model.loss=listwise
says 0 preference "$has, which has no effect with preference.loss dpo" "8 pairs: the better answer has" -- "${margins[@]}"
[ "$(grep -c "margin.*no effect" said.log)" = 1 ] || fail "unused margins are said more than once"

# --- templates and tokenizers -----------------------------------------------------------------------------------
printf '%s\n' '{"text":"0123456789+-=#no abc\n"}' >small.jsonl
"$TANREN" tokenizer train --kind characters --out small small.jsonl >/dev/null 2>&1
"$TANREN" tokenizer train --kind characters --no-specials --out bare small.jsonl >/dev/null 2>&1
says 2 sft "chat.template: the chatml template needs <|im_start|> and <|im_end|>" "take the plain template" -- \
  chat.template=chatml tokenizer.path=small
says 2 sft "chat.template: the plain template ends a turn with the tokenizer's eos" -- tokenizer.path=bare
says 2 rl "chat.template: chatml, but init.from" "with plain" "set chat.template: plain" -- chat.template=chatml
says 2 preference "chat.template: chatml, but init.from" "set chat.template: plain" -- chat.template=chatml
# An end of turn that was never trained: no answer ends.
says 0 rl "none of the answers of the first rollout ended" "run stage sft" -- "init.from=''" rl.algorithm=grpo \
  rollout.prompts=2 rollout.samples=2 rollout.max_tokens=2

# --- models ---------------------------------------------------------------------------------------------------------
says 2 rl "init.reward:" "has no score head; name a checkpoint of stage reward_model" -- init.reward=tiny/sft
says 2 rl "init.reference:" "is a reward model, and a reference needs a vocabulary head" -- init.reference=tiny/reward
says 2 preference "init.reference:" "needs a vocabulary head" -- init.reference=tiny/reward
expect_exit 0 other.log "$TANREN" train sft.yaml run_directory=other tokenizer.path=small train.steps=1
expect_exit 0 other.log "$TANREN" train reward_model.yaml run_directory=other-reward tokenizer.path=small init.from=other train.steps=1
says 2 rl "init.reward: $WORK/other-reward" "was made with another tokenizer" "use models of one tokenizer" -- init.reward="$WORK/other-reward"

# A reward model whose weights overflow.
expect_exit 0 nan.log "$TANREN" train reward_model.yaml run_directory=nan optimizer.learning_rate=1000 optimizer.weight_decay=1000 train.steps=4
says 2 rl "init.reward: the score of an answer to" "name another checkpoint" -- init.reward=nan

# What is read anew at every start must be what it was: refused by the model's name.
cp -r tiny/sft reference
cp -r tiny/reward judge
stopped=(init.reference=reference init.reward=judge rl.algorithm=ppo train.stop_after=2)
expect_exit 75 changed.log "$TANREN" train rl.yaml run_directory=changed "${stopped[@]}"
expect_exit 0 more.log "$TANREN" train sft.yaml run_directory=reference train.steps=61
expect_exit 2 changed.log "$TANREN" train rl.yaml run_directory=changed "${stopped[@]}" train.stop_after=4
expect_text changed.log "is not the checkpoint that this run's model reference was read from"
rm -r reference && cp -r tiny/sft reference
expect_exit 0 more.log "$TANREN" train reward_model.yaml run_directory=judge train.steps=16
expect_exit 2 changed.log "$TANREN" train rl.yaml run_directory=changed "${stopped[@]}" train.stop_after=4
expect_text changed.log "is not the checkpoint that this run's model reward was read from"
expect_text changed.log "restore it, or start a new run"
rm -r judge && cp -r tiny/reward judge
expect_exit 75 changed.log "$TANREN" train rl.yaml run_directory=changed "${stopped[@]}" train.stop_after=3

# --- checkers that fail: counted, said, and wrong; the run goes on ---------------------------------------------------
checker() {  # checker REASON SCRIPT [key=value ...]
  local reason=$1 script=$2
  shift 2
  says 0 rl "of 8 answers of the rollout failed" "$reason" "mend the checker" "answers to held-out prompts failed" -- rl.algorithm=ppo \
    rewards.checker=external "rewards.command=[sh, -c, \"$script\"]" train.steps=1 validation.interval_steps=1 "$@"
  grep -q '"checker_failures":8' "$last/metrics.jsonl" || fail "8 failures are not counted: $script"
}
checker "no end within the limit of 0.1 s" "sleep 600" rewards.time_limit_seconds=0.1
checker "ended by signal 11" 'kill -SEGV $$'
checker "exit code 7" "exit 7"
says 2 rl "rewards.checker: the score of an answer to" "is nan; scores are finite numbers" -- rewards.checker=external \
  'rewards.command=[sh, -c, "echo nan"]'
says 2 rl "rewards.checker: checker: command: no program" -- rewards.checker=external 'rewards.command=[no-such-program]'
no_orphans
echo "all guards fired"
