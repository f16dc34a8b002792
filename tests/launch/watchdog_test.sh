#!/usr/bin/env bash
# A rank that is stopped or killed is named, with where it was, and the job ends in time, with its code and without
# leaving a process; what was committed goes on to the same bits. Detection times are printed.
HERE=$(cd "$(dirname "$0")" && pwd)
source "$HERE/common.sh"
make_data
write_config
silence=3

run() {  # run DIRECTORY RANKS [key=value ...]
  local directory=$1 ranks=$2
  shift 2
  exec "$TANREN" launch -n "$ranks" train config.yaml "run_directory=$WORK/$directory" "watchdog.silence_seconds=$silence" "$@"
}

# pid_of DIRECTORY RANK: the process of a rank, which its launcher told its number.
pid_of() {
  local pid
  for pid in $(pgrep -f "run_directory=$WORK/$1 "); do
    tr '\0' '\n' 2>/dev/null <"/proc/$pid/environ" | grep -qx "OMPI_COMM_WORLD_RANK=$2" && echo "$pid" && return
  done
  fail "no process of rank $2"
}

# start DIRECTORY RANKS: in the background, until it has done three steps; sets $launcher.
start() {
  (run "$@") >"$1.log" 2>&1 &
  launcher=$!
  for _ in $(seq 1 600); do
    [ "$(losses "$1" 2>/dev/null | wc -l)" -ge 3 ] && return
    sleep 0.05
  done
  cat "$1.log"
  fail "$1 does not start"
}

# ends WHAT CODE SECONDS: the launcher ends with the code within the time, and leaves nobody.
ends() {
  local what=$1 want=$2 limit=$3 begin=$4 code=0 seconds
  wait "$launcher" || code=$?
  seconds=$(awk -v a="$begin" -v b="$(date +%s.%N)" 'BEGIN {printf "%.1f", b - a}')
  echo "$what: exit code $code after $seconds s"
  [ "$code" -eq "$want" ] || fail "exit code $code, not $want: $what"
  awk -v s="$seconds" -v l="$limit" 'BEGIN {exit !(s <= l)}' || fail "$seconds s, not $limit: $what"
  no_orphans
}

(run undisturbed 3) >undisturbed.log 2>&1 || { cat undisturbed.log; fail "the undisturbed run"; }
! grep -q "watchdog:" undisturbed.log || fail "the watchdog speaks of an undisturbed run"

for rank in 1 0; do
  start "stopped$rank" 3
  victim=$(pid_of "stopped$rank" "$rank")
  begin=$(date +%s.%N)
  kill -STOP "$victim"
  ends "rank $rank stopped, limit $silence s" 4 $((silence + 12)) "$begin"
  expect_text "stopped$rank.log" "watchdog: rank $rank of 3 on "
  expect_text "stopped$rank.log" "(pid $victim) has sent nothing for $silence."
  expect_text "stopped$rank.log" "the process is stopped, by SIGSTOP"
  expect_text "stopped$rank.log" " of axis "
  grep "watchdog:" "stopped$rank.log"
done

start killed 2
victim=$(pid_of killed 1)
begin=$(date +%s.%N)
kill -9 "$victim"
ends "rank 1 killed" 137 15 "$begin"
expect_text killed.log "watchdog: rank 1 of 2 on "
expect_text killed.log "(pid $victim) has gone without a goodbye"

start headless 2
begin=$(date +%s.%N)
kill -9 "$(pgrep -P "$launcher" -x mpirun || pgrep -P "$launcher" -x orterun)"
ends "mpirun killed" 137 15 "$begin"

# What the watchdog ended goes on.
for name in stopped1 stopped0; do
  (run "$name" 3) >"$name.log" 2>&1 || { cat "$name.log"; fail "$name does not go on"; }
  same_run undisturbed "$name" 80
done

# One rank has nobody to watch, and nobody is watched where that is not wanted.
(run alone 1 train.steps=3 schedule.warmup_steps=1) >alone.log 2>&1 || { cat alone.log; fail "one rank"; }
(run unwatched 2 train.steps=3 schedule.warmup_steps=1 watchdog.enabled=false) >unwatched.log 2>&1 || { cat unwatched.log; fail "not enabled"; }
echo "all named"
