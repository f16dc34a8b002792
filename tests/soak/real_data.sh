#!/usr/bin/env bash
# Every post-training stage on data that people made: GSM8K, Anthropic's harmlessness preferences, JCommonsenseQA, with
# small base models of English and Japanese texts. Reports what is reached; docs/benchmarks/real_data.md has a run's
# figures. Fails where a stage fails, not where a small model is weak. What is done is not done twice: run it again
# after an interruption. Estimated at 25 minutes on two quiet cores.
#
#   tests/soak/real_data.sh                all parts
#   tests/soak/real_data.sh show           `tanren data show` on each file: damaged records, masks, broken text
#   tests/soak/real_data.sh gsm8k          SFT on worked problems, from a base model and from random weights
#   tests/soak/real_data.sh preferences    reward models of two halves; SFT, DPO and PPO, judged by the other half
#   tests/soak/real_data.sh japanese       SFT on five-choice questions
#
# TANREN_DATA: directory of the data (default ../shared/data). RANKS: processes of each run (default 2); the results do not
# depend on it, and with 1 parts can run side by side, once the base model of English is there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source=tests/lib.sh
. tests/lib.sh

tanren=$PWD/build/cpu/launch/tanren
data=${TANREN_DATA:-../shared/data}
home=build/soak/real_data
ranks=${RANKS:-2}
configs=configs/real
gsm8k_file=$data/math/gsm8k_train.jsonl
pairs_file=$data/preference/hh_harmless_train.jsonl.zst
choices_file=$data/instruct/jcommonsenseqa_train.jsonl
t0_file=$data/instruct/t0_sample.jsonl.zst
example_files=("$gsm8k_file" "$t0_file" "$data/instruct/seed_tasks.jsonl" "$choices_file" "$pairs_file")

say() { printf 'real_data: %s\n' "$*"; }

# once NAME COMMAND...: what is done is not done twice; says how long it took.
once() {
  local name=$1 begin=$SECONDS
  shift
  if [ -e "$home/done/$name" ]; then return 0; fi
  say "$name"
  "$@"
  mkdir -p "$home/done"
  echo $((SECONDS - begin)) >"$home/done/$name"
  say "$name took $((SECONDS - begin)) s"
}

# run VERB ARGUMENT...: tanren on RANKS processes.
run() {
  if [ "$ranks" -eq 1 ]; then
    OMP_NUM_THREADS=1 "$tanren" "$@"
  else
    "$tanren" launch -n "$ranks" "$@"
  fi
}

# train NAME CONFIG OVERRIDE...: a run into $home/NAME.
train() {
  local name=$1 config=$2
  shift 2
  once "$name" run train "$configs/$config.yaml" run_directory="$home/$name" "$@"
}

# folds FILE KEY COUNT PREFIX: cuts JSON lines into PREFIX0.jsonl, PREFIX1.jsonl, .. in turn; records of the same key (a
# jq expression) stay together, so that nothing held out has been seen.
folds() {
  paste <(jq -c "$2" "$1") "$1" | awk -F '\t' -v count="$3" -v prefix="$4" '
    !($1 in fold) { fold[$1] = groups++ % count }
    { print substr($0, length($1) + 2) >(prefix fold[$1] ".jsonl") }'
}

# held_out_and_rest NAME FILE KEY: a fifteenth is held out.
held_out_and_rest() {
  local name=$1 fold
  rm -rf "${home:?}/${name:?}"
  mkdir -p "$home/$name"
  folds "$2" "$3" 15 "$home/$name/fold"
  mv "$home/$name/fold0.jsonl" "$home/$name/heldout.jsonl"
  for fold in "$home/$name"/fold*.jsonl; do
    cat "$fold" >>"$home/$name/train.jsonl"
    rm "$fold"
  done
  say "$name: $(wc -l <"$home/$name/train.jsonl") examples to learn, $(wc -l <"$home/$name/heldout.jsonl") held out"
}

