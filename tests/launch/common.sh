# Shared by the end-to-end tests: a small corpus, a small run, and checks that say what they saw.
# Usage: source common.sh; needs TANREN (the binary) and SOURCE (the project's root) in the environment.
set -euo pipefail
: "${TANREN:?path of the tanren binary}" "${SOURCE:?root of the project}"
WORK=$(mktemp -d "${TMPDIR:-/tmp}/tanren-test.XXXXXX")
trap 'code=$?; rm -rf "$WORK"; exit $code' EXIT
cd "$WORK"

fail() {
  echo "FAILED: $*" >&2
  exit 1
}

# expect_exit CODE LOG COMMAND...: runs the command, output in LOG.
expect_exit() {
  local want=$1 log=$2 got=0
  shift 2
  "$@" >"$log" 2>&1 || got=$?
  [ "$got" -eq "$want" ] || { tail -n 30 "$log" >&2; fail "exit code $got, not $want: $*"; }
}

# expect_text LOG TEXT: the log says so.
expect_text() {
  grep -qF -- "$2" "$1" || { tail -n 30 "$1" >&2; fail "$1 does not say: $2"; }
}

make_data() {
  "$TANREN" data synth --out synth --problems 1500 --held-out 60 >/dev/null
  "$TANREN" tokenizer train --kind characters --out tokenizer synth/train.jsonl >/dev/null 2>&1
  "$TANREN" data tokenize --tokenizer tokenizer --out train synth/train.jsonl >/dev/null 2>&1
  "$TANREN" data tokenize --tokenizer tokenizer --out heldout synth/heldout.jsonl >/dev/null 2>&1
}

# A llama-shaped model of about 50,000 parameters; 4 micro-batches of 512 tokens a step.
write_config() {
  cat >config.yaml <<YAML
model: {layers: 2, width: 48, heads: 4, kv_heads: 2, head_dim: 12, mlp_width: 96, context_length: 128}
tokenizer: {kind: characters, path: tokenizer}
data:
  train: [{path: train}]
  validation: [{path: heldout}]
batch: {micro_batch_tokens: 512, micro_batches: 4}
optimizer: {learning_rate: 3e-3}
schedule: {warmup_steps: 5, decay_steps: 80}
train: {steps: 80, log_interval: 1}
validation: {interval_steps: 40}
checkpoint: {interval_steps: 10, keep: 20}
YAML
}

# The losses of a run, one "step loss" a line.
losses() {
  sed -nE 's/^\{"step":([0-9]+),"loss":([^,]+),.*/\1 \2/p' "$1/metrics.jsonl"
}

# same_run A B STEP: both runs logged the same losses and hold the same tensors and state at STEP, bit for bit.
same_run() {
  local step
  step=$(printf 'step-%08d' "$3")
  diff <(losses "$1") <(losses "$2") >losses.diff || { head -5 losses.diff >&2; fail "losses of $1 and $2 differ"; }
  expect_exit 0 diff.log "$TANREN" ckpt diff "$1/$step" "$2/$step"
}

# No process of this test may be left over. Ranks carry the test's directory in their command line.
no_orphans() {
  local left
  for _ in $(seq 1 50); do
    left=$(pgrep -f "run_directory=$WORK" || true)
    [ -n "$left" ] || return 0
    sleep 0.2
  done
  fail "processes are left: $left"
}
