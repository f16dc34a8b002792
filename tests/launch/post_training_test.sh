#!/usr/bin/env bash
# SFT, reward model, PPO, DPO and GRPO, each stopped and killed in the middle and resumed, equal an undisturbed run bit
# for bit; each gives the same losses at every layout; DPO starts at ln 2.
HERE=$(cd "$(dirname "$0")" && pwd)
source "$HERE/common.sh"

source "$HERE/stages.sh"

run() {  # run STAGE DIRECTORY RANKS [key=value ...]
  local stage=$1 directory=$2 ranks=$3
  shift 3
  "$TANREN" launch -n "$ranks" train "$stage.yaml" "run_directory=$WORK/$directory" "$@"
}

expect_exit 0 pretrain.log run pretrain pretrain 2
for stage in sft reward_model dpo ppo grpo; do
  expect_exit 0 "$stage.log" run "$stage" "$stage" 2
  # Stopped at two steps, for PPO and GRPO inside an epoch of a rollout, and a rank killed in between.
  expect_exit 75 "$stage.log" run "$stage" "$stage-stopped" 2 train.stop_after=3
  TANREN_FAULT=step:backward:kill:rank=0:hit=2 expect_exit 137 "$stage.log" run "$stage" "$stage-stopped" 2
  expect_exit 75 "$stage.log" run "$stage" "$stage-stopped" 2 train.stop_after=6
  expect_exit 0 "$stage.log" run "$stage" "$stage-stopped" 2
  same_run "$stage" "$stage-stopped" 12
  # Other layouts: the same losses. Sampling at another tensor size may choose another token sooner or later, so stage rl
  # is compared over its first steps.
  expect_exit 0 "$stage.log" run "$stage" "$stage-1x1" 1
  expect_exit 0 "$stage.log" run "$stage" "$stage-1x2" 2 parallel.tensor=2
  expect_exit 0 "$stage.log" run "$stage" "$stage-2x2" 4 parallel.tensor=2
  for layout in 1x1 1x2 2x2; do
    paste -d' ' <(losses "$stage") <(losses "$stage-$layout") |
      awk -v bound="$([ "$layout" = 1x1 ] && echo 1e-4 || echo 1e-3)" \
        '{d = $2 - $4; if (d < 0) d = -d; m = $2 < 0 ? -$2 : $2; if ($1 != $3 || d > bound * (m > 0.1 ? m : 0.1)) bad = 1}
         END {exit bad || NR != 12}' ||
      { paste -d' ' <(losses "$stage") <(losses "$stage-$layout") >&2; fail "$stage at $layout has other losses"; }
  done
  echo "$stage: resumed bit for bit, the same losses at 1x1, 2x1, 1x2, 2x2"
done
losses dpo | awk 'NR == 1 {d = $2 - 0.693147; exit !(d < 1e-5 && d > -1e-5)}' || fail "DPO does not start at ln 2"

# --- weights that would mean something else --------------------------------------------------------------------
refused() {  # refused TEXT STAGE [key=value ...]
  local text=$1
  shift
  rm -rf refused
  expect_exit 2 refused.log "$TANREN" train "$1.yaml" run_directory=refused "${@:2}"
  expect_text refused.log "$text"
}
for stage in sft reward_model dpo grpo; do
  refused "model.rotary_base is 500000 here, and 10000 in the model that" "$stage" model.rotary_base=500000
done
refused "model.norm_epsilon is 1e-06 here" sft model.norm_epsilon=1e-6
refused "model.heads is 8 here, and 4 in" sft model.heads=8 model.kv_heads=4 model.head_dim=6
refused "init.differs.0: rotary is no key of model" sft 'init.differs=[rotary]'
printf '%s\n' '{"text":"0123456789+-=#no abcdefghijklmnopqrstuvwxyz\n"}' >other.jsonl
"$TANREN" tokenizer train --kind characters --out other other.jsonl >/dev/null 2>&1
"$TANREN" data tokenize --tokenizer other --out other-tokens other.jsonl >/dev/null 2>&1
refused "was made with another tokenizer" pretrain init.from=pretrain tokenizer.path=other 'data.train=[{path: other-tokens}]' 'data.validation=[]'
# What is meant, and said, is done; a longer context computes the same.
expect_exit 0 meant.log "$TANREN" train sft.yaml run_directory=meant model.rotary_base=500000 'init.differs=[rotary_base]' train.steps=2
expect_exit 0 meant.log "$TANREN" train sft.yaml run_directory=longer model.context_length=512 train.steps=2