# --- base models ------------------------------------------------------------------------------------------------
# T0's completions end with another tokenizer's end of text; in a corpus it would be learnt letter by letter.
english_text() {
  zstd -dcq "$t0_file" | sed 's/<|endoftext|>"}$/"}/' >"$home/t0.jsonl"
  "$tanren" tokenizer train --force --vocab-size 4096 --text-key prompt --text-key completion --out "$home/tokenizer_en" \
    "$data/text/classics_en.txt.zst" "$home/t0.jsonl"
  "$tanren" data tokenize --force --tokenizer "$home/tokenizer_en" --document-delimiter ------- --split train=0.97 \
    --split validation=0.03 --out "$home/tokens_en" "$data/text/classics_en.txt.zst"
  "$tanren" data tokenize --force --tokenizer "$home/tokenizer_en" --text-key prompt --text-key completion \
    --out "$home/tokens_t0" "$home/t0.jsonl"
}

# Without ruby (the reading of a word) and the annotators' remarks, which are no part of the text.
japanese_text() {
  zstd -dcq "$data/text/aozora_ja.txt.zst" | sed -E 's/［＃[^］]*］//g; s/《[^》]*》//g; s/｜//g' >"$home/aozora.txt"
  jq -r '[.question, .choice0, .choice1, .choice2, .choice3, .choice4] | join("\n")' "$home/choices/train.jsonl" \
    >"$home/choices.txt"
  "$tanren" tokenizer train --force --vocab-size 4096 --out "$home/tokenizer_ja" "$home/aozora.txt" "$home/choices.txt"
  "$tanren" data tokenize --force --tokenizer "$home/tokenizer_ja" --split train=0.99 --split validation=0.01 \
    --out "$home/tokens_ja" "$home/aozora.txt"
}

base_en() {
  once english_text english_text
  train base_en pretrain
}

base_ja() {
  once japanese_text japanese_text
  train base_ja pretrain tokenizer.path="$home/tokenizer_ja" data.train.0.path="$home/tokens_ja/train" \
    data.train.1.path="$home/tokens_ja/train" data.validation.0.path="$home/tokens_ja/validation"
}

# --- parts ------------------------------------------------------------------------------------------------------
show() {
  local file text=$home/show.txt
  for file in "${example_files[@]}"; do
    "$tanren" data show "$file" --tokenizer "$data/tokenizer/gpt2" --documents 100000 --color never >"$text"
    head -n 1 "$text"
    awk -v file="$(basename "$file")" '
      / tokens, [0-9]+ trained$/ { ++answers; tokens += $(NF - 3); trained += $(NF - 1); none += $(NF - 1) == 0 }
      /\357\277\275/ { ++broken }
      END { printf "real_data: show %s: %d answers, %d tokens, %d of them trained, %d answers without, %d lines with U+FFFD\n",
            file, answers, tokens, trained, none, broken }' "$text"
  done
}

gsm8k() {
  local model
  once gsm8k_split held_out_and_rest gsm8k "$gsm8k_file" .question
  base_en
  train sft_gsm8k sft_gsm8k
  train sft_gsm8k_random sft_gsm8k "init.from=''"
  for model in base_en sft_gsm8k sft_gsm8k_random; do
    once "eval_$model" run eval "$configs/eval_gsm8k.yaml" checkpoint="$home/$model" out="$home/eval_$model"
    answer_rows "$model" worked_answers
  done
}

# answer_rows MODEL TEST: how likely the right answers are, and how many the model writes itself.
answer_rows() {
  jq -r --arg model "$1" --arg test "$2" '
    def rounded: . * 10000 | round | . / 10000;
    .tests[$test].figures.loss as $loss | .tests.heldout.strategies | to_entries[] | .value.figures as $f
    | "real_data: \($model) \(.key): loss of held-out answers \($loss | rounded), right \($f.accuracy | rounded) +- "
      + "\(1.96 * $f.accuracy_standard_error | rounded) of \($f.cases), no answer \($f.no_answer | rounded), "
      + "checker failures \($f.checker_failures)"' "$home/eval_$1/summary.json"
}

