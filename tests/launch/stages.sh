# Sourced by the tests of all stages, after common.sh: a small task, and a config for each stage in NAME.yaml.
"$TANREN" data synth --out synth --problems 500 --held-out 40 --pretrain 800 --sft 400 --prompts 80 >/dev/null
"$TANREN" tokenizer train --kind characters --out tokenizer synth/pretrain.jsonl >/dev/null 2>&1
"$TANREN" data tokenize --tokenizer tokenizer --out tokens synth/pretrain.jsonl >/dev/null 2>&1
sed -nE 's/^\{.*"prompt":"([^"]*)".*$/\1/p' synth/sft.jsonl |
  awk 'NR <= 60 { n = length($0) % 7; printf "{\"prompt\":\"%s\",\"responses\":[\"#### %d\",\"#### %d\",\"no\"],\"ranking\":[1,2,3]}\n", $0, n, n + 11 }' \
    >rankings.jsonl

base() {
  cat <<YAML
model: {layers: 2, width: 48, heads: 4, kv_heads: 2, head_dim: 12, mlp_width: 96, context_length: 256}
tokenizer: {kind: characters, path: tokenizer}
optimizer: {learning_rate: 1e-3}
schedule: {warmup_steps: 2, decay_steps: 12}
checkpoint: {interval_steps: 5, keep: 20}
YAML
}
{ base; echo 'batch: {micro_batch_tokens: 512, micro_batches: 4}'; echo 'train: {steps: 12, log_interval: 1}'
  echo 'validation: {interval_steps: 6}'; } >common.yaml
{ cat common.yaml; echo 'data: {train: [{path: tokens}], validation: [{path: tokens}]}'; echo 'run_directory: pretrain'
  echo 'validation: {micro_batches: 4}'; } | sed '/^validation: {interval/d' >pretrain.yaml
{ cat common.yaml; echo 'stage: sft'; echo 'init: {from: pretrain}'; echo 'sft: {replay_share: 0.2}'
  echo 'data: {examples: [{path: synth/sft.jsonl}], train: [{path: tokens}]}'; } >sft.yaml
{ cat common.yaml; echo 'stage: reward_model'; echo 'init: {from: sft}'
  echo 'data: {examples: [{path: rankings.jsonl}], validation_examples: [{path: rankings.jsonl}]}'; } >reward_model.yaml
{ cat common.yaml; echo 'stage: preference'; echo 'init: {from: sft}'
  echo 'data: {examples: [{path: rankings.jsonl}], validation_examples: [{path: rankings.jsonl}]}'; } >dpo.yaml
rollout='rollout: {prompts: 8, max_tokens: 24, decode_slots: 8}'
{ cat common.yaml | sed 's/micro_batches: 4/micro_batches: 1/'; echo 'stage: rl'
  echo 'init: {from: sft, reward: reward_model}'; echo "$rollout"
  echo 'rl: {algorithm: ppo, epochs: 2, minibatches: 2}'; echo 'rewards: {checker: numeric, missing_end_penalty: 0.5}'
  echo 'data: {examples: [{path: synth/prompts.jsonl}], validation_examples: [{path: synth/heldout.jsonl, limit: 8}]}'; } >ppo.yaml
{ sed -e 's/algorithm: ppo, epochs: 2/algorithm: grpo, epochs: 2, kl_coefficient: 0.05/' \
    -e 's/, reward: reward_model//' -e 's/prompts: 8/prompts: 4, samples: 4, temperature: 0.8/' \
    -e 's/checker: numeric,/checker: numeric, step_weight: 0.5, repetition_weight: 0.3,/' ppo.yaml; } >grpo.yaml
