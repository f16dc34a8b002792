#!/usr/bin/env bash
# With train.determinism: elastic a run that is moved between numbers of data ranks ends as if it had not been: the same
# losses and, bit for bit, the same tensors and state.
source "$(dirname "$0")/common.sh"
make_data
write_config

run() {  # run DIRECTORY RANKS [key=value ...]
  local directory=$1 ranks=$2
  shift 2
  "$TANREN" launch -n "$ranks" train config.yaml "run_directory=$WORK/$directory" train.determinism=elastic train.steps=40 "$@"
}

expect_exit 0 undisturbed.log run undisturbed 2
expect_exit 75 moved.log run moved 2 train.stop_after=13
expect_exit 75 moved.log run moved 4 train.stop_after=26
expect_text moved.log "(saved at data 2 x tensor 1, now data 4 x tensor 1)"
expect_exit 0 moved.log run moved 1
expect_text moved.log "(saved at data 4 x tensor 1, now data 1 x tensor 1)"
same_run undisturbed moved 40

# Killed on three ranks while a checkpoint is written, it goes on with one: the ranges are those of the commit.
expect_exit 0 short.log run undisturbed_short 1 train.steps=20
TANREN_FAULT=save:write:kill:rank=2:hit=3 expect_exit 137 killed.log run killed 3 train.steps=20 checkpoint.interval_steps=7
expect_exit 0 killed.log run killed 1 train.steps=20 checkpoint.interval_steps=7
expect_text killed.log "step-00000007 at step 7"
same_run undisturbed_short killed 20

# The plain sums do not give this, or the above would show nothing.
expect_exit 0 plain.log run plain 1 train.determinism=layout
expect_exit 0 plain.log run plain_on_three 3 train.determinism=layout
if diff <(losses plain) <(losses plain_on_three) >/dev/null; then fail "plain sums did not depend on the ranks"; fi

# And they learn the same.
paste -d' ' <(losses plain) <(losses undisturbed) |
  awk '{d = $2 - $4; if (d < 0) d = -d; if ($1 != $3 || d > 1e-4 * $2) bad = 1} END {exit bad}' ||
  fail "losses of elastic and of plain sums differ"
no_orphans
