#!/usr/bin/env bash
# What post-training costs beside pre-training, at the same model, capacity and machine, and generation beside
# transformers' generate with the same weights. Makes its own small tasks under build/soak/costs.
#
#   tests/soak/costs.sh                    everything
#   tests/soak/costs.sh small [1 2]        the stages at the shape of configs/quickstart, on 1 and on 2 ranks
#   tests/soak/costs.sh wide [1 2]         the stages where matrix products dominate: 6 layers, width 512
#   tests/soak/costs.sh generate [1 2]     greedy generation at both shapes, batch 1 and 64, with 1 and with 2 threads
#
# The runs of a repetition follow each other at once, since other work may run on the machine: what counts is the median
# of the ratios inside repetitions, and of generation, whose steps are short, the best. REPEATS: default 5. STEPS of a
# run: default 30 (small) and 5 (wide). TANREN: another binary. PEER_PYTHON: a python with torch and transformers; without
# it generation stands alone.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

tanren=${TANREN:-$PWD/build/cpu/launch/tanren}
scratch=build/soak/costs
repeats=${REPEATS:-5}
# The first steps of a run make plans and touch memory; they are not counted.
warm_up=2
wide=(model.layers=6 model.width=512 model.heads=8 model.kv_heads=8 model.mlp_width=1408 model.context_length=512)

quiet() { "$@" >>"$scratch/log" 2>&1 || { tail -n 20 "$scratch/log" >&2; return 1; }; }

# join FILE COUNT KEY...: each COUNT records become one, their texts one behind the other. JSON escapes stay as they are.
join() {
  local file=$1 count=$2
  shift 2
  awk -v count="$count" -v keys="$*" '
    function text(line, key,    rest) {
      if (!match(line, "\"" key "\":\"([^\"\\\\]|\\\\.)*\"")) exit 1
      rest = substr(line, RSTART, RLENGTH - 1)
      return substr(rest, length(key) + 5)
    }
    BEGIN { parts = split(keys, key, " ") }
    {
      for (k = 1; k <= parts; ++k) all[k] = all[k] (all[k] == "" ? "" : "\\n") text($0, key[k])
      if (NR % count) next
      out = ""
      for (k = 1; k <= parts; ++k) { out = out (k > 1 ? "," : "") "\"" key[k] "\":\"" all[k] "\""; all[k] = "" }
      print "{" out "}"
    }' "$file"
}

# The answer of the next record is the one to reject: another text of the same kind and length.
make_pairs() {
  awk '
    function of(line, key) {
      match(line, "\"" key "\":\"([^\"\\\\]|\\\\.)*\"")
      return substr(line, RSTART + length(key) + 3, RLENGTH - length(key) - 3)
    }
    NR > 1 { print "{\"prompt\":" prompt ",\"chosen\":" chosen ",\"rejected\":" of($0, "completion") "}" }
    { prompt = of($0, "prompt"); chosen = of($0, "completion") }' "$1"
}

# make SHAPE: data, tokenizer, and the models that the measured stages start from.
make() {
  local shape=$1 home=$scratch/$1 count=1 kind=(--kind characters) steps=300
  shift
  if [ -e "$home/made" ]; then return; fi
  rm -rf "$home"
  mkdir -p "$home"
  if [ "$shape" = wide ]; then
    count=8 kind=(--kind bpe --vocab-size 4096) steps=4
  fi
  quiet "$tanren" data synth --out "$home/synth" --pretrain 24000 --sft 20000 --prompts 2000 --held-out 128
  join "$home/synth/pretrain.jsonl" "$count" text >"$home/pretrain.jsonl"
  join "$home/synth/sft.jsonl" "$count" completion prompt >"$home/sft.jsonl"
  make_pairs "$home/sft.jsonl" >"$home/pairs.jsonl"
  quiet "$tanren" tokenizer train "${kind[@]}" --out "$home/tokenizer" "$home/pretrain.jsonl"
  quiet "$tanren" data tokenize --tokenizer "$home/tokenizer" --out "$home/tokens" "$home/pretrain.jsonl"
  # The small policy has learnt to end its answers, so that a rollout has lengths as in training; the wide one has not.
  run "$shape" pretrain 2 "$steps" "$home/base" "$@"
  run "$shape" sft 2 "$steps" "$home/policy" init.from="$home/base" "$@"
  run "$shape" reward_model 2 4 "$home/reward" init.from="$home/policy" "$@"
  : >"$home/made"
}

