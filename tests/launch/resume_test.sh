#!/usr/bin/env bash
# A killed or stopped run, resumed, equals the undisturbed one bit for bit; any layout loads any checkpoint.
source "$(dirname "$0")/common.sh"
make_data
write_config
seed=${TANREN_TEST_SEED:-$RANDOM}
echo "seed $seed"
RANDOM=$seed

run() {  # run DIRECTORY RANKS [key=value ...]
  local directory=$1 ranks=$2
  shift 2
  "$TANREN" launch -n "$ranks" train config.yaml "run_directory=$WORK/$directory" "$@"
}

expect_exit 0 undisturbed.log run undisturbed 2

# --- kill -9 of a rank at a random moment, twice, then to the end -----------------------------------------------
for round in 1 2; do
  run killed 2 >"killed$round.log" 2>&1 &
  launcher=$!
  # Wait for the first commit, then for a random while.
  for _ in $(seq 1 600); do
    ls -d killed/step-*[0-9] >/dev/null 2>&1 && break
    sleep 0.05
  done
  sleep "0.$((RANDOM % 5))$((RANDOM % 10))"
  victim=$(pgrep -f "train config.yaml run_directory=$WORK/killed" | while read -r pid; do
    tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -q '^[^ ]*tanren train ' && echo "$pid"
  done | shuf -n 1 --random-source=<(yes "$seed")) || true
  if [ -n "$victim" ]; then kill -9 "$victim" 2>/dev/null || true; fi
  code=0
  wait "$launcher" || code=$?
  steps=$(losses killed | tail -n 1 | cut -d' ' -f1)
  echo "round $round: killed process ${victim:-none} after step $steps, exit code $code"
  [ -z "$victim" ] || [ "$code" -ne 0 ] || [ "$steps" = 80 ] || fail "a killed rank and exit code 0"
  no_orphans
done
expect_exit 0 killed.log run killed 2
same_run undisturbed killed 80

