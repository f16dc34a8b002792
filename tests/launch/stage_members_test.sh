#!/usr/bin/env bash
# Every member of the families of post-training losses on a tiny model: at 1x1, 2x1 and 2x2 the same losses (1e-5 on
# data ranks, 1e-4 on tensor ranks), and resumed in the middle, for stage rl inside an epoch of a rollout, bit for bit
# what an undisturbed run is. An option must also change something: its losses differ from those of the run without it.
HERE=$(cd "$(dirname "$0")" && pwd)
source "$HERE/common.sh"
source "$HERE/tiny_task.sh"

# start NAME RANKS STAGE [argument ...]. With the usual epsilon a weight whose gradient is nothing but rounding would move
# by the whole learning rate, in another direction at each layout.
start() {
  local name=$1 ranks=$2 stage=$3
  shift 3
  expect_exit 0 "$name.log" "$TANREN" launch -n "$ranks" train "$stage.yaml" "run_directory=$WORK/$name" train.steps=5 \
    optimizer.learning_rate=1e-3 optimizer.epsilon=1e-6 "$@"
}

# figures NAME: "step loss" lines, and with a critic "step value_loss".
figures() {
  losses "$1"
  sed -nE 's/^\{"step":([0-9]+),.*"value_loss":([^,}]+).*/\1 \2/p' "$1/metrics.jsonl"
}

# same_losses NAME OTHER BOUND: relative above 1, absolute below. Prints the largest difference.
same_losses() {
  paste -d' ' <(figures "$1") <(figures "$2") |
    awk -v bound="$3" 'function size(x) {return x < 0 ? -x : x}
      {d = size($2 - $4) / (size($2) > 1 ? size($2) : 1); if (d > worst) worst = d; if ($1 != $3 || !(d <= bound)) bad = 1}
      END {printf "%.1e", worst; exit bad || NR < 5}' ||
    { paste -d' ' <(figures "$1") <(figures "$2") >&2; fail "$2 has other losses than $1"; }
}

# member NAME BASE STAGE [key=value ...]: BASE is the run that NAME must differ from, or - for none.
member() {
  local name=$1 base=$2 stage=$3 data tensor
  shift 3
  start "$name" 1 "$stage" "$@"
  [ "$base" = - ] || ! diff -q <(figures "$name") <(figures "$base") >/dev/null || fail "$name is the same as $base"
  start "$name-2x1" 2 "$stage" "$@"
  data=$(same_losses "$name" "$name-2x1" 1e-5) || exit 1
  start "$name-2x2" 4 "$stage" parallel.tensor=2 checkpoint.interval_steps=3 "$@"
  tensor=$(same_losses "$name" "$name-2x2" 1e-4) || exit 1
  start "$name-resumed" 4 "$stage" parallel.tensor=2 "$@" --resume "$WORK/$name-2x2/step-00000003"
  diff <(losses "$name-2x2" | tail -n 2) <(losses "$name-resumed") >&2 || fail "$name resumed has other losses"
  expect_exit 0 diff.log "$TANREN" ckpt diff "$name-2x2/step-00000005" "$name-resumed/step-00000005"
  echo "$name: resumed bit for bit; largest difference at 2x1 $data, at 2x2 $tensor; loss $(losses "$name" |
    sed -n '1p;$p' | cut -d' ' -f2 | paste -sd' ' | sed 's/ / -> /')"
}

# says NAME TEXT: the metrics of the run hold it.
says() {
  grep -qF -- "$2" "$1/metrics.jsonl" || { tail -n 2 "$1/metrics.jsonl" >&2; fail "$1 has no $2"; }
}

member dpo - preference
member cdpo dpo preference preference.label_smoothing=0.2
member reference_free dpo preference preference.reference_free=true
member robust cdpo preference preference.loss=robust preference.label_smoothing=0.2
member ipo dpo preference preference.loss=ipo
member simpo dpo preference preference.loss=simpo
member orpo simpo preference preference.loss=orpo
member kto dpo preference preference.loss=kto preference.undesirable_weight=1.3 'data.examples=[{path: tiny/labelled.jsonl}]'
says kto '"z0":'
start pairwise 1 reward_model
member listwise pairwise reward_model reward_model.loss=listwise
member likelihood pairwise reward_model reward_model.likelihood=sum reward_model.likelihood_weight=0.2
member likelihood_mean likelihood reward_model reward_model.likelihood=mean reward_model.loss=listwise

# 64 answers a rollout, 2 epochs of 2 minibatches: step 3 is inside the second epoch, step 5 of the next rollout.
rollout=(rollout.samples=8 rl.epochs=2 rl.minibatches=2)
member grpo - rl rl.algorithm=grpo "${rollout[@]}"
member rloo grpo rl rl.algorithm=rloo rl.kl_coefficient=0.05 "${rollout[@]}"
member dapo grpo rl rl.algorithm=dapo rewards.overlong_buffer=8 "${rollout[@]}"
member gspo grpo rl rl.algorithm=gspo "${rollout[@]}"
member kl_k3 grpo rl rl.algorithm=grpo rl.kl_coefficient=0.1 rl.entropy=0.02 "${rollout[@]}"
says kl_k3 '"entropy":'
member kl_k2 kl_k3 rl rl.algorithm=grpo rl.kl_coefficient=0.1 rl.kl_estimator=k2 rl.aggregate=sequence_mean "${rollout[@]}"
start kl_token_mean 1 rl rl.algorithm=grpo rl.kl_coefficient=0.1 rl.kl_estimator=k2 "${rollout[@]}"
! diff -q <(losses kl_k2) <(losses kl_token_mean) >/dev/null || fail "rl.aggregate changes nothing"
member equal_groups grpo rl rl.algorithm=grpo rl.drop_equal_groups=yes rl.scale_advantages=false "${rollout[@]}"
member shuffled grpo rl rl.algorithm=grpo rewards.shuffle=true "${rollout[@]}"
member dual_clip grpo rl rl.algorithm=grpo rl.dual_clip=1.001 rl.clip_low=0.001 "${rollout[@]}"
member stop_kl grpo rl rl.algorithm=grpo rl.stop_kl=1e-6 "${rollout[@]}"
says stop_kl '"stopped_by_kl":1'
start ppo 1 rl rl.algorithm=ppo "${rollout[@]}"
member adaptive_kl ppo rl rl.algorithm=ppo rl.kl_target=1e-4 rl.kl_horizon=100 "${rollout[@]}"
[ "$(grep -o '"kl_coefficient":[^,}]*' adaptive_kl/metrics.jsonl | sort -u | wc -l)" -ge 2 ] || fail "the KL coefficient does not adapt"
member likelihood_reward ppo rl rl.algorithm=ppo init.reward=likelihood "${rollout[@]}"
member process_rewards ppo rl rl.algorithm=ppo rewards.step_weight=0.5 rl.gamma=0.95 rl.critic_warmup_steps=1 "${rollout[@]}"
no_orphans
echo "all members the same at every layout"