# --- guards that come late measure from where they came ---------------------------------------------------------
expect_exit 75 late.log "$TANREN" train sft.yaml run_directory=late train.stop_after=3
expect_exit 0 late.log "$TANREN" train sft.yaml run_directory=late 'data.validation=[{path: tokens}]' validation.micro_batches=2 \
  guards.max_forgetting=5
expect_text late.log "forgetting is measured from here on"
grep -q '"step":12,.*"validation_forgetting":' late/metrics.jsonl || fail "forgetting is not measured after the guard came"

# --- keys that do nothing are named -------------------------------------------------------------------------------
expect_exit 0 nothing.log "$TANREN" config validate dpo.yaml preference.gamma=1
expect_text nothing.log "warning: preference.gamma: 1 has no effect with preference.loss dpo"
expect_exit 0 nothing.log "$TANREN" train grpo.yaml run_directory=nothing train.steps=2 rl.lambda=0.9 rollout.top_k=5
expect_text nothing.log "warning: rl.lambda: 0.9 has no effect with rl.algorithm grpo, which has no critic"
expect_text nothing.log "rollout.top_k and top_p draw answers from another distribution"

# --- offloaded frozen models: the same run, bit for bit ----------------------------------------------------------
for stage in dpo ppo; do
  expect_exit 0 offload.log run "$stage" "$stage-offload" 2 init.offload=true
  same_run "$stage" "$stage-offload" 12
done
"$TANREN" estimate ppo.yaml >kept.plan
"$TANREN" estimate ppo.yaml init.offload=true >offload.plan
expect_text offload.plan "shared frozen weights"
expect_text offload.plan "offloaded weights"
if grep -q "shared frozen weights" kept.plan; then fail "a plan without offload shares frozen weights"; fi

# --- aspects of the reward ----------------------------------------------------------------------------------------
cat >judge.sh <<'SH'
#!/bin/sh
read -r line
echo run >>judged
case $line in *7*) echo '{"scores": {"style": 1, "tone": 0.5}}' ;; *) echo '{"scores": {"style": -1, "tone": 0.5}}' ;; esac
SH
chmod +x judge.sh
aspects='[{name: correct, checker: numeric, weight: 1}, {name: format, checker: regex, pattern: "(?s).*#### [0-9]+", weight: 0.2},
 {name: style, checker: external, command: [./judge.sh], weight: 0.1}, {name: tone, checker: external, command: [./judge.sh], weight: 0},
 {name: helpful, model: reward_model, weight: 0.5}]'
part() {  # part RUN STEP NAME: a figure of a step
  sed -nE "s/^\{\"step\":$2,.*\"$3\":([^,}]+)[,}].*/\1/p" "$1/metrics.jsonl"
}
for offload in false true; do
  expect_exit 0 aspects.log run grpo "aspects-$offload" 2 "rewards.aspects=$aspects" rewards.step_weight=0 \
    rewards.repetition_weight=0 rewards.missing_end_penalty=0 init.offload=$offload
done
same_run aspects-false aspects-true 12
[ "$(part aspects-false 1 reward_tone)" = 0.5 ] || fail "every answer has tone 0.5"
# Each of the 16 answers of a rollout is judged once, in both runs.
rollouts=$(grep -c sampling_seconds aspects-false/metrics.jsonl)
[ "$(wc -l <judged)" -eq $((2 * 16 * rollouts)) ] || fail "the judge ran $(wc -l <judged) times in two runs of $rollouts rollouts"
for step in 1 5 9; do
  for name in correct format style tone helpful; do part aspects-false $step reward_$name; done |
    awk -v total="$(part aspects-false $step reward)" '{w = w + $1 * (NR == 1 ? 1 : NR == 2 ? 0.2 : NR == 3 ? 0.1 : NR == 5 ? 0.5 : 0)}
      END {d = w - total; exit NR != 5 || d > 1e-5 || d < -1e-5}' || fail "step $step: the reward is not the weighted sum of its aspects"
done
echo "aspects: a weighted sum, one judge for two"
expect_exit 0 hang.log run grpo hang 2 train.steps=2 rollout.prompts=1 rollout.samples=2 \
  'rewards.aspects=[{name: slow, checker: external, command: [sleep, "60"], time_limit_seconds: 0.2}]'