# run SHAPE STAGE RANKS STEPS DIRECTORY OVERRIDE...: one run of a stage of configs/quickstart with the shape's data.
run() {
  local shape=$1 stage=$2 ranks=$3 steps=$4 directory=$5 home=$scratch/$1
  shift 5
  local overrides=(run_directory="$directory" tokenizer.path="$home/tokenizer" train.steps="$steps" train.log_interval=1
    schedule.warmup_steps=0 validation.interval_steps=0 samples.interval_steps=0 checkpoint.interval_steps=100000)
  case $stage in
    pretrain) overrides+=(data.train.0.path="$home/tokens" data.validation=[]) ;;
    sft) overrides+=(data.examples.0.path="$home/sft.jsonl" sft.replay_share=0 data.train=[] data.validation=[]) ;;
    reward_model) overrides+=(data.examples.0.path="$home/pairs.jsonl" data.validation_examples=[]) ;;
    dpo) overrides+=(data.examples.0.path="$home/pairs.jsonl" data.validation_examples=[] data.validation=[]) ;;
    ppo) overrides+=(data.examples.0.path="$home/synth/prompts.jsonl" data.validation_examples=[] data.validation=[]
      rl.critic_warmup_steps=0 guards.max_reward_gap=0) ;;
  esac
  if [ "$shape" = wide ]; then overrides+=(data.sequence_length=512); fi
  case $stage in sft | dpo | ppo) overrides+=(guards.max_forgetting=0) ;; esac
  rm -rf "$directory"
  quiet "$tanren" launch -n "$ranks" train "configs/quickstart/$stage.yaml" "${overrides[@]}" \
    tokenizer.kind="$([ "$shape" = wide ] && echo bpe || echo characters)" "$@"
}

# user_seconds COMMAND...: its user seconds and those of its children.
user_seconds() {
  local TIMEFORMAT=%U
  { time "$@" 2>&3; } 3>&2 2>&1
}

# For awk: the number under a key of a line of metrics.jsonl; 0 where there is none.
# shellcheck disable=SC2016
number_of='function of(key) {
  if (!match($0, "\"" key "\":[^,}]*")) return 0
  return substr($0, RSTART + length(key) + 3, RLENGTH - length(key) - 3)
}'

# rate DIRECTORY: tokens a second, trained tokens a second (0 where the stage does not say) and tokens a step.
rate() {
  awk -v skip="$warm_up" "$number_of"'
    /"step_seconds"/ {
      total = of("tokens")
      if (++n > skip) { tokens += total - last; trained += of("trained_tokens"); seconds += of("step_seconds") }
      last = total
    }
    END { printf "%.1f %.1f %.1f", tokens / seconds, trained / seconds, tokens / (n - skip) }' "$1/metrics.jsonl"
}

# shares DIRECTORY: of the seconds of the last two rollouts and their training: sampling, rewards, scoring, training.
shares() {
  awk "$number_of"'
    /"step_seconds"/ {
      if (/sampling_seconds/ && ++rollouts > 1) { ++counted; lengths += of("length") }
      if (rollouts < 2) next
      all += of("step_seconds")
      if (/sampling_seconds/) { s += of("sampling_seconds"); r += of("reward_seconds"); c += of("scoring_seconds") }
    }
    END {
      printf "%.4f %.4f %.4f %.4f", s / all, r / all, c / all, 1 - (s + r + c) / all
      printf " %.3f %.1f", all / counted, lengths / counted
    }' "$1/metrics.jsonl"
}

median() {
  sort -g | awk '{ v[NR] = $1 } END { m = int((NR + 1) / 2); printf "%.4g", NR % 2 ? v[m] : (v[m] + v[m + 1]) / 2 }'
}

best() { sort -g | head -n 1; }

# column FILE STAGE N: a column of the rows of one stage.
column() { awk -v stage="$2" -v n="$3" '$1 == stage { print $n }' "$1"; }

