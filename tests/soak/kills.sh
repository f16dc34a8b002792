#!/usr/bin/env bash
# kill -9, again and again, of a run that saves all the time: of a rank, of all ranks, of mpirun or of the launcher at a
# random moment, and of whoever reaches a point of saving (TANREN_FAULT). After each kill, before the run is started again:
#
#   - no process of the run is left after 10 seconds;
#   - each step directory has a COMMIT that is the SHA-256 of its manifest, computed here and not by Tanren, and
#     `tanren ckpt verify` reads all of it;
#   - the newest commit is not older than the one before the kill, nor more than two intervals behind the last step done
#     (two, for a save may be in flight while steps go on);
#   - the losses so far are those of an undisturbed run of the same ranks;
#   - the next start resumes at that commit and no other, and passes over nothing.
#
# A run that has reached its last step must hold the same bytes of tensors as the undisturbed one; then another begins,
# with other ranks and another interval, until there were KILLS kills.
#
#   tests/soak/kills.sh                default: KILLS=1000 SEED=1, about half an hour on two cores
#
# What is chosen is a function of SEED; when a process is where depends on the machine. All is in build/soak/kills/seed-N:
# results.tsv has a line for each start, and run again the script goes on behind the last one. What went wrong is kept in
# failed-N. Exit code 1 if anything did. TANREN: another binary.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

tanren=${TANREN:-$PWD/build/cpu/launch/tanren}
kills=${KILLS:-1000}
seed=${SEED:-1}
if ! [[ $kills =~ ^[1-9][0-9]*$ && $seed =~ ^[0-9]{1,9}$ ]]; then
  echo "kills.sh: KILLS=$kills SEED=$seed: whole numbers are needed" >&2
  exit 2
fi
home=$PWD/build/soak/kills/seed-$seed
run=$home/run
steps=200
points=(open write fsync manifest commit rename parent latest prune)
limit_seconds=10   # of an end after a kill, and of an orphan
start_seconds=120  # of a start until its log is open
most_failures=20   # then there is nothing more to learn from going on

say() { echo "kills: $*"; }
# shellcheck source=tests/soak/draw.sh
. tests/soak/draw.sh

# --- the runs -----------------------------------------------------------------------------------------------------

prepare() {
  [ ! -e "$home/prepared" ] || return 0
  rm -rf "$home"
  mkdir -p "$home"
  {
    "$tanren" data synth --out "$home/synth" --problems 200 --held-out 20
    "$tanren" tokenizer train --kind characters --out "$home/tokenizer" "$home/synth/train.jsonl"
    "$tanren" data tokenize --tokenizer "$home/tokenizer" --out "$home/tokens" "$home/synth/train.jsonl"
  } >"$home/prepare.log" 2>&1
  cat >"$home/config.yaml" <<YAML
model: {layers: 1, width: 16, heads: 2, head_dim: 8, mlp_width: 32, context_length: 64}
tokenizer: {kind: characters, path: $home/tokenizer}
data: {train: [{path: $home/tokens}]}
batch: {micro_batch_tokens: 512, micro_batches: 4}
optimizer: {learning_rate: 3e-3}
schedule: {warmup_steps: 5}
train: {steps: $steps, log_interval: 1}
validation: {interval_steps: 0}
log: {tensorboard: false}
parallel: {threads: 1}
YAML
  local layout
  for layout in one data tensor; do
    command_of "$layout" "$home/undisturbed-$layout" checkpoint.interval_steps=100
    "${command[@]}" >"$home/undisturbed-$layout.log" 2>&1 ||
      { tail -n 5 "$home/undisturbed-$layout.log" >&2; return 1; }
    losses "$home/undisturbed-$layout" >"$home/undisturbed-$layout.losses"
    [ "$(wc -l <"$home/undisturbed-$layout.losses")" -eq "$steps" ]
  done
  : >"$home/prepared"
}

# command_of LAYOUT DIRECTORY KEY=VALUE...: sets $command.
command_of() {
  local layout=$1 directory=$2
  shift 2
  local train=(train "$home/config.yaml" "run_directory=$directory" "$@")
  case $layout in
    one) command=("$tanren" "${train[@]}") ;;
    data) command=("$tanren" launch -n 2 "${train[@]}" parallel.data=2) ;;
    tensor) command=("$tanren" launch -n 2 "${train[@]}" parallel.tensor=2) ;;
  esac
}

# The run that goes on, or the next one. Its layout and interval follow from its number.
open_run() {
  choose_for "run $run_number"
  pick data data tensor one
  layout=$picked
  pick 1 2 4 10 25
  interval=$picked
  pick 2 3
  command_of "$layout" "$run" checkpoint.interval_steps="$interval" checkpoint.keep="$picked"
  newest=$(newest_step)
}

