#!/usr/bin/env bash
# tanren report: a page about a run that was stopped and went on, about a home of two runs, and about one of a million
# lines; damaged and hostile files; the table for scripts.
source "$(dirname "$0")/common.sh"
make_data
write_config

train() {  # train DIRECTORY [key=value ...]
  local directory=$1
  shift
  "$TANREN" train config.yaml "run_directory=$directory" train.steps=12 validation.interval_steps=6 \
    checkpoint.interval_steps=6 samples.interval_steps=6 'samples.prompts=["1 + 1 = "]' samples.max_tokens=4 "$@"
}

# --- one run, stopped after step 5 and gone on with -------------------------------------------------------------
expect_exit 75 train.log train home/one train.stop_after=5
expect_exit 0 train.log train home/one
expect_exit 0 report.log "$TANREN" report home/one/
expect_text report.log "one        12"
expect_text report.log "wrote home/one/report.html"
page=home/one/report.html
for text in "restart after step 5" "Restarts: 1" 'data-n="validation_loss"' "Samples: 2" "Checkpoints: " \
  "<mark>  layers: 2</mark>" "Tokens a second" "Memory of a rank" "Model FLOP utilisation" "machine.cpu" ">finished<"; do
  expect_text $page "$text"
done
[ "$(grep -c 'class="m"' $page)" -gt 3 ] || fail "the restart is not marked on the curves"
cp $page first.html
expect_exit 0 report.log "$TANREN" report home/one --html first2.html
cmp first.html first2.html || fail "the same run gives another page"

# --- the table for scripts: no page ------------------------------------------------------------------------------
rm $page
expect_exit 0 row.log "$TANREN" report home/one --stage first --summary home/summary.json --seconds 90
expect_text row.log "first"
[ ! -e $page ] || fail "--summary alone writes a page"

# --- a home of two runs, one with a damaged log ------------------------------------------------------------------
# The row "first" is of the one run that has done its work; a second one like it makes that unknown.
expect_exit 0 train.log train home/two
expect_exit 0 report.log "$TANREN" report home
grep -q first report.log && fail "a row is given to two runs"
rm -r home/two
expect_exit 0 train.log train home/two train.steps=11
printf '{"step":13,"lo' >>home/two/metrics.jsonl
printf '{"cases":2,"accuracy":0.5}' >home/two.json
printf '%s\n' '{"prompt":"2 + 2 = ?","completion":"</script>5","extracted":"5","answer":"4","correct":false}' \
  '{"prompt":"1 + 1 = ?","completion":"2","extracted":"2","answer":"2","correct":true}' >home/two.answers.jsonl
expect_exit 0 report.log "$TANREN" report home
expect_text report.log "50.0%"
page=home/report.html
for text in 'href="#s1">two</a>' "damaged lines passed over: 1" "1 of 2 answers wrong" "&lt;/script&gt;5" "0:01:30"; do
  expect_text $page "$text"
done
expect_exit 2 report.log "$TANREN" report home --stage x
expect_text report.log "name one of them, such as home/one"

# --- a million lines: seconds, and little memory ------------------------------------------------------------------
mkdir long
awk 'BEGIN { for (i = 1; i <= 1000000; ++i) printf "{\"step\":%d,\"loss\":%.6f,\"grad_norm\":%.6f,\"lr\":0.0003,\"step_seconds\":0.25,\"tokens_per_second\":%.3f,\"flops_per_second\":1e14,\"tokens\":%d,\"memory_bytes\":145694720}\n", i, i == 777777 ? 99.5 : 2 + i % 7 / 10, 1 + i % 5, 16384 + i % 11, i * 4096 }' >long/metrics.jsonl
begin=$(date +%s%N)
expect_exit 0 long.log bash -c 'ulimit -v 1500000 && exec "$TANREN" report long'
milliseconds=$((($(date +%s%N) - begin) / 1000000))
echo "a million lines: $milliseconds ms, $(wc -c <long/report.html) bytes"
[ "$milliseconds" -lt 10000 ] || fail "a million lines took $milliseconds ms"
expect_text long/report.html "777777:99.5"
[ "$(wc -c <long/report.html)" -lt 1000000 ] || fail "the page of a long run is larger than 1 MB"

# --- what is no run ---------------------------------------------------------------------------------------------
mkdir -p nothing/below
expect_exit 2 report.log "$TANREN" report nothing
expect_text report.log "no directory below is a run"
expect_exit 2 report.log "$TANREN" report missing
expect_exit 2 report.log "$TANREN" report home/two --html no/such/folder/page.html
expect_text report.log "no/such/folder"
