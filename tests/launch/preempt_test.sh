#!/usr/bin/env bash
# SIGUSR1 whatever a run is doing, a step, validation, samples, a save, a save beside its steps, a rollout, and output
# that nobody reads any more: one save at one step on all ranks, exit code 75, and afterwards the run that was never asked.
HERE=$(cd "$(dirname "$0")" && pwd)
source "$HERE/common.sh"
make_data
write_config
sed -i 's/validation: {interval_steps: 40}/validation: {interval_steps: 10, micro_batches: 300}/; s/validation: \[{path: heldout}\]/validation: [{path: train}]/' config.yaml
# Many, so that a look at the health every few milliseconds meets them.
prompts=$(printf '"%d+34=", ' $(seq 30))
echo "samples: {interval_steps: 10, prompts: [${prompts%, }], max_tokens: 100}" >>config.yaml
port=$((20000 + RANDOM % 20000))

# health: what the run on $port says of itself, or nothing.
health() {
  { exec 3<>"/dev/tcp/127.0.0.1/$port"; } 2>/dev/null || return 0
  printf 'GET /health HTTP/1.0\r\n\r\n' >&3
  tail -n 1 <&3 || true
  exec 3>&-
}

# asked NAME PATTERN COMMAND...: starts the run NAME, sends USR1 once its health matches PATTERN in step 5 or later, and waits for 75.
asked() {
  local name=$1 pattern=$2 launcher code=0 seen=
  shift 2
  "$@" "run_directory=$WORK/$name" "log.metrics_port=$port" >"$name.log" 2>&1 &
  launcher=$!
  for _ in $(seq 1 3000); do
    seen=$(health)
    if [[ $seen =~ \"step\":([0-9]+) ]] && [ "${BASH_REMATCH[1]}" -gt 4 ] && [[ $seen =~ $pattern ]]; then break; fi
    kill -0 "$launcher" 2>/dev/null || break
    seen=
    sleep 0.01
  done
  [ -n "$seen" ] || { tail -n 20 "$name.log" >&2; fail "$name was never seen at $pattern"; }
  kill -USR1 "$launcher"
  wait "$launcher" || code=$?
  [ "$code" -eq 75 ] || { tail -n 20 "$name.log" >&2; fail "$name: exit code $code after USR1, not 75"; }
  no_orphans
  local step
  step=$(sed -nE 's/.*stopped at step ([0-9]+) of .*/\1/p' "$name.log")
  [ "$(basename "$(ls -d "$name"/step-*[0-9] | tail -n 1)")" = "$(printf 'step-%08d' "$step")" ] ||
    fail "$name stopped at step $step, and its newest checkpoint is another"
  [ -z "$(find "$name" -name '*.tmp-*')" ] || fail "$name left a save behind"
  echo "$name: asked at $(sed -E 's/.*"doing":"([^"]*)".*/\1/' <<<"$seen"); saved step $step"
}

train() { "$TANREN" launch -n 2 train config.yaml "$@"; }
expect_exit 0 undisturbed.log train "run_directory=$WORK/undisturbed"

asked in_step '"phase":"step"' "$TANREN" launch -n 2 train config.yaml
asked in_validation '"phase":"validation"' "$TANREN" launch -n 2 train config.yaml
asked in_samples '"phase":"samples"' "$TANREN" launch -n 2 train config.yaml
TANREN_FAULT=save:write:delay asked in_save '"phase":"save"' "$TANREN" launch -n 2 train config.yaml checkpoint.async=false
TANREN_FAULT=save:write:delay asked beside_save '"step":1[0-9],' "$TANREN" launch -n 2 train config.yaml
for name in in_step in_validation in_samples in_save beside_save; do
  expect_exit 0 "$name.log" train "run_directory=$WORK/$name"
  expect_text "$name.log" "resumed"
  same_run undisturbed "$name" 80
done

# Output that nobody reads any more is a request to stop as well: nothing is lost with the reader.
unread() {  # unread NAME COMMAND...
  local name=$1 codes
  shift
  set +o pipefail
  "$@" "run_directory=$WORK/$name" train.steps=4000 train.log_interval=20 checkpoint.interval_steps=100000 2>"$name.log" | head -n 8 >/dev/null
  codes=("${PIPESTATUS[@]}")
  set -o pipefail
  [ "${codes[0]}" -eq 75 ] || { tail -n 20 "$name.log" >&2; fail "$name: exit code ${codes[0]}, not 75"; }
  no_orphans
  # The only commit is the one that was made for it.
  [ "$(ls -d "$name"/step-*[0-9] | wc -l)" -eq 1 ] || fail "$name: not one commit: $(ls "$name")"
}
unread unread_ranks "$TANREN" launch -n 2 train config.yaml
unread unread_bare "$TANREN" train config.yaml

# A reader that has stopped reading keeps nobody from stopping: the ranks save at the first request, and the second ends the launcher.
mkfifo stalled.pipe
exec 8<>stalled.pipe
"$TANREN" launch -n 2 train config.yaml "run_directory=$WORK/stalled" train.steps=100000 checkpoint.interval_steps=1000000 batch.micro_batches=1 \
  validation.interval_steps=0 samples.interval_steps=0 >stalled.pipe 2>&1 &
launcher=$!
for _ in $(seq 1 1200); do
  [ "$(losses stalled 2>/dev/null | wc -l)" -ge 1200 ] && break
  sleep 0.05
done
kill -INT "$launcher"
for _ in $(seq 1 400); do
  [ -n "$(ls -d stalled/step-*[0-9] 2>/dev/null)" ] && break
  sleep 0.05
done
[ -n "$(ls -d stalled/step-*[0-9] 2>/dev/null)" ] || fail "behind a reader that has stopped, a request was not heard"
kill -INT "$launcher"
code=0
wait "$launcher" || code=$?
exec 8<&-
# 75 where the ranks had ended before.
[ "$code" -eq 130 ] || [ "$code" -eq 75 ] || fail "exit code $code with a reader that has stopped"
no_orphans

source "$HERE/tiny_task.sh"
options=(train.steps=62 rl.algorithm=grpo rl.epochs=2 rl.minibatches=2 rollout.samples=128 rollout.decode_slots=4)
rollout() { "$TANREN" launch -n 2 train rl.yaml "${options[@]}" "$@"; }
expect_exit 0 rollout.log rollout "run_directory=$WORK/rollout"
asked in_rollout 'rollout' "$TANREN" launch -n 2 train rl.yaml "${options[@]}"
expect_exit 0 in_rollout.log rollout "run_directory=$WORK/in_rollout"
same_run rollout in_rollout 62

# Killed in a rollout, it draws the same answers again.
TANREN_FAULT=step:rollout:kill:rank=1:hit=4 expect_exit 137 killed.log rollout "run_directory=$WORK/killed" checkpoint.interval_steps=3
no_orphans
expect_exit 0 killed.log rollout "run_directory=$WORK/killed" checkpoint.interval_steps=3
expect_text killed.log "resumed"
same_run rollout killed 62
