#!/usr/bin/env bash
# Steps that go wrong: a rank whose weights turn into NaN is skipped by all, the run goes back to its newest checkpoint
# and on; one whose weights differ by a bit is named; what was committed goes on to the same bits.
HERE=$(cd "$(dirname "$0")" && pwd)
source "$HERE/common.sh"
make_data
write_config

run() {  # run DIRECTORY RANKS [key=value ...]
  local directory=$1 ranks=$2
  shift 2
  "$TANREN" launch -n "$ranks" train config.yaml "run_directory=$WORK/$directory" train.steps=40 "$@"
}

expect_exit 0 undisturbed.log run undisturbed 3 faults.replica_check_steps=1
# Four micro-batches on three ranks are warned of, rightly.
if grep "warning" undisturbed.log | grep -v "batch.micro_batches: 4 for 3 data ranks"; then fail "an undisturbed run warns"; fi

# --- a bit of one replica flips ---------------------------------------------------------------------------------
export TANREN_FAULT=step:replica:flip:rank=1:hit=24
expect_exit 1 flipped.log run flipped 3 faults.replica_check_steps=8
unset TANREN_FAULT
expect_text flipped.log "step 24: the weights of model policy are not the same on the ranks that hold them"
expect_text flipped.log "not as on most: rank 1 on $(uname -n)"
! grep -q "rank [02] on" flipped.log || fail "ranks that are well are named"
no_orphans
[ "$(ls -d flipped/step-*[0-9] | tail -n 1)" = flipped/step-00000020 ] || fail "something was saved after the flip"
expect_exit 0 flipped.log run flipped 3 faults.replica_check_steps=8
same_run undisturbed flipped 40

# Of two, nobody can tell which: both are named.
export TANREN_FAULT=step:replica:flip:rank=0:hit=3
expect_exit 1 two.log run two 2 faults.replica_check_steps=1
unset TANREN_FAULT
expect_text two.log "not as on most: rank 0 on"
expect_text two.log ", rank 1 on"

# A difference that the next all-gather mends is not there any more when it is looked for.
export TANREN_FAULT=step:replica:flip:rank=1:hit=3
expect_exit 0 mended.log run mended 2 faults.replica_check_steps=10 train.steps=10
unset TANREN_FAULT

# --- the weights of one replica become NaN ----------------------------------------------------------------------
# Every rank skips the same steps; after three the run goes back to step 10, where all is well, and past the data.
export TANREN_FAULT=step:replica:nan:rank=2:hit=14
expect_exit 0 healed.log run healed 3 faults.patience=3
unset TANREN_FAULT
for step in 15 16 17; do expect_text healed.log "step $step: the gradient is not finite"; done
expect_text healed.log "3 steps in a row, up to step 17, went wrong (gradients that are not finite): back to step 10, and past the data of 7 steps"
[ "$(losses healed | wc -l)" -eq 40 ] || fail "metrics.jsonl has not one line a step"
! grep -q '"loss":"nan"' healed/metrics.jsonl || fail "metrics.jsonl keeps a step that was done again"
grep -q "\"skipped_steps\":3,\"rollbacks\":1,\"skipped_data_steps\":7" <(grep "\"step\":40,\"loss\"" healed/metrics.jsonl) ||
  fail "the counts are not in metrics.jsonl"
diff <(losses undisturbed | head -n 10) <(losses healed | head -n 10) || fail "the first ten steps differ"
[ "$(losses undisturbed | sed -n 11p)" != "$(losses healed | sed -n 11p)" ] || fail "the data was not passed over"

# A memory that fails again and again: back as often as it may, and then the way out is said.
expect_exit 75 hopeless.log run hopeless 2 train.stop_after=10
export TANREN_FAULT=step:replica:nan:rank=1
expect_exit 1 hopeless.log run hopeless 2 faults.patience=2 faults.max_rollbacks=2
unset TANREN_FAULT
expect_text hopeless.log "2 steps in a row, up to step 13, went wrong (gradients that are not finite), after the run went back to step 10 2 times"
expect_text hopeless.log "lower optimizer.learning_rate, look at the data"
no_orphans
expect_exit 2 bad.log run bad 2 faults.patience=0
expect_text bad.log "faults.patience"
