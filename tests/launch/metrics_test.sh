#!/usr/bin/env bash
# A run that is asked to serves its figures and its health while it trains; a port that is taken is refused.
HERE=$(cd "$(dirname "$0")" && pwd)
source "$HERE/common.sh"
make_data
write_config

# get PORT PATH: the answer, headers and all.
get() {
  (
    exec 3<>"/dev/tcp/127.0.0.1/$1" || exit 1
    printf 'GET %s HTTP/1.0\r\nHost: localhost\r\n\r\n' "$2" >&3
    cat <&3
  ) 2>/dev/null
}

port=$((20000 + RANDOM % 10000))
"$TANREN" launch -n 2 train config.yaml "run_directory=$WORK/run" train.steps=100000 schedule.decay_steps=100000 \
  "log.metrics_port=$port" >run.log 2>&1 &
launcher=$!
for _ in $(seq 1 600); do
  get "$port" /metrics >metrics.txt && grep -q "^tanren_loss " metrics.txt && break
  kill -0 "$launcher" 2>/dev/null || { cat run.log; fail "the run ended"; }
  sleep 0.05
done
for figure in step loss lr tokens_total tokens_per_second seconds_without_progress; do
  grep -qE "^tanren_$figure [0-9.e+-]+$" metrics.txt || { cat metrics.txt; fail "no figure $figure"; }
done
grep -q "^tanren_run_info{stage=\"pretrain\",run_directory=\"$WORK/run\"" metrics.txt || fail "no run_info"
get "$port" /health >health.txt
expect_text health.txt "200 OK"
expect_text health.txt '"status":"ok"'
expect_text run.log "http://127.0.0.1:$port/metrics"

expect_exit 2 taken.log "$TANREN" train config.yaml "run_directory=$WORK/second" "log.metrics_port=$port"
expect_text taken.log "log.metrics_port: port $port of 127.0.0.1 is taken"

kill -USR1 "$launcher"
code=0
wait "$launcher" || code=$?
[ "$code" -eq 75 ] || { tail -5 run.log; fail "exit code $code, not 75: the server keeps the run from ending"; }
