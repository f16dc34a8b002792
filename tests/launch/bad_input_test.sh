#!/usr/bin/env bash
# Every class of bad input: a clear error with the place and the way out, exit code 2, nothing overwritten.
source "$(dirname "$0")/common.sh"
make_data
write_config
train() { "$TANREN" train config.yaml "run_directory=$WORK/run" "$@"; }

# refused TEXT COMMAND...: exit code 2 and the text.
refused() {
  local text=$1
  shift
  expect_exit 2 refused.log "$@"
  expect_text refused.log "$text"
  echo "ok: $(grep -F -- "$text" refused.log | head -n 1 | cut -c1-160)"
}

# Config.
refused "unknown key; did you mean optimizer.learning_rate?" train optimizer.leraning_rate=1
refused "there is no stage \"pretrian\"" train stage=pretrian
refused "3 does not divide model.heads 4" train parallel.tensor=3 batch.micro_batch_tokens=768 --dry-run
# Corpus and tokenizer.
refused "data.train.0.path" train 'data.train=[{path: nowhere}]'
mkdir damaged && cp -r train/. damaged/ && shard=damaged/shard-00000.tokens
truncate -s -10 "$shard"
refused "$(basename "$shard")" train 'data.train=[{path: damaged}]'
"$TANREN" tokenizer train --kind whitespace --out words synth/train.jsonl >/dev/null 2>&1
refused "was made by another tokenizer" train tokenizer.kind=whitespace tokenizer.path=words
refused "tokenizer.path" train tokenizer.path=nowhere
echo '{' >broken.json
refused "broken.json" "$TANREN" tokenizer info broken.json
refused "missing.txt" "$TANREN" data tokenize --tokenizer tokenizer --out other missing.txt
# Layout and memory.
refused "2" "$TANREN" launch -n 3 train config.yaml "run_directory=$WORK/run" parallel.data=2
expect_text refused.log "3"
refused "lower batch.micro_batch_tokens" train parallel.memory_limit_bytes=100000
refused "lower batch.micro_batch_tokens" "$TANREN" estimate config.yaml parallel.memory_limit_bytes=100000
[ ! -e run/metrics.jsonl ] || fail "a refused run wrote metrics"

# Checkpoints.
expect_exit 75 good.log train train.stop_after=10
refused "train.steps" train train.steps=0
refused "step-00000007" train --resume "$WORK/run/step-00000007"
refused "has checkpoints" train --resume none
refused "other data or another order" train seed=2
refused "layers.1" train model.layers=1
before=$(find run/step-00000010 -type f -exec sha256sum {} + | sort | sha256sum)
expect_exit 75 good.log train train.stop_after=20
printf 'x' | dd of="$(ls run/step-00000020/model-*.safetensors | head -n 1)" bs=1 seek=2000 conv=notrunc status=none
expect_exit 75 fallback.log train train.stop_after=15
expect_text fallback.log "resumed $WORK/run/step-00000010"
expect_text fallback.log "step-00000020"
[ "$before" = "$(find run/step-00000010 -type f -exec sha256sum {} + | sort | sha256sum)" ] || fail "an old checkpoint was changed"
refused "model-00000.safetensors" "$TANREN" ckpt verify run/step-00000020
refused "does not fit" "$TANREN" generate run/step-00000010 --prompt "$(head -c 300 /dev/zero | tr '\0' '1')"
refused "--temperature" "$TANREN" generate run/step-00000010 --prompt 1 --temperature -1
refused "--repetition-penalty: 0.5 is outside [1, 100]" "$TANREN" generate run/step-00000010 --prompt 1 --repetition-penalty 0.5
refused "--no-repeat-ngram: -1 is outside" "$TANREN" generate run/step-00000010 --prompt 1 --no-repeat-ngram -1
refused "rollout.repetition_penalty" train rollout.repetition_penalty=0.5

# Devices and benchmarks.
refused "use cpu or cuda" "$TANREN" bench kernels --device gpu
refused "use bf16 or fp32" "$TANREN" bench attention --precision fp8
refused "each is at least 1" "$TANREN" bench decode "$SOURCE/configs/models/gpt2_124m.yaml" --parts --batch 0
refused "a world of one moves nothing" "$TANREN" bench collectives
refused "do not fit" "$TANREN" bench attention --precision fp32 --head-dims 64 --lengths 64 --tokens 32 --width 64
# And what they are for.
expect_exit 0 collectives.log "$TANREN" launch -n 2 bench collectives --precision fp32 --sizes 4096
for name in all-reduce reduce-scatter all-gather broadcast; do
  grep -qE "^data +2 ranks +$name +4096 bytes .* bus +[0-9.]+ GB/s$" collectives.log || fail "no figure of $name"
done
echo '{layers: 1, width: 32, heads: 2, kv_heads: 1, head_dim: 16, mlp_width: 64, context_length: 64, vocab_size: 100}' >tiny.yaml
expect_exit 0 parts.log "$TANREN" bench decode tiny.yaml --parts --precision fp32 --prompt 8 --steps 8
[ "$(grep -c '^part ' parts.log)" -eq 14 ] || fail "not all parts of a decoding step"
"$TANREN" doctor --directory "$WORK" >doctor.log 2>&1 || true
if grep -q '^gpu  *none' doctor.log; then
  # No fall-back to the CPU: the reason is said.
  refused "parallel.device: cuda" train run_directory="$WORK/no-gpu" parallel.device=cuda
  refused "--device cuda" "$TANREN" bench kernels --device cuda
fi

# Two jobs on one run directory: the second is refused at once, and the first is not disturbed.
"$TANREN" train config.yaml "run_directory=$WORK/shared" >first.log 2>&1 &
first=$!
for _ in $(seq 1 200); do
  [ -s shared/metrics.jsonl ] && break
  sleep 0.05
done
begin=$(date +%s)
refused "is in use by" "$TANREN" train config.yaml "run_directory=$WORK/shared"
[ $(($(date +%s) - begin)) -le 5 ] || fail "the second job was refused too late"
wait "$first" || fail "the first job was disturbed"
echo "all refused"