# stages SHAPE RANKS
stages() {
  local shape=$1 ranks=$2 home=$scratch/$1 steps repeat stage start extra=() more table
  table=$home/stages-$ranks.txt
  steps=${STEPS:-$([ "$shape" = wide ] && echo 5 || echo 30)}
  if [ "$shape" = wide ]; then
    extra=("${wide[@]}")
  fi
  make "$shape" "${extra[@]}"
  : >"$table"
  for ((repeat = 1; repeat <= repeats; ++repeat)); do
    for stage in pretrain sft dpo; do
      more=(init.from="$home/base")
      # A run of one step costs what starting and saving cost: the difference is the steps' own processor time.
      start=$(user_seconds run "$shape" "$stage" "$ranks" 1 "$home/run" "${more[@]}" "${extra[@]}")
      all=$(user_seconds run "$shape" "$stage" "$ranks" $((steps + warm_up)) "$home/run" "${more[@]}" "${extra[@]}")
      echo "$stage $(rate "$home/run") $(awk -v a="$all" -v b="$start" -v n=$((steps + warm_up - 1)) \
        'BEGIN { printf "%.4f", (a - b) / n }') $(cut -d' ' -f1 /proc/loadavg)" | tee -a "$table"
    done
  done
  echo "$shape, $ranks rank(s): tokens/s, trained tokens/s, tokens a step, tokens per user second (medians of $repeats)"
  for stage in pretrain sft dpo; do
    printf '%-9s %9s %9s %9s %9s\n' "$stage" "$(column "$table" "$stage" 2 | median)" \
      "$(column "$table" "$stage" 3 | median)" "$(column "$table" "$stage" 4 | median)" \
      "$(awk -v s="$stage" '$1 == s { print $4 / $5 }' "$table" | median)"
  done
  for stage in sft dpo; do
    printf '%s beside pretrain: %s x tokens/s, %s x tokens per user second\n' "$stage" \
      "$(paste <(column "$table" "$stage" 2) <(column "$table" pretrain 2) | awk '{ print $1 / $2 }' | median)" \
      "$(paste <(awk -v s="$stage" '$1 == s { print $4 / $5 }' "$table") \
        <(awk '$1 == "pretrain" { print $4 / $5 }' "$table") | awk '{ print $1 / $2 }' | median)"
  done
}

# ppo SHAPE RANKS: where a rollout and the training on it spend their seconds.
ppo() {
  local shape=$1 ranks=$2 home=$scratch/$1 extra=() repeat table
  table=$home/ppo-$ranks.txt
  if [ "$shape" = wide ]; then
    extra=("${wide[@]}" rollout.prompts=32 rollout.decode_slots=32)
  fi
  : >"$table"
  for ((repeat = 1; repeat <= repeats; ++repeat)); do
    run "$shape" ppo "$ranks" 12 "$home/run" init.from="$home/policy" init.reward="$home/reward" "${extra[@]}"
    echo "ppo $(shares "$home/run")" | tee -a "$table"
  done
  printf '%s, %s rank(s), PPO: sampling %s, rewards %s, scoring %s, training %s of %s s a rollout; answers of %s tokens\n' \
    "$shape" "$ranks" "$(column "$table" ppo 2 | median)" "$(column "$table" ppo 3 | median)" \
    "$(column "$table" ppo 4 | median)" "$(column "$table" ppo 5 | median)" "$(column "$table" ppo 6 | median)" \
    "$(column "$table" ppo 7 | median)"
}

# same_answers SHAPE MODEL THREADS: greedy answers of the checkpoint and of its export, token for token.
same_answers() {
  local shape=$1 model=$2 threads=$3 home=$scratch/$1 text ids
  : >"$home/answers.jsonl"
  for text in "47 + 38 = ?" "Work out 385*2." "Ben has 86 pens and gives away 49. How many pens are left?"; do
    ids=$("$tanren" tokenizer encode "$home/tokenizer" --text "$text" | tr -s ' \n' ',' | sed 's/^,//; s/,$//')
    OMP_NUM_THREADS=$threads "$tanren" generate "$model" --raw --json --temperature 0 --max-tokens 48 -p "$text" |
      sed -E 's/.*"tokens":(\[[^]]*\]).*/{"prompt":['"$ids"'],"tokens":\1}/' >>"$home/answers.jsonl"
  done
  "$PEER_PYTHON" docs/benchmarks/peers/pytorch_generate.py "$home/exported" "$threads" check "$home/answers.jsonl" \
    2>>"$scratch/log"
}