[ "$(part hang 1 failures_slow)" = 2 ] || fail "two hanging commands are not counted"
expect_text hang.log "the check of 2 of 2 answers of the rollout by rewards.aspects: slow failed"
expect_exit 2 bad.log run grpo bad 2 'rewards.aspects=[{name: odd, checker: external, command: [echo, nan]}]'
expect_text bad.log "rewards.aspects: odd: the score of an answer"
expect_exit 2 bad.log run grpo bad 2 'rewards.aspects=[{name: odd, model: sft}]'
expect_text bad.log "rewards.aspects: odd:"
expect_text bad.log "has no score head"

# --- discouraged repetition: a ratio of exactly 1 (the run refuses another), a warning, the same at every data size --
expect_exit 0 repetition.log run grpo repetition 2 rollout.repetition_penalty=1.3 rollout.no_repeat_ngram=4
expect_text repetition.log "training is off-policy"
expect_exit 0 repetition1.log run grpo repetition-1x1 1 rollout.repetition_penalty=1.3 rollout.no_repeat_ngram=4
for name in length reward reference_kl; do
  [ "$(part repetition 1 $name)" = "$(part repetition-1x1 1 $name)" ] || fail "the first rollout's $name differs between layouts"
done
if cmp -s <(losses repetition) <(losses grpo); then fail "the penalty changes nothing"; fi

# --- what sampling and training make of the same tokens: rounding -----------------------------------------------
expect_exit 0 coarse.log run grpo coarse 2 train.precision=bf16 train.steps=2
for one in "grpo 1e-5" "coarse 2e-2"; do
  read -r name bound <<<"$one"
  awk -v mean="$(part "$name" 1 sampling_mismatch)" -v worst="$(part "$name" 1 sampling_mismatch_worst)" -v bound="$bound" \
    'BEGIN { exit !(mean != "" && worst != "" && worst + 0 > 0 && mean + 0 <= worst + 0 && worst + 0 < bound + 0) }' ||
    fail "$name: sampling and training differ by $(part "$name" 1 sampling_mismatch), at worst $(part "$name" 1 sampling_mismatch_worst)"
done

# --- where the critic starts: the reward model, unless init.critic says another ---------------------------------
expect_exit 0 critic.log run ppo critic-reward 2 init.critic=reward_model
same_run ppo critic-reward 12
expect_exit 0 critic.log run ppo critic-sft 2 init.critic=sft train.steps=2
[ "$(part critic-sft 1 reward)" = "$(part ppo 1 reward)" ] || fail "another critic changes the first rewards"
if [ "$(part critic-sft 1 value_loss)" = "$(part ppo 1 value_loss)" ]; then fail "init.critic changes no value"; fi
refused "init.critic: absent" ppo init.critic=absent
expect_exit 0 critic.log "$TANREN" train pretrain.yaml run_directory=other-critic tokenizer.path=other \
  'data.train=[{path: other-tokens}]' 'data.validation=[]' train.steps=2
refused "init.critic: " ppo init.critic=other-critic
expect_text refused.log "was made with another tokenizer"

# --- kill -9 inside a rollout's epoch ---------------------------------------------------------------------------
run ppo ppo-killed 2 train.steps=12 >killed.log 2>&1 &
launcher=$!
for _ in $(seq 1 600); do
  [ "$(losses ppo-killed 2>/dev/null | wc -l)" -ge 7 ] && break
  sleep 0.05
done
pkill -9 -f "run_directory=$WORK/ppo-killed" || true
wait "$launcher" || true
no_orphans
expect_exit 0 killed.log run ppo ppo-killed 2
same_run ppo ppo-killed 12

# --- guards and bad input ---------------------------------------------------------------------------------------
expect_exit 2 bad.log run ppo bad 2 init.reward=sft
expect_text bad.log "init.reward:"
expect_text bad.log "has no score head"
expect_exit 2 bad.log run grpo bad 2 rl.kl_estimator=k1
expect_text bad.log "k1 in the loss has an expected gradient of zero"
expect_exit 1 guard.log run sft guard 2 sft.replay_share=0 optimizer.learning_rate=0.1 guards.max_forgetting=0.01 \
  guards.action=stop 'data.validation.0.path=tokens' validation.micro_batches=4
expect_text guard.log "guards.max_forgetting"
echo "all equal"
