#!/usr/bin/env bash
# Pipelines: a chain that is stopped, killed and gone on with equals the undisturbed one bit for bit; what is finished is
# not done again; gates end the chain; and what is submitted to a scheduler, first to one that only takes notes, then to
# SLURM where there is one.
HERE=$(cd "$(dirname "$0")" && pwd)
source "$HERE/common.sh"
source "$HERE/stages.sh"

export OMP_WAIT_POLICY=passive # ranks share the machine's cores with whatever else runs there
cat >suite.yaml <<'YAML'
checkpoint: nowhere
max_tokens: 24
tests: [{name: sums, cases: synth/heldout.jsonl, limit: 4, strategies: [{name: greedy}]}]
gates: [{test: sums, strategy: greedy, figure: accuracy, minimum: 0}]
YAML
cat >pipeline.yaml <<'YAML'
name: small
home: calm
ranks: 2
overrides: [parallel.threads=1]
stages:
  - name: task
    run:
      - cp rankings.jsonl "{home}/task/rankings.jsonl"
      - echo once more >>'{home}.count'
  - name: pretrain
    config: pretrain.yaml
  - name: sft
    config: sft.yaml
    inputs: [init.from=pretrain]
  - name: gate
    eval: suite.yaml
    inputs: [checkpoint=sft]
  - name: reward_model
    config: reward_model.yaml
    after: [gate]
    inputs: [init.from=sft]
    overrides: ["data.examples.0.path={home}/task/rankings.jsonl"]
  - name: ppo
    config: ppo.yaml
    inputs: [init.from=sft, init.reward=reward_model]
  - name: answers
    command: [eval, "{home}/ppo", --cases, synth/heldout.jsonl, --limit, "4", --max-tokens, "8", --out, "{home}/answers/a.jsonl"]
slurm: {cpus_per_task: 1, time: 0:10:00, signal_seconds: 30, max_continuations: 3, options: ['--comment="it''s"']}
YAML
runs="task pretrain sft gate reward_model ppo answers"
trained="pretrain sft reward_model ppo"

submit() {  # submit HOME [ARGUMENT...]
  local home=$1
  shift
  "$TANREN" submit pipeline.yaml "home=$home" "$@"
}

# same_weights A B: tensors and state of all stages are equal. Which files a frozen model was read from is part of the
# state, and is another checkpoint in another home.
same_weights() {
  local stage
  for stage in $trained; do
    "$TANREN" ckpt diff "$1/$stage/step-00000012" "$2/$stage/step-00000012" >diff.log 2>&1 ||
      ! grep -v 'state source\.' diff.log | grep -q '^ *\(state\|.*differ\|.*only in\)' ||
      { cat diff.log >&2; fail "stage $stage of $1 and $2 differs"; }
    diff <(losses "$1/$stage") <(losses "$2/$stage") >losses.diff || { head -5 losses.diff >&2; fail "losses of $stage differ"; }
  done
}

state_of() {  # state_of RUN: as `tanren runs ls` has it
  "$TANREN" runs ls --json "$1" | sed -nE 's/^ *"state": "(.*)",$/\1/p'
}

# --- undisturbed ------------------------------------------------------------------------------------------------
expect_exit 0 calm.log submit calm --local
for stage in $runs; do
  expect_text calm.log "tanren stage $stage: finished"
  [ "$(state_of "calm/$stage")" = finished ] || fail "calm/$stage is $(state_of "calm/$stage")"
done
expect_exit 0 again.log submit calm --local
[ "$(grep -c 'finished already' again.log)" -eq 7 ] || { cat again.log; fail "not 7 stages were finished already"; }
[ "$(wc -l <calm.count)" -eq 1 ] || fail "a finished stage ran again"
"$TANREN" runs ls calm >ls.log
grep -qE '^calm/sft +sft +12/12 +finished +loss [0-9.]+ at step 12 ' ls.log || { cat ls.log; fail "runs ls lacks the SFT run"; }