next_run() {
  rm -rf "$run"
  run_number=$((run_number + 1))
  echo "$run_number" >"$home/run.number"
  open_run
}

# One "step loss" a line, of whole lines only: the last may have been cut by the kill.
losses() {
  [ -e "$1/metrics.jsonl" ] || return 0
  sed -nE 's/^\{"step":([0-9]+),"loss":([^,]+),.*\}$/\1 \2/p' "$1/metrics.jsonl"
}

step_directories() { find "$run" -maxdepth 1 -name 'step-????????' 2>/dev/null | sort; }

# The number of the newest step directory, 0 where there is none.
newest_step() {
  local name
  name=$(step_directories | tail -n 1)
  name=${name##*/step-}
  echo "$((10#${name:-0}))"
}

# Its own command line names the run's directory: that of the launcher, of mpirun and of the ranks.
processes() { pgrep -f "run_directory=$run " || true; }

# rank_process RANK: sets $found, empty where it is not there.
rank_process() {
  local mpirun process
  found=
  if [ "$layout" = one ]; then
    found=$launched
    return
  fi
  mpirun=$(pgrep -P "$launched" || true)
  for process in $([ -z "$mpirun" ] || pgrep -P "$mpirun" || true); do
    if tr '\0' '\n' 2>/dev/null <"/proc/$process/environ" | grep -qx "OMPI_COMM_WORLD_RANK=$1"; then found=$process; fi
  done
}

running() { kill -0 "$launched" 2>/dev/null; }

# pause MILLISECONDS: waits for a FIFO into which nobody writes, for each process more uses up a number.
pause() {
  local seconds
  printf -v seconds '%d.%03d' $(($1 / 1000)) $(($1 % 1000))
  read -rt "$seconds" -u 9 || true
}

# now: sets $milliseconds.
now() { milliseconds=$((${EPOCHREALTIME/[.,]/} / 1000)); }

# --- what is found ------------------------------------------------------------------------------------------------

# failure KIND TEXT: the first one decides what is counted; all are said.
failure() {
  outcome=${outcome/#kill/$1}
  outcome=${outcome/#finished/$1}
  outcome=${outcome/#none/$1}
  say "FAILED at start $attempt ($layout, $what): $1: $2" >&3
}

# Not one process of the run may be left; what is left is ended, so that one orphan is counted once. Sets $gone: how many
# milliseconds after a kill at a random moment the last process went.
check_orphans() {
  local left process began
  now
  began=$milliseconds
  while left=$(processes) && [ -n "$left" ]; do
    now
    if [ $((milliseconds - began)) -gt $((1000 * limit_seconds)) ]; then
      failure orphan "processes are left: $(ps -o pid=,args= -p "${left//$'\n'/,}" | tr '\n' ';')"
      for process in $left; do kill -KILL "$process" 2>/dev/null || true; done
    fi
    pause 20
  done
  now
  gone=$((killed == 0 ? 0 : milliseconds - killed))
  # The segments of ranks that were killed stay.
  rm -rf "${shared:?}"/*
}

commit_fits() {
  local sum
  sum=$(sha256sum "$1/manifest.pb" 2>/dev/null) || return 1
  [ "$(od -An -c "$1/COMMIT" 2>/dev/null)" = "$(printf '%s\n' "${sum%% *}" | od -An -c)" ]
}

check_directory() {
  local directory before=$newest last
  for directory in $(step_directories); do
    commit_fits "$directory" || failure unloadable "$directory has no COMMIT that fits its manifest"
    "$tanren" ckpt verify "$directory" >"$home/verify.log" 2>&1 || failure unloadable "$(tail -n 1 "$home/verify.log")"
  done
  newest=$(newest_step)
  losses "$run" >"$home/losses"
  last=$(tail -n 1 "$home/losses" | cut -d' ' -f1)
  if [ "$newest" -lt "$before" ]; then failure lost "step $before was committed, $newest is the newest now"; fi
  if [ "${last:-0}" -gt $((newest + 2 * interval)) ]; then
    failure lost "step $last was done at an interval of $interval, and $newest is the newest commit"
  fi
  head -n "$(wc -l <"$home/losses")" "$home/undisturbed-$layout.losses" >"$home/losses.right"
  if ! cmp -s "$home/losses" "$home/losses.right"; then
    failure wrong "losses differ: $(diff "$home/losses" "$home/losses.right" | sed -n 2p)"
  fi
}

# env.json says where this start resumed, once the start has come so far.
check_resumed() {
  local resumed
  if grep -q 'passed over' "$home/log"; then failure unloadable "$(grep -m 1 'passed over' "$home/log")"; fi
  [ "$run/env.json" -nt "$home/began" ] || return 0
  resumed=$(sed -nE '/"resumed_step"/{s/.*: *([0-9]+).*/\1/p;q}' "$run/env.json")
  seen_resumes=1
  if [ "$resumed" -lt "$newest" ]; then failure lost "resumed at step $resumed, and $newest was committed"; fi
  if [ "$resumed" -gt "$newest" ]; then failure wrong "resumed at step $resumed, and $newest was the newest commit"; fi
}

check_finished() {
  local whole file
  whole=$home/undisturbed-$layout/$(printf 'step-%08d' "$steps")
  if [ "$(wc -l <"$home/losses")" -ne "$steps" ]; then failure wrong "a finished run with $(wc -l <"$home/losses") losses"; fi
  for file in "$whole"/*.safetensors; do
    cmp "$file" "$run/${whole##*/}/${file##*/}" 2>"$home/cmp.log" || failure wrong "${file##*/}: $(cat "$home/cmp.log")"
  done
  "$tanren" ckpt diff "$whole" "$run/${whole##*/}" >"$home/diff.log" 2>&1 || failure wrong "$(head -n 1 "$home/diff.log")"
}

# --- one start and its end ----------------------------------------------------------------------------------------

# start FAULT
start() {
  touch "$home/began"
  TANREN_FAULT=$1 "${command[@]}" >"$home/log" 2>&1 &
  launched=$!
}

# Waits for the launcher until $1 ms from now; sets $code, or says that it hangs and ends it.
await_end() {
  local deadline
  now
  deadline=$((milliseconds + $1))
  while running; do
    now
    if [ "$milliseconds" -gt "$deadline" ]; then
      failure orphan "no end after $(($1 / 1000)) s"
      kill -KILL "$launched" 2>/dev/null || true
      break
    fi
    pause 10
  done
  code=0
  wait "$launched" 2>/dev/null || code=$?
}

# Ends the run at a point of saving.
kill_in_save() {
  local fault rank=any
  pick "${points[@]}"
  fault=save:$picked:kill
  what=$picked
  case $picked in
    # Reached by both ranks and for each file; the others once a save, by rank 0.
    open | write | fsync)
      if [ "$layout" != one ]; then pick any 0 1; rank=$picked; fi
      [ "$rank" = any ] || fault+=:rank=$rank
      draw 10
      ;;
    *) draw 3 ;;
  esac
  fault+=:hit=$((drawn + 1))
  what="save $what"
  start "$fault"
  await_end $((1000 * start_seconds))
}

# The moment: in a third of all cases while the run starts, else after it has begun to log.
wait_for_moment() {
  local while_starting=$1 delay=$2 deadline
  if [ "$while_starting" = 0 ]; then
    pause "$delay"
    return
  fi
  now
  deadline=$((milliseconds + 1000 * start_seconds))
  while running && ! [ "$run/env.json" -nt "$home/began" ]; do
    now
    if [ "$milliseconds" -gt "$deadline" ]; then
      failure orphan "no step after $start_seconds s"
      break
    fi
    pause 10
  done
  pause $((delay / 2))
}

# Ends it at a random moment.
kill_at_random() {
  local victim moment victims=() process
  if [ "$layout" = one ]; then victim='rank 0'; else
    pick 'rank 0' 'rank 1' 'all ranks' mpirun launcher
    victim=$picked
  fi
  what=$victim
  draw 3
  moment=$drawn
  draw 1000
  start ''
  wait_for_moment "$moment" "$drawn"
  case $victim in
    rank*) rank_process "${victim#rank }"; victims=("$found") ;;
    all*) for process in 0 1; do rank_process "$process"; victims+=("$found"); done ;;
    mpirun) victims=("$(pgrep -P "$launched" || true)") ;;
  esac
  # No ranks yet: whoever is there.
  if [ -z "${victims[*]}" ] || [ "${victims[*]}" = ' ' ]; then
    victims=("$launched")
    what=launcher
  fi
  [ "$layout" != one ] || what='only rank'
  now
  killed=$milliseconds
  for process in "${victims[@]}"; do
    [ -z "$process" ] || kill -KILL "$process" 2>/dev/null || true
  done
  await_end $((1000 * limit_seconds))
}