# decode THREADS BATCH PROMPT ANSWER OVERRIDE...: leaves its last line in decode.txt.
decode() {
  OMP_NUM_THREADS=$1 "$tanren" bench decode configs/models/reasoner.yaml "${@:5}" --precision fp32 --batch "$2" \
    --prompt "$3" --steps "$4" | tail -n 1 >"$scratch/decode.txt"
}

# generation SHAPE THREADS: greedy decoding of all slots, beside PyTorch where there is one.
generation() {
  local shape=$1 threads=$2 home=$scratch/$1 extra=() peer=${PEER_PYTHON:-} prompt=32 answer=96
  local model vocabulary batch repeat table line start all who
  if [ "$shape" = wide ]; then
    extra=("${wide[@]}") prompt=64 answer=64
  fi
  make "$shape" "${extra[@]}"
  model=$(find "$home/policy" -maxdepth 1 -name 'step-*' | sort | tail -n 1)
  if [ ! -e "$home/exported/config.json" ]; then quiet "$tanren" ckpt export-hf "$model" --out "$home/exported"; fi
  vocabulary=$(sed -nE 's/.*"vocab_size": ([0-9]+).*/\1/p' "$home/exported/config.json")
  if [ -n "$peer" ]; then same_answers "$shape" "$model" "$threads"; fi
  for batch in 1 64; do
    table=$home/generation-$threads-$batch.txt
    : >"$table"
    for ((repeat = 1; repeat <= repeats; ++repeat)); do
      start=$(user_seconds decode "$threads" "$batch" "$prompt" 2 "model.vocab_size=$vocabulary" "${extra[@]}")
      all=$(user_seconds decode "$threads" "$batch" "$prompt" "$answer" "model.vocab_size=$vocabulary" "${extra[@]}")
      echo "tanren $(sed -E 's/.*after ([0-9.]+) ms; ([0-9.]+) ms.*/\1 \2/' "$scratch/decode.txt") $(awk -v a="$all" \
        -v b="$start" -v n=$((answer - 2)) 'BEGIN { printf "%.3f", 1000 * (a - b) / n }')" | tee -a "$table"
      if [ -z "$peer" ]; then continue; fi
      line=$("$peer" docs/benchmarks/peers/pytorch_generate.py "$home/exported" "$threads" time "$batch" \
        "$prompt" "$answer" 2>>"$scratch/log")
      echo "pytorch $(sed -E 's/.*after ([0-9.]+) ms; ([0-9.]+) ms a step, ([0-9.]+) .*/\1 \2 \3/' <<<"$line")" |
        tee -a "$table"
    done
    printf '%s, %s thread(s), batch %s, prompt %s, %s new tokens, best of %s: first token after' "$shape" "$threads" "$batch" \
      "$prompt" "$answer" "$repeats"
    for who in tanren pytorch; do
      if [ "$who" = pytorch ] && [ -z "$peer" ]; then continue; fi
      printf '; %s %s ms, step %s ms, processor time a step %s ms' "$who" "$(column "$table" "$who" 2 | best)" \
        "$(column "$table" "$who" 3 | best)" "$(column "$table" "$who" 4 | best)"
    done
    printf '\n'
  done
}

if [ ! -x "$tanren" ]; then
  echo "costs.sh: $tanren is missing; build it: cmake --preset cpu && cmake --build --preset cpu --target tanren" >&2
  exit 2
fi
mkdir -p "$scratch"
parts=${1:-all}
case $parts in
  all | small | wide | generate) ;;
  *) echo "costs.sh: unknown part '$parts'; known are small, wide, generate" >&2; exit 2 ;;
esac
shift || true
ranks=("$@")
[ ${#ranks[@]} -gt 0 ] || ranks=(1 2)
for part in small wide; do
  if [ "$parts" = all ] || [ "$parts" = generate ]; then
    for count in "${ranks[@]}"; do generation "$part" "$count"; done
  fi
  if [ "$parts" != all ] && [ "$parts" != "$part" ]; then continue; fi
  for count in "${ranks[@]}"; do
    stages "$part" "$count"
    ppo "$part" "$count"
  done
done