# --- stopped by TERM in each training stage, killed once, gone on with ---------------------------------------------
wait_for_step() {  # wait_for_step RUN LINES
  for _ in $(seq 1 1200); do
    [ "$(losses "$1" 2>/dev/null | wc -l)" -ge "$2" ] && return
    sleep 0.02
  done
  fail "$1 does not get to step $2"
}
for stage in pretrain sft ppo; do
  "$TANREN" submit pipeline.yaml home=rough --local >rough.log 2>&1 &
  driver=$!
  wait_for_step "rough/$stage" 2
  if [ "$stage" = sft ]; then
    kill -9 "$driver"
    wait "$driver" 2>/dev/null || true
    # The script notices, saves, and lets go of the stage.
    for _ in $(seq 1 300); do
      [ "$(state_of rough/sft)" != running ] && break
      sleep 0.1
    done
    [ "$(state_of rough/sft)" = saved ] || [ "$(state_of rough/sft)" = finished ] || fail "killed: rough/sft is $(state_of rough/sft)"
    continue
  fi
  kill -TERM "$driver"
  code=0
  wait "$driver" || code=$?
  # A stage may have ended just before the signal: then the chain stops in the next.
  [ "$code" -eq 75 ] || { tail -n 30 rough.log >&2; fail "exit code $code after TERM in $stage, not 75"; }
done
expect_exit 0 rough.log submit rough --local
same_weights calm rough
[ "$(wc -l <rough.count)" -eq 1 ] || fail "the first stage ran $(wc -l <rough.count) times"

# Whoever reads a stage's output may be gone before it has anything to say: the record is written all the same.
cp -r calm/task unheard
sed -i 's#calm/task#unheard#g; s#calm.count#unheard.count#g' unheard/job.sh
rm unheard/stage.json
mkfifo unheard.pipe
exec 8<>unheard.pipe 9>unheard.pipe
exec 8<&-
(trap - PIPE; exec bash unheard/job.sh >&9 2>&1) || true
exec 9>&-
[ "$(state_of unheard)" = finished ] || fail "with nobody to hear it, the stage is $(state_of unheard)"