one_start() {
  local began
  outcome=none code=0 seen_resumes=0 killed=0
  choose_for "start $attempt"
  now
  began=$milliseconds
  # mpirun gives ranks a second between SIGTERM and SIGKILL. That is left as it is for a tenth of all starts only.
  draw 10
  if [ "$drawn" -gt 0 ]; then export OMPI_MCA_odls_base_sigkill_timeout=0; else unset OMPI_MCA_odls_base_sigkill_timeout; fi
  draw 100
  if [ "$drawn" -lt 45 ]; then kill_in_save; else kill_at_random; fi
  # 137: a process was ended by SIGKILL. 0: the run was at its end before.
  case $code in
    0) [ "$outcome" != none ] || outcome="finished" ;;
    137) [ "$outcome" != none ] || outcome="kill" ;;
    *) failure refused "exit code $code: $(grep -v '^ ' "$home/log" | tail -n 1)" ;;
  esac
  check_orphans
  check_resumed
  check_directory
  [ "$code" -ne 0 ] || check_finished
  now
  printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n' "$attempt" "$run_number" "$layout" "$interval" "$what" "$outcome" \
    "$newest" "$seen_resumes" "$((milliseconds - began))" "$gone" >>"$home/results.tsv"
}

count() { awk -F'\t' -v outcome="$1" '$6 == outcome { ++n } END { print n + 0 }' "$home/results.tsv"; }
done_kills() { awk -F'\t' '$6 != "finished" { ++n } END { print n + 0 }' "$home/results.tsv"; }
failures() { awk -F'\t' '$6 != "finished" && $6 != "kill" { ++n } END { print n + 0 }' "$home/results.tsv"; }

