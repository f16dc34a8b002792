#!/usr/bin/env bash
# Runs and pipelines on paper: what is printed holds for what is written, and what cannot be known is said.
HERE=$(cd "$(dirname "$0")" && pwd)
source "$HERE/common.sh"
make_data
write_config

# --- a run: the checkpoint that is priced is the one that is written ----------------------------------------------
expect_exit 0 run.log "$TANREN" estimate config.yaml run_directory=run --world-size 2 --tflops 0.1 --json run.json
for text in "data 2 x tensor 1, 2 ranks" "traffic     axis data, 2 ranks in a node" "checkpoint" "failures"; do
  expect_text run.log "$text"
done
expect_exit 0 train.log "$TANREN" launch -n 2 train config.yaml run_directory=run train.steps=2 schedule.warmup_steps=0
priced=$(sed -nE 's/^ *"checkpoint_bytes": ([0-9.]+),?$/\1/p' run.json)
written=$(cat run/step-*/*.safetensors | wc -c)
echo "checkpoint: priced $priced bytes, written $written with headers"
awk -v p="$priced" -v w="$written" 'BEGIN { exit !(p <= w && w < p * 1.1) }' || fail "the checkpoint has another size"
parameters=$(sed -nE 's/^ *"parameters": ([0-9.]+),?$/\1/p' run.json)
awk -v p="$priced" -v n="$parameters" 'BEGIN { exit !(p == 12 * n) }' || fail "not 12 bytes a weight"

expect_exit 0 narrow.log "$TANREN" launch -n 2 train config.yaml run_directory=narrow train.steps=2 schedule.warmup_steps=0 \
  optimizer.moments=bf16
expect_exit 0 narrow.log "$TANREN" estimate config.yaml optimizer.moments=bf16 --world-size 2 --tflops 0.1 --json narrow.json
priced=$(sed -nE 's/^ *"checkpoint_bytes": ([0-9.]+),?$/\1/p' narrow.json)
written=$(cat narrow/step-*/*.safetensors | wc -c)
echo "with moments in bf16: priced $priced bytes, written $written with headers"
awk -v p="$priced" -v w="$written" 'BEGIN { exit !(p <= w && w < p * 1.1) }' || fail "the checkpoint has another size"
awk -v p="$priced" -v n="$parameters" 'BEGIN { exit !(p == 8 * n) }' || fail "not 8 bytes a weight with moments in bf16"

# --- a dry run of another size is the same paper ------------------------------------------------------------------
expect_exit 0 large.log "$TANREN" estimate config.yaml run_directory=run parallel.tensor=2 --world-size 64
expect_exit 0 dry.log "$TANREN" train config.yaml run_directory=run parallel.tensor=2 --dry-run --world-size 64
cmp large.log dry.log || fail "estimate and the dry run differ"
expect_text large.log "axis data, 32 ranks over nodes"
expect_text large.log "axis tensor, 2 ranks in a node"
expect_text large.log "(an H200; state yours, see --help)"
expect_exit 2 alone.log "$TANREN" train config.yaml run_directory=run --world-size 64
expect_text alone.log "--world-size: is for --dry-run only"
expect_exit 2 odd.log "$TANREN" estimate config.yaml parallel.tensor=2 --world-size 7
expect_text odd.log "choose a multiple of 2"
expect_exit 2 full.log "$TANREN" estimate config.yaml parallel.memory_limit_bytes=1000000
expect_text full.log "are allowed"

# --- a pipeline that has not run: its tokenizer and checkpoints are assumed, and that is said ----------------------
cp -r "$SOURCE/configs" .
pipeline=configs/pipelines/curriculum.yaml
printf 'stages: [{nme: x}]\n' >typo.yaml
expect_exit 2 typo.log "$TANREN" estimate typo.yaml
expect_text typo.log "stages.0.nme"
expect_exit 2 unknown.log "$TANREN" estimate "$pipeline"
expect_text unknown.log "is not there yet; state its size with --vocabulary"
expect_exit 0 pipeline.log "$TANREN" estimate "$pipeline" --vocabulary 98 --answer-tokens 50 --prompt-tokens 40 --json pipeline.json
for stage in pretrain sft reward_model ppo dpo grpo; do
  grep -Eq "^$stage +2 +[0-9]+ +[0-9.e+-]+ m?s " pipeline.log || fail "no price of stage $stage"
done
expect_text pipeline.log "assumed of ppo: a vocabulary of 98; the models of other stages are as large as this one's; answers of 50 tokens to prompts of 40"
expect_text pipeline.log "(eval: not priced)"
[ "$(grep -c '"stage":' pipeline.json)" -eq 6 ] || fail "pipeline.json has not six stages"