# Pairs that no stage has to leave out: equal beginnings, an answer on both sides, and not longer than 1,300 characters and without links,
# which fit a context of 512 tokens. A fifth is held out; the rest is cut into the halves A and B. Conversations
# that begin alike stay together.
split_pairs() {
  local fold
  rm -rf "$home/pairs"
  mkdir -p "$home/pairs"
  zstd -dcq "$pairs_file" | jq -c '
    def sides: split("\n\nAssistant:");
    select((.chosen | sides[:-1]) == (.rejected | sides[:-1]) and .chosen != .rejected)
    | select([.chosen, .rejected] | all((sides[-1] | test("\\S")) and length <= 1300 and (test("https://") | not)))' >"$home/pairs/all.jsonl"
  folds "$home/pairs/all.jsonl" '.chosen | split("\n\nAssistant:")[0]' 5 "$home/pairs/fold"
  mv "$home/pairs/fold0.jsonl" "$home/pairs/heldout.jsonl"
  cat "$home/pairs/fold1.jsonl" "$home/pairs/fold3.jsonl" >"$home/pairs/a.jsonl"
  cat "$home/pairs/fold2.jsonl" "$home/pairs/fold4.jsonl" >"$home/pairs/b.jsonl"
  rm "$home"/pairs/fold*.jsonl
  for fold in a heldout; do
    jq -c '{messages: [.chosen | split("\n\nHuman:")[1:][] | split("\n\nAssistant:") | to_entries[]
        | {role: (if .key == 0 then "user" else "assistant" end), content: (.value | ltrimstr(" "))}]}' \
      "$home/pairs/$fold.jsonl" >"$home/pairs/chosen_$fold.jsonl"
  done
  say "pairs: $(wc -l <"$home/pairs/a.jsonl") in A, $(wc -l <"$home/pairs/b.jsonl") in B," \
    "$(wc -l <"$home/pairs/heldout.jsonl") held out"
}

# order MODEL FILE: how a reward model orders pairs that it has not seen.
order() {
  local out=$home/order_$1_$2.jsonl
  if [ ! -s "$out" ]; then
    run score "$home/$1" --examples "$home/pairs/$2.jsonl" --json >"$out.part"
    mv "$out.part" "$out"
  fi
}

# order_row NAME FILE...: a line of figures, beside the rule that the shorter answer is the better one; intervals of 95 %.
order_row() {
  local name=$1
  shift
  jq -rs --arg name "$name" '
    def mean: if length == 0 then 0 else add / length end;
    def room: mean as $mean | 1.96 * ((map(. - $mean | . * .) | mean) / length | sqrt);
    def percent: . * 1000 | round | . / 10;
    def above(a; b): if a > b then 1 elif a == b then 0.5 else 0 end;
    def right: above(.reward[0]; .reward[1]);
    def shorter: above(.tokens[1]; .tokens[0]);
    (map(select(shorter == 1) | right) | mean) as $where_shorter
    | (map(select(shorter == 0) | right) | mean) as $where_longer
    | "real_data: \($name): \(length) pairs, right \(map(right) | mean | percent) +- \(map(right) | room | percent) %; "
      + "shorter is better \(map(shorter) | mean | percent) %; more than that rule by "
      + "\(map(right - shorter) | mean | percent) +- \(map(right - shorter) | room | percent); where the better is shorter "
      + "\($where_shorter | percent) %, longer \($where_longer | percent) %, mean of both "
      + "\(($where_shorter + $where_longer) / 2 | percent) %"' "$@"
}

preferences() {
  local half seed other model
  once split_pairs split_pairs
  base_en
  for half in a b; do
    other=$([ "$half" = a ] && echo b || echo a)
    for seed in 1 2; do
      model=rm_${half}_$seed
      train "$model" reward_model seed="$seed" data.examples.0.path="$home/pairs/$half.jsonl"
      order "$model" heldout
      order "$model" "$other"
      order_row "$model, held out" "$home/order_${model}_heldout.jsonl"
      order_row "$model, held out and the other half" "$home/order_${model}_"*.jsonl
    done
  done
  train sft_chosen sft_chosen
  train dpo dpo
  train ppo ppo
  # The model against itself shows its own lengths and scores; it wins half.
  for model in sft_chosen dpo ppo; do
    once "eval_$model" run eval "$configs/eval_preferences.yaml" checkpoint="$home/$model" out="$home/eval_$model"
    once "kl_$model" kl "$model"
    win_rows "$model"
  done
}