summary() {
  awk -F'\t' '
    { ms += $9; ++starts; resumes += $8; if ($2 > runs) runs = $2; if ($10 > longest) longest = $10 }
    $6 == "finished" { ++finished; next }
    { ++kills; ++by[$5]; ++layouts[$3]; if (!($5 in order)) { order[$5] = ++kinds; name[kinds] = $5 } }
    END {
      printf "kills: %d kills in %d starts of %d runs, %d finished and equal; %d starts were seen to resume at the newest" \
        " commit; %.0f s\n", kills, starts, runs, finished, resumes, ms / 1000
      printf "kills: the last process went at most %.2f s after a kill; of one rank %d, of two data ranks %d, of two" \
        " tensor ranks %d\n", longest / 1000, layouts["one"], layouts["data"], layouts["tensor"]
      for (i = 1; i <= kinds; ++i) printf "kills:   %-16s %5d\n", name[i], by[name[i]]
    }' "$home/results.tsv"
  say "unloadable $(count unloadable), lost $(count lost), wrong loads $(count wrong), orphans or hangs $(count orphan)," \
    "starts refused $(count refused)"
}

# Ends what this script started, and removes nothing else.
clean_up() {
  local process
  grep -vE 'line [0-9]+: +[0-9]+ Killed ' "$home/errors" >&3 || true
  for process in $(processes); do kill -KILL "$process" 2>/dev/null || true; done
  rm -rf "$shared"
}

unset OPENBLAS_CORETYPE TANREN_FAULT
prepare
touch "$home/results.tsv"
# No process may last beside the launcher: with one, this bash waits for ever where it loses sight of a child whose number
# had been another's before, and without one only until the launcher ends.
rm -f "$home/nobody"
mkfifo "$home/nobody"
exec 9<>"$home/nobody"
# bash tells of each child that is killed, which is what this is about. What else is said is shown at the end.
exec 3>&2 2>"$home/errors"
# Ranks that are killed leave their shared memory and mpirun its session directory: kept together, so that they can go.
shared=$(mktemp -d /dev/shm/tanren-kills.XXXXXX 2>/dev/null || mktemp -d)
export OMPI_MCA_btl_vader_backing_directory=$shared OMPI_MCA_orte_tmpdir_base=$shared
trap clean_up EXIT
trap 'exit 130' INT TERM

run_number=$(cat "$home/run.number" 2>/dev/null || echo 0)
attempt=$(wc -l <"$home/results.tsv")
if [ "$run_number" -eq 0 ]; then next_run; else open_run; fi
while [ "$(done_kills)" -lt "$kills" ] && [ "$(failures)" -lt "$most_failures" ]; do
  attempt=$((attempt + 1))
  one_start
  case $outcome in
    kill) ;;
    finished) next_run ;;
    *)
      mkdir -p "$home/failed-$attempt"
      cp "$home/log" "$home/failed-$attempt/log"
      mv "$run" "$home/failed-$attempt/run" 2>/dev/null || true
      next_run
      ;;
  esac
  [ $((attempt % 100)) -ne 0 ] || say "$(done_kills) of $kills kills in $attempt starts, $(failures) failures"
done
summary
[ "$(failures)" -eq 0 ] && [ "$(done_kills)" -ge "$kills" ]