# --- gates and failures --------------------------------------------------------------------------------------------
mkdir gated
cp -r calm/task calm/pretrain calm/sft gated/
sed -i 's#calm/#gated/#g' gated/*/stage.yaml
expect_exit 3 gated.log submit gated --local 'stages.3.overrides=[gates.0.minimum=2]' --keep task --keep pretrain --keep sft
expect_text gated.log "gate failed: test sums, strategy greedy: accuracy"
expect_text gated.log "stopped in stage gate, exit code 3"
[ ! -e gated/reward_model/stage.json ] || fail "a stage behind a failed gate began"
"$TANREN" runs ls gated >ls.log
grep -qE '^gated/gate .* failed .*exit code 3: gate failed' ls.log || { cat ls.log; fail "runs ls does not tell of the gate"; }

# --- other settings are refused, and told apart ---------------------------------------------------------------------
expect_exit 2 changed.log submit calm --local 'stages.2.overrides=[train.steps=13]'
expect_text changed.log 'stage sft: calm/sft was finished with other settings (was "  steps: 12", now "  steps: 13"); --redo sft'
expect_text changed.log "stage ppo: calm/ppo was finished with other settings"
expect_exit 0 redo.log submit calm --local --redo answers
expect_text redo.log "answers: set aside as calm/answers.old-1"
[ "$(grep -c 'finished already' redo.log)" -eq 6 ] || fail "--redo of the last stage did more than that"
expect_exit 2 bad.log submit calm --redo nothing
expect_text bad.log "--redo: there is no stage nothing"

# --- bad input, before anything runs ------------------------------------------------------------------------------
expect_exit 2 bad.log submit fresh --local 'stages.5.overrides=[rl.epoch=1]' 'stages.1.config=none.yaml'
expect_text bad.log "stage ppo: override 'rl.epoch=1': rl.epoch: unknown key; did you mean rl.epochs?"
expect_text bad.log "stage pretrain: none.yaml"
expect_exit 2 bad.log submit fresh 'stages.2.after=[ppo]'
expect_text bad.log "stages.2.after.0: stages sft and ppo wait for each other"
[ ! -e fresh ] || fail "a refused pipeline left a directory"
expect_exit 2 bad.log "$TANREN" submit none.yaml
expect_exit 2 bad.log "$TANREN" runs ls none

# --- scripts --------------------------------------------------------------------------------------------------------
expect_exit 0 print.log submit print --print
[ ! -e print ] || fail "--print wrote something"
expect_text print.log "# ---- gate: sbatch --parsable '--dependency=afterok:<job of sft>' --kill-on-invalid-dep=yes print/gate/job.sh"
expect_text print.log "#SBATCH --signal=B:USR1@30"
if command -v shellcheck >/dev/null; then
  for how in "" --local; do
    expect_exit 0 print.log submit print --print $how
    awk -v n=0 '/^# ---- /{ n++; next } { print >("script-" n ".sh") }' print.log
    shellcheck script-*.sh >shellcheck.log || { cat shellcheck.log; fail "shellcheck of the scripts"; }
  done
fi

# --- a scheduler that takes notes ---------------------------------------------------------------------------------------
mkdir fake
cat >fake/sbatch <<'FAKE'
#!/bin/bash
echo "$*" >>"$NOTES/sbatch"
[ ! -e "$NOTES/refuse" ] || { echo "sbatch: error: Invalid account" >&2; exit 1; }
echo "$((100 + $(wc -l <"$NOTES/sbatch")));here"
FAKE
cat >fake/squeue <<'FAKE'
#!/bin/bash
job=$(sed 's/.*-j \([0-9]*\).*/\1/' <<<"$*")
cat "$NOTES/state-$job" 2>/dev/null || exit 1
FAKE
cat >fake/scontrol <<'FAKE'
#!/bin/bash
echo "$*" >>"$NOTES/scontrol"
(sleep 0.5; kill -KILL "$PPID") &
FAKE
cat >fake/srun <<'FAKE'
#!/bin/bash
echo "$*" >>"$NOTES/srun"
while [[ $1 == --* ]]; do
  if [[ $1 == --ntasks=* ]]; then ranks=${1#*=}; fi
  shift
done
program=$1
shift
# A node that fails: the step is ended before anything has happened, and srun ends with 0.
[ ! -e "$NOTES/node-fails" ] || exit 0
exec "$program" launch -n "$ranks" "$@"
FAKE
chmod +x fake/*
mkdir notes
export NOTES=$WORK/notes
job() {  # job STAGE NUMBER RESTARTS: runs the script of jobs/STAGE as the scheduler would
  SLURM_JOB_ID=$2 SLURM_RESTART_COUNT=$3 PATH=$WORK/fake:$PATH bash "jobs/$1/job.sh" >>"jobs/$1/job.log" 2>&1
}
submit_jobs() {
  PATH=$WORK/fake:$PATH submit jobs "$@"
}
expect_exit 0 jobs.log submit_jobs
[ "$(wc -l <notes/sbatch)" -eq 7 ] || fail "not 7 jobs"
grep -qxF -- "--parsable --dependency=afterok:103:104 --kill-on-invalid-dep=yes jobs/reward_model/job.sh" notes/sbatch ||
  { cat notes/sbatch; fail "the reward model does not wait for SFT and the gate"; }
for number in $(seq 101 107); do echo PENDING >"notes/state-$number"; done
expect_exit 0 jobs.log submit_jobs
[ "$(wc -l <notes/sbatch)" -eq 7 ] || fail "waiting jobs were submitted again"
PATH=$WORK/fake:$PATH "$TANREN" runs ls jobs >ls.log
grep -qE '^jobs/sft .* queued .*job 103 PENDING' ls.log || { cat ls.log; fail "runs ls does not know the queue"; }
expect_exit 2 bad.log submit_jobs 'stages.2.overrides=[train.steps=13]'
expect_text bad.log "stage sft: job 103 is PENDING with other settings; scancel 103 first"

for number in $(seq 101 107); do echo RUNNING >"notes/state-$number"; done
job task 101 0 || fail "the task"
# USR1 in the middle: saved, and requeued as the same job.
SLURM_JOB_ID=102 PATH=$WORK/fake:$PATH bash jobs/pretrain/job.sh >>jobs/pretrain/job.log 2>&1 &
script=$!
wait_for_step jobs/pretrain 2
kill -USR1 "$script"
wait "$script" 2>/dev/null || true # the requeued job's script is killed
if grep -q '"state":"saved"' jobs/pretrain/stage.json; then
  grep -qxF "requeue 102" notes/scontrol || fail "the stopped job was not requeued"
  expect_text jobs/pretrain/job.log "goes on as job 102, continuation 1 of at most 3"
else
  fail "pretrain was not stopped: $(cat jobs/pretrain/stage.json)"
fi
rm -f notes/scontrol
job pretrain 102 1 || fail "the continuation"
grep -qF -- "--ntasks=2 --mpi=pmix --kill-on-bad-exit=0 --wait=30 --cpus-per-task=1 $TANREN train pretrain.yaml" notes/srun || fail "srun"
# A node fails and srun ends with 0: that is no end of the stage.
touch notes/node-fails
code=0
job sft 103 0 || code=$?
rm notes/node-fails
[ "$code" -eq 1 ] || fail "exit code $code of a stage whose node failed, not 1"
grep -q '"state":"interrupted"' jobs/sft/stage.json || fail "a stage whose node failed is $(cat jobs/sft/stage.json)"
expect_text jobs/sft/job.log "its launcher ended with 0 before the work had"
# A run that asks to go on for ever is bounded, and a job that is being cancelled is left alone.
sed -i "s/ 'run_directory=/ train.stop_after=4&/" jobs/sft/job.sh
code=0
job sft 103 3 || code=$?
[ "$code" -eq 75 ] || fail "exit code $code of the last continuation, not 75"
expect_text jobs/sft/job.log "it went on 3 times already: raise slurm.max_continuations (3), or submit again"
echo COMPLETING >notes/state-103
job sft 103 0 || true
expect_text jobs/sft/job.log "job 103 is COMPLETING, and left to the scheduler"
[ ! -e notes/scontrol ] || fail "a bounded or cancelled job was requeued"
rm notes/state-*
# Submitted again: what is finished is left out, and the script is written anew.
expect_exit 0 jobs.log submit_jobs
expect_text jobs.log "pretrain: finished already"
grep -qxF -- "--parsable jobs/sft/job.sh" notes/sbatch || fail "sft waits for a finished stage"
for stage in sft gate reward_model ppo answers; do job "$stage" 110 0 || { tail jobs/$stage/job.log; fail "stage $stage"; }; done
same_weights calm jobs
touch notes/refuse
expect_exit 1 refused.log env PATH="$WORK/fake:$PATH" "$TANREN" submit pipeline.yaml home=refused
expect_text refused.log "stage task: sbatch refused/task/job.sh failed with exit code 1: sbatch: error: Invalid account"
no_orphans

# --- SLURM, where there is one ----------------------------------------------------------------------------------------------
if command -v sbatch >/dev/null && timeout 10 sinfo -h >/dev/null 2>&1; then
  expect_exit 0 slurm.log submit slurm
  for _ in $(seq 1 300); do
    [ "$(state_of slurm/answers)" = finished ] && break
    sleep 1
  done
  "$TANREN" runs ls slurm
  [ "$(state_of slurm/answers)" = finished ] || { tail -n 5 slurm/*/job.log >&2; fail "the chain did not finish under SLURM"; }
  same_weights calm slurm
  echo "pipelines: local, with a scheduler that takes notes, and with SLURM, as expected"
else
  echo "pipelines: local and with a scheduler that takes notes as expected; no SLURM answers here, skipped"
fi
