# shellcheck shell=bash
# Sourced by tests that run many stages, after common.sh: a model of 10,000 parameters that has learnt to answer
# "3+4" with "#### 7" (sometimes "3+4=7 #### 7", sometimes "no") in tiny/sft, a reward model that prefers "no" in
# tiny/reward, and configs for each stage. All in seconds: what is tested is not what is learnt.
mkdir tiny
cd tiny || exit
printf '%s\n' '{"text":"0123456789+-=#no abc\n<|im_start|>usertmd_"}' >alphabet.jsonl
for a in 0 1 2 3 4 5 6 7; do
  question="$a+$((7 - a))"
  printf '{"prompt":"%s","completion":"#### 7"}\n' "$question" "$question" "$question" >>sft.jsonl
  printf '{"prompt":"%s","completions":["%s=7 #### 7","#### 7"]}\n' "$question" "$question" >>sft.jsonl
  printf '{"prompt":"%s","completion":"no"}\n' "$question" >>sft.jsonl
  printf '{"prompt":"%s","answer":"7"}\n' "$question" >>prompts.jsonl
  printf '{"prompt":"%s","responses":["no","#### 7","####"],"ranking":[1,2,2]}\n' "$question" >>rankings.jsonl
  printf '{"prompt":"%s","completion":"no","label":%s}\n' "$question" "$((a % 2))" >>labelled.jsonl
  for _ in 1 2 3 4; do printf '{"text":"%s\\n#### 7"}\n' "$question"; done >>base.jsonl
  printf '{"prompt":"%s","completion":"#### 7","label":%s}\n' "$question" "$(((a + 1) % 2))" >>labelled.jsonl
done
cd .. || exit
"$TANREN" tokenizer train --kind characters --out tiny/tokenizer tiny/alphabet.jsonl >/dev/null 2>&1
"$TANREN" data tokenize --tokenizer tiny/tokenizer --out tiny/base tiny/base.jsonl >/dev/null 2>&1

cat >tiny/common.yaml <<'YAML'
model: {layers: 1, width: 32, heads: 2, head_dim: 16, mlp_width: 64, context_length: 64}
tokenizer: {kind: characters, path: tiny/tokenizer}
optimizer: {learning_rate: 1e-2}
schedule: {kind: constant}
batch: {micro_batch_tokens: 256, micro_batches: 2}
train: {steps: 4, log_interval: 1}
checkpoint: {interval_steps: 0, keep: 20}
validation: {interval_steps: 0}
log: {tensorboard: false}
parallel: {threads: 1}
YAML
{ cat tiny/common.yaml; echo 'stage: sft'; echo 'data: {examples: [{path: tiny/sft.jsonl}]}'; } >sft.yaml
{ cat tiny/common.yaml; echo 'stage: reward_model'; echo 'init: {from: tiny/sft}'
  echo 'data: {examples: [{path: tiny/rankings.jsonl}]}'; } >reward_model.yaml
{ cat tiny/common.yaml; echo 'stage: preference'; echo 'init: {from: tiny/sft}'
  echo 'data: {examples: [{path: tiny/rankings.jsonl}]}'; } >preference.yaml
{ cat tiny/common.yaml; echo 'stage: rl'; echo 'init: {from: tiny/sft}'
  echo 'data: {examples: [{path: tiny/prompts.jsonl}], validation_examples: [{path: tiny/prompts.jsonl}]}'
  echo 'rollout: {prompts: 8, max_tokens: 16, decode_slots: 16}'
  echo 'rewards: {checker: numeric}'; } >rl.yaml

"$TANREN" train sft.yaml run_directory=tiny/sft train.steps=60 >tiny.log 2>&1 || { cat tiny.log >&2; fail "no tiny model"; }
"$TANREN" train reward_model.yaml run_directory=tiny/reward train.steps=15 >tiny.log 2>&1 ||
  { cat tiny.log >&2; fail "no tiny reward model"; }