# --- kill -9 in each part of a step, of each rank ----------------------------------------------------------------
for point in forward:rank=0:hit=100 forward:rank=1:hit=77 backward:rank=0:hit=99 backward:rank=1:hit=60 \
  optimizer:rank=0:hit=37 optimizer:rank=1:hit=44 collective:rank=0:hit=150 collective:rank=1:hit=201; do
  part=killed_in_${point//[:=]/_}
  TANREN_FAULT=step:${point/:/:kill:} expect_exit 137 "$part.log" run "$part" 2
  no_orphans
  expect_exit 0 "$part.log" run "$part" 2
  expect_text "$part.log" "resumed $WORK/$part/step-"
  same_run undisturbed "$part" 80
done

# --- TERM to the launcher: saved, exit code 75, resumed ---------------------------------------------------------
"$TANREN" launch -n 2 train config.yaml "run_directory=$WORK/stopped" >stopped.log 2>&1 &
launcher=$!
for _ in $(seq 1 600); do
  [ "$(losses stopped 2>/dev/null | wc -l)" -ge 3 ] && break
  sleep 0.05
done
kill -TERM "$launcher"
code=0
wait "$launcher" || code=$?
[ "$code" -eq 75 ] || { cat stopped.log; fail "exit code $code after TERM, not 75"; }
no_orphans
expect_exit 0 stopped.log run stopped 2
expect_text stopped.log "resumed"
same_run undisturbed stopped 80

# --- ten requeues -----------------------------------------------------------------------------------------------
for i in $(seq 1 10); do
  expect_exit 75 requeued.log run requeued 2 "train.stop_after=$((i * 7))"
done
expect_exit 0 requeued.log run requeued 2
same_run undisturbed requeued 80

# --- a save beside the next steps holds the step's own state, however long the disk takes -------------------------
expect_exit 0 waiting.log run waiting 2 checkpoint.async=false
TANREN_FAULT=save:write:delay expect_exit 0 beside.log run beside 2
for step in waiting/step-*[0-9]; do
  for shard in "$step"/*.safetensors; do
    cmp "$shard" "beside/${shard#waiting/}" || fail "$shard differs when written beside the next steps"
  done
done
[ "$(ls -d beside/step-*[0-9] | wc -l)" -eq 8 ] || fail "not every step of the interval was saved"
same_run undisturbed beside 80
# Killed while steps go on beside the writing: nothing of the commit before is lost, nothing half written is loaded.
TANREN_FAULT=save:write:kill:rank=1:hit=5 expect_exit 137 beside.log run killed_beside 2
[ ! -e killed_beside/step-00000030 ] || fail "a save was committed without rank 1's part"
expect_exit 0 beside.log run killed_beside 2
expect_text beside.log "resumed $WORK/killed_beside/step-00000020"
same_run undisturbed killed_beside 80

# --- any layout loads any checkpoint: the gathered tensors stay equal bit for bit -------------------------------
expect_exit 75 layouts.log run at_2x2 4 parallel.tensor=2 train.stop_after=20
copy() {  # copy FROM TO RANKS TENSOR: loads at another layout, trains nothing, saves
  expect_exit 75 layouts.log run "$2" "$3" "parallel.tensor=$4" train.stop_after=20 --resume "$1/step-00000020"
  expect_exit 0 diff.log "$TANREN" ckpt diff "$1/step-00000020" "$2/step-00000020"
}
copy at_2x2 at_1x4 4 4
copy at_1x4 at_3x1 3 1
copy at_3x1 at_1x1 1 1
copy at_1x1 at_2x2_again 4 2
# And training goes on from each.
expect_exit 75 layouts.log run at_1x4 4 parallel.tensor=4 train.stop_after=25
expect_exit 75 layouts.log run at_3x1 3 train.stop_after=25
paste -d' ' <(losses at_1x4 | tail -n 5) <(losses at_3x1 | tail -n 5) |
  awk '{d = $2 - $4; if (d < 0) d = -d; if ($1 != $3 || d > 1e-4 * $2) bad = 1} END {exit bad}' ||
  fail "losses after resuming at 1x4 and 3x1 differ"

# --- moments in bf16: resumed bit for bit, and converted where the config changes ------------------------------
expect_exit 0 narrow.log run narrow 2 optimizer.moments=bf16 train.steps=40
expect_exit 75 requeued.log run narrow_stopped 2 optimizer.moments=bf16 train.steps=40 train.stop_after=13
expect_exit 0 requeued.log run narrow_stopped 2 optimizer.moments=bf16 train.steps=40
same_run narrow narrow_stopped 40
expect_exit 75 narrowed.log run narrowed 2 optimizer.moments=bf16 train.stop_after=25 --resume undisturbed/step-00000020
expect_text narrowed.log "rounded from float32 to bfloat16 (optimizer.moments)"
expect_exit 75 widened.log run widened 1 train.stop_after=30 --resume narrowed/step-00000025
expect_text widened.log "converted from bfloat16 to float32 (optimizer.moments)"
paste -d' ' <(losses undisturbed | sed -n 21,30p) <(losses narrowed; losses widened) |
  awk '{d = $2 - $4; if (d < 0) d = -d; if ($1 != $3 || d > 2e-2 * $2) bad = 1} END {exit bad || NR != 10}' ||
  fail "losses after a conversion of the moments differ"

# --- one rank with 16 micro-batches and four ranks with 4 each --------------------------------------------------
expect_exit 75 accumulate.log run one_rank 1 batch.micro_batches=16 train.stop_after=20
expect_exit 75 accumulate.log run four_ranks 4 batch.micro_batches=16 train.stop_after=20
paste -d' ' <(losses one_rank) <(losses four_ranks) |
  awk '{d = $2 - $4; if (d < 0) d = -d; if ($1 != $3 || d > 1e-5 * $2) bad = 1} END {exit bad || NR != 20}' ||
  fail "1 rank x 16 micro-batches and 4 ranks x 4 differ"
echo "all equal"