# kl MODEL: nats of an answer to the model it started from, over its own sampled answers to held-out prompts. Answers that
# were cut off are left out: their end is not the model's.
kl() {
  local one
  jq -c --slurpfile dialogues "$home/pairs/chosen_heldout.jsonl" '
    select(.strategy == "sampled" and .replies[0].ended and (.completion | test("\\S")))
    | (.case | split(":")[-1] | tonumber) as $line
    | {prompt: $dialogues[$line - 1].messages[:-1], completions: [.completion]}' \
    "$home/eval_$1/samples.jsonl" >"$home/kl_$1.jsonl"
  for one in "$1" sft_chosen; do
    run score "$home/$one" --examples "$home/kl_$1.jsonl" --json >"$home/kl_$1.$one.jsonl"
  done
  jq -rn --slurpfile ours "$home/kl_$1.$1.jsonl" --slurpfile theirs "$home/kl_$1.sft_chosen.jsonl" --arg model "$1" '
    [range($ours | length) as $i | $ours[$i].logp[0] - $theirs[$i].logp[0]]
    | "\(add / length * 100 | round | . / 100) nats over \(length) sampled answers that ended"' >"$home/kl_$1.txt"
}

# win_rows MODEL: its win rate over the model it started from, by the reward model of the other half, and apart for answers
# that are shorter than that model's and longer ones.
win_rows() {
  local strategy
  for strategy in greedy sampled; do
    jq -rn --arg model "$1" --arg strategy "$strategy" --arg kl "$(cat "$home/kl_$1.txt")" \
      --slurpfile summary "$home/eval_$1/summary.json" --slurpfile ours "$home/eval_$1/samples.jsonl" \
      --slurpfile theirs "$home/eval_sft_chosen/samples.jsonl" '
      def percent: . * 1000 | round | . / 10;
      def wins: if length == 0 then "-" else "\(map(.win) | add / length | percent) % of \(length)" end;
      def replies: map(select(.strategy == $strategy and .replies)) | INDEX(.case);
      ($theirs | replies) as $before
      | [$ours | replies | .[] | {win, longer: (.replies[0].tokens - $before[.case].replies[0].tokens)}] as $pairs
      | $summary[0].tests.heldout.strategies[$strategy].figures as $f
      | "real_data: \($model) \($strategy): wins \($f.win_rate | percent) +- "
        + "\(1.96 * ($f.win_rate * (1 - $f.win_rate) / $f.cases | sqrt) | percent) % of \($f.cases); "
        + "\($f.tokens_per_case * 10 | round | . / 10) tokens an answer, cut off \($f.cut_off | percent) %, score "
        + "\($f.reward_score * 100 | round | . / 100); where shorter "
        + "\($pairs | map(select(.longer < 0)) | wins), as long \($pairs | map(select(.longer == 0)) | wins), longer "
        + "\($pairs | map(select(.longer > 0)) | wins); KL \($kl)"'
  done
}

japanese() {
  local model
  once choices_split held_out_and_rest choices "$choices_file" .question
  base_ja
  train sft_choices sft_choices
  once eval_sft_choices run eval "$configs/eval_choices.yaml"
  answer_rows sft_choices right_answers
  for model in base_ja sft_choices; do
    once "score_$model" score_choices "$model"
    sed "s/^/real_data: $model: /" "$home/score_$model.txt"
  done
}

score_choices() {
  run score "$home/$1" --examples "$home/choices/heldout.jsonl" --format ranking >"$home/score_$1.log"
  tail -n 2 "$home/score_$1.log" >"$home/score_$1.txt"
}

parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(show gsm8k preferences japanese)
if ! [[ $ranks =~ ^[1-9][0-9]*$ ]]; then
  say "RANKS=$ranks: a whole number from 1 is needed" >&2
  exit 2
fi
for part in "${parts[@]}"; do
  case $part in
    show | gsm8k | preferences | japanese) ;;
    *) say "unknown part '$part'; known are show, gsm8k, preferences, japanese" >&2; exit 2 ;;
  esac
done
if [ ! -d "$data" ]; then
  say "skipped: no directory $data (TANREN_DATA)"
  exit 0
fi
for tool in jq zstd; do
  if ! command -v "$tool" >/dev/null; then
    say "$tool is missing: apt-get install $tool" >&2
    exit 2
  fi
done
launch/setup.sh
configure cpu
cmake --build --preset cpu --target tanren -j "$(build_jobs)"
mkdir -p "$home/done"
for part in "${parts[@]}"; do "$part"; done
