#!/usr/bin/env bash
# A committed checkpoint is damaged at random, again and again, and must be refused each time: with exit code 2, within
# 10 seconds and 4 GB of address space, without a crash, by a message that names what is damaged. What is asked is
# `tanren ckpt verify`, which opens a checkpoint as a resume does and then reads all of its data. After every 100th
# corruption training is asked too: `--resume auto` must go on from the step before, with a warning that names the damage,
# and `--resume` with the checkpoint's path must refuse.
#
# Damaged are checkpoints of one rank, of two, of 2 x 2 with moments in bf16, of one without tokenizer files, and one that
# `ckpt reshard` wrote: a bit flipped, a file cut, grown, partly zeroed, deleted, renamed, made a link, a FIFO or a directory,
# changed for the file of that name of another step or run, two shards or two stretches of a file swapped, COMMIT edited,
# the step directory itself renamed, linked or changed for another.
#
# `forge` changes the manifest at random and makes COMMIT fit again, so that only what the manifest says can give it away.
# Not all of it can be found out; what is accepted is told apart by comparing with the checkpoint as it was, bit for bit
# (`ckpt diff`), and by what the program has read of the manifest (`ckpt inspect --chunks`):
#
#   same     the same tensors, state and everything else: an encoding that means the same
#   label    the same tensors and state; only the run's id or the mesh, which restrict no reader, are others
#   refused  the stage or the state differs, and training refuses it as it resumes
#   state    an entry of the state has another value or name, which training takes. Tensors are the same. The manifest is the
#            only place that holds the state, so nothing is left to compare it with: whoever can write a COMMIT can write a
#            state. Counted and shown, and no failure
#
# Anything else that is accepted is a failure, for example a tensor with other values.
#
#   tests/soak/corruptions.sh          default: CORRUPTIONS=10000 SEED=1, some 20 minutes on one core
#
# What is damaged, and how, is a function of SEED. All is in build/soak/corruptions/seed-N: results.tsv has a line for each
# corruption, and run again the script goes on behind the last one. What went wrong is kept in failed-N. Exit code 1 if
# anything did. TANREN: another binary.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

tanren=${TANREN:-$PWD/build/cpu/launch/tanren}
corruptions=${CORRUPTIONS:-10000}
seed=${SEED:-1}
if ! [[ $corruptions =~ ^[1-9][0-9]*$ && $seed =~ ^[0-9]{1,9}$ ]]; then
  echo "corruptions.sh: CORRUPTIONS=$corruptions SEED=$seed: whole numbers are needed" >&2
  exit 2
fi
home=$PWD/build/soak/corruptions/seed-$seed
layouts=(one two mesh bytes whole)
older='step-00000020'
newer='step-00000030'
limit_seconds=10
limit_kilobytes=4000000
sample_every=100
most_failures=20 # then there is nothing more to learn from going on

say() { echo "corruptions: $*"; }
# shellcheck source=tests/soak/draw.sh
. tests/soak/draw.sh

# --- the checkpoints ----------------------------------------------------------------------------------------------

# LAYOUT/run has two commits; LAYOUT/whole and LAYOUT/older hold copies, LAYOUT/other the newer step of another run.
prepare() {
  [ ! -e "$home/prepared" ] || return 0
  rm -rf "$home"
  mkdir -p "$home"
  local layout step
  {
    "$tanren" data synth --out "$home/synth" --problems 200 --held-out 20
    "$tanren" tokenizer train --kind characters --out "$home/tokenizer" "$home/synth/train.jsonl"
    "$tanren" data tokenize --tokenizer "$home/tokenizer" --out "$home/tokens" "$home/synth/train.jsonl"
    "$tanren" data tokenize --tokenizer bytes --out "$home/tokens_bytes" "$home/synth/train.jsonl"
  } >"$home/prepare.log" 2>&1
  for layout in one two mesh bytes; do
    write_config "$layout"
    train_whole "$layout" run
    train_whole "$layout" other seed=2
  done
  write_config whole
  for step in run/$older run/$newer other/$newer; do
    mkdir -p "$home/whole/${step%/*}"
    "$tanren" ckpt reshard "$home/mesh/$step" --out "$home/whole/$step" --files 3 >>"$home/prepare.log"
  done
  for layout in "${layouts[@]}"; do
    mkdir -p "$home/$layout/whole" "$home/$layout/older"
    cp -a "$home/$layout/run/$newer" "$home/$layout/whole/"
    cp -a "$home/$layout/run/$older" "$home/$layout/older/"
    "$tanren" ckpt inspect --chunks "$home/$layout/whole/$newer" >"$home/$layout/inspected"
    facts "$home/$layout/inspected" >"$home/$layout/facts"
    (cd "$home/$layout/run/$newer" && find . -type f | sed 's,^\./,,' | sort) >"$home/$layout/files"
    grep safetensors "$home/$layout/files" >"$home/$layout/shards"
  done
  : >"$home/prepared"
}

write_config() {
  local tokenizer="{kind: characters, path: $home/tokenizer}" tokens=tokens moments=fp32
  mkdir -p "$home/$1"
  if [ "$1" = bytes ]; then tokenizer='{kind: bytes}' tokens=tokens_bytes; fi
  case $1 in mesh | whole) moments=bf16 ;; esac
  cat >"$home/$1/config.yaml" <<YAML
model: {layers: 1, width: 16, heads: 2, head_dim: 8, mlp_width: 32, context_length: 64}
tokenizer: $tokenizer
data: {train: [{path: $home/$tokens}]}
batch: {micro_batch_tokens: 256, micro_batches: 2}
optimizer: {learning_rate: 3e-3, moments: $moments}
schedule: {warmup_steps: 5}
train: {steps: 40, log_interval: 1}
validation: {interval_steps: 0}
checkpoint: {interval_steps: 10, keep: 2}
log: {tensorboard: false}
parallel: {threads: 1}
YAML
}

# train_whole LAYOUT DIRECTORY KEY=VALUE...
train_whole() {
  local layout=$1 directory=$home/$1/$2 code=0
  shift 2
  command_of "$layout"
  "${command[@]}" train "$home/$layout/config.yaml" "run_directory=$directory" train.stop_after=30 "${mesh[@]}" "$@" \
    >>"$home/prepare.log" 2>&1 || code=$?
  [ "$code" -eq 75 ] || { tail -n 5 "$home/prepare.log" >&2; return 1; }
}

# command_of LAYOUT: sets $command and $mesh.
command_of() {
  mesh=()
  case $1 in
    one | bytes) command=("$tanren") ;;
    two | whole) command=("$tanren" launch -n 2) ;;
    mesh) command=("$tanren" launch -n 4) mesh=(parallel.tensor=2) ;;
  esac
}

# All that a corruption may have touched is as before.
restore() {
  local name
  if [ ${#touched[@]} -eq 0 ]; then
    rm -rf "$home/$layout/run"/step-*
    cp -a "$home/$layout/older/$older" "$home/$layout/whole/$newer" "$home/$layout/run/"
  else
    for name in "${touched[@]}"; do rm -rf "${damaged:?}/$name"; done
    for name in "${touched[@]}"; do
      [ ! -e "$whole/$name" ] || cp -a "$whole/$name" "$damaged/$name"
    done
  fi
}

# --- damage -------------------------------------------------------------------------------------------------------
# Each sets $touched, the names below the step directory that restore puts back (none: all), and $names, of which the
# message must have one, and returns 1 where it changed nothing.

pick_file() {
  mapfile -t files <"$home/$layout/files"
  pick "${files[@]}"
  file=$damaged/$picked
  touched=("$picked")
  names=("${picked##*/}")
  size=$(stat -c %s "$file")
}

pick_other_run_or_step() { pick "$home/$layout/older/$older" "$home/$layout/other/$newer"; }

# put_bytes FILE OFFSET: writes stdin there.
put_bytes() { dd of="$1" bs=65536 seek="$2" oflag=seek_bytes conv=notrunc status=none; }
get_bytes() { tail -c +"$(($2 + 1))" "$1" | head -c "$3"; }
byte_at() { od -An -tu1 -j "$2" -N 1 "$1" | tr -d ' '; }
# shellcheck disable=SC2059  # the format is the byte
byte() { printf "\\x$(printf '%02x' "$1")"; }

changed() { ! cmp -s "$file" "$whole/${touched[0]}"; }

damage_flip() {
  pick_file
  local offset
  draw "$size"
  offset=$drawn
  draw 8
  byte $(($(byte_at "$file" "$offset") ^ (1 << drawn))) | put_bytes "$file" "$offset"
}

damage_cut() {
  pick_file
  draw "$size"
  pick 0 1 "$((size - 1))" "$drawn" "$drawn" "$drawn"
  truncate -s "$picked" "$file"
}

damage_grow() {
  pick_file
  draw 4096
  pick 1 8 "$((drawn + 1))"
  local more=$picked
  pick zeros itself
  case $picked in
    zeros) truncate -s +"$more" "$file" ;;
    itself) head -c "$more" "$whole/${touched[0]}" >>"$file" ;;
  esac
}

damage_zero() {
  pick_file
  local offset
  draw "$size"
  offset=$drawn
  draw 600
  head -c "$((drawn < size - offset ? drawn + 1 : size - offset))" /dev/zero | put_bytes "$file" "$offset"
  changed
}

damage_stretches() {
  pick_file
  local from to length
  draw "$size"
  from=$drawn
  draw "$size"
  to=$drawn
  [ "$from" -lt "$to" ] || return 1
  draw 600
  length=$((drawn + 1))
  [ "$length" -le "$((to - from))" ] || length=$((to - from))
  [ "$length" -le "$((size - to))" ] || length=$((size - to))
  get_bytes "$whole/${touched[0]}" "$from" "$length" | put_bytes "$file" "$to"
  get_bytes "$whole/${touched[0]}" "$to" "$length" | put_bytes "$file" "$from"
  changed
}

damage_shards() {
  local shards one
  mapfile -t shards <"$home/$layout/shards"
  pick "${shards[@]}"
  one=$picked
  pick "${shards[@]}"
  [ "$one" != "$picked" ] || return 1
  touched=("$one" "$picked")
  names=("${touched[@]}")
  cp "$whole/$one" "$damaged/$picked"
  cp "$whole/$picked" "$damaged/$one"
}

damage_delete() {
  pick_file
  case $picked in
    tokenizer/*) pick "$picked" tokenizer; touched=("$picked") names=(tokenizer) ;;
  esac
  rm -r "${damaged:?}/${touched[0]}"
}

damage_link() {
  pick_file
  rm "$file"
  pick whole hard nowhere
  case $picked in
    # The contents are right; a link may point anywhere tomorrow.
    whole) ln -s "$whole/${touched[0]}" "$file" ;;
    hard) ln -s "$file.x" "$file"; cp "$whole/${touched[0]}" "$file.x"; touched+=("${touched[0]}.x") ;;
    nowhere) ln -s nowhere "$file" ;;
  esac
}

damage_fifo() {
  pick_file
  rm "$file"
  mkfifo "$file"
}

damage_directory() {
  pick_file
  rm "$file"
  mkdir "$file"
  pick empty with_file
  [ "$picked" = empty ] || cp "$whole/${touched[0]}" "$file/"
}

damage_rename() {
  pick_file
  local new
  pick "${touched[0]}.bak" "${touched[0]}x" "moved-${names[0]}"
  new=$picked
  mv "$file" "$damaged/$new"
  touched+=("$new")
}

# The file of that name of another step or run: right in itself.
damage_foreign() {
  pick_file
  pick_other_run_or_step
  cp "$picked/${touched[0]}" "$file" 2>/dev/null || return 1
  changed
}

# The manifest of another step or run, with its COMMIT, over these shards.
damage_foreign_pair() {
  pick_other_run_or_step
  touched=(manifest.pb COMMIT)
  names=(manifest COMMIT safetensors resolved.yaml)
  cp "$picked/manifest.pb" "$picked/COMMIT" "$damaged/"
}

damage_commit() {
  file=$damaged/COMMIT
  touched=(COMMIT)
  names=(COMMIT)
  local sum digit offset
  sum=$(head -c 64 "$whole/COMMIT")
  draw 64
  offset=$drawn
  pick 0 1 2 3 4 5 6 7 8 9 a b c d e f
  digit=$picked
  pick digit digit digit capitals no_newline dos space twice other_sum of_text empty
  case $picked in
    digit) printf '%s\n' "${sum:0:offset}$digit${sum:offset+1}" >"$file" ;;
    capitals) printf '%s\n' "${sum^^}" >"$file" ;;
    no_newline) printf '%s' "$sum" >"$file" ;;
    dos) printf '%s\r\n' "$sum" >"$file" ;;
    space) printf ' %s\n' "$sum" >"$file" ;;
    twice) printf '%s\n%s\n' "$sum" "$sum" >"$file" ;;
    other_sum) sha256sum <"$whole/resolved.yaml" | head -c 64 >"$file"; echo >>"$file" ;;
    of_text) printf '%s' "$sum" | sha256sum | head -c 64 >"$file"; echo >>"$file" ;;
    empty) : >"$file" ;;
  esac
  changed
}

# The step directory as a whole.
damage_step() {
  touched=()
  names=("$newer")
  pick renamed moved_and_linked older other_link file
  case $picked in
    renamed) names=(step-00000040); mv "$damaged" "$home/$layout/run/step-00000040"; damaged=$home/$layout/run/step-00000040 ;;
    moved_and_linked) rm -r "$damaged"; ln -s "$whole" "$damaged" ;;
    older) rm -r "$damaged"; cp -a "$home/$layout/older/$older" "$damaged" ;;
    other_link) rm -r "$damaged"; ln -s "$older" "$damaged" ;;
    file) rm -r "$damaged"; : >"$damaged" ;;
  esac
}

damage_forge() {
  file=$damaged/manifest.pb
  touched=(manifest.pb COMMIT)
  # What the manifest says is compared with the files; either may be named.
  names=(manifest safetensors resolved.yaml tokenizer 'policy/')
  size=$(stat -c %s "$file")
  local offset value
  draw "$size"
  offset=$drawn
  draw 256
  value=$drawn
  pick byte byte byte byte bit bit insert drop stretch
  case $picked in
    byte) byte "$value" | put_bytes "$file" "$offset" ;;
    bit) byte $(($(byte_at "$file" "$offset") ^ (1 << (value % 8)))) | put_bytes "$file" "$offset" ;;
    insert)
      { head -c "$offset" "$whole/manifest.pb"; byte "$value"; get_bytes "$whole/manifest.pb" "$offset" "$size"; } >"$file"
      ;;
    drop) { head -c "$offset" "$whole/manifest.pb"; get_bytes "$whole/manifest.pb" $((offset + 1)) "$size"; } >"$file" ;;
    stretch)
      draw "$size"
      get_bytes "$whole/manifest.pb" "$drawn" "$((value % 16 + 1))" | put_bytes "$file" "$offset"
      ;;
  esac
  sha256sum <"$file" | head -c 64 >"$damaged/COMMIT"
  echo >>"$damaged/COMMIT"
  changed
}

# One of them, in its share of a hundred.
choose_damage() {
  draw 100
  local kind share left=$drawn
  for share in flip:18 cut:8 grow:6 zero:8 stretches:8 shards:5 delete:4 link:5 fifo:3 directory:3 rename:4 foreign:6 \
    foreign_pair:2 commit:5 step:3 forge:12; do
    kind=${share%:*}
    left=$((left - ${share#*:}))
    if [ "$left" -lt 0 ]; then break; fi
  done
  what=$kind
}

# --- judgement ----------------------------------------------------------------------------------------------------

# ask LOG COMMAND...: sets $code. 124: too slow.
ask() {
  local log=$1
  shift
  code=0
  (ulimit -v "$limit_kilobytes" && exec timeout -k 1 "$limit_seconds" "$@") >"$log" 2>&1 || code=$?
}

# failure KIND TEXT
failure() {
  outcome=$1
  say "FAILED at corruption $number ($layout, $what): $1: $2" >&2
  rm -rf "$home/failed-$number"
  mkdir -p "$home/failed-$number"
  cp "$home"/*.log "$home/failed-$number/"
  # -R: a FIFO is not to be read. The directory may be gone, or something else.
  cp -R -P "$damaged" "$home/failed-$number/" 2>/dev/null || true
}

# says LOG: an error or a warning names what was damaged.
says() {
  local name patterns=()
  for name in "${names[@]}"; do patterns+=(-e "$name"); done
  grep -E '^(error|warning): ' "$1" >"$home/said.log" && grep -qF "${patterns[@]}" "$home/said.log"
}

judge() {
  ask "$home/verify.log" "$tanren" ckpt verify "$damaged"
  case $code in
    0) judge_accepted ;;
    2)
      if says "$home/verify.log"; then outcome=rejected; else failure unnamed "$(tail -n 1 "$home/verify.log")"; fi
      ;;
    124 | 137) failure slow "no end after $limit_seconds s" ;;
    *) failure crashed "exit code $code: $(tail -n 1 "$home/verify.log")" ;;
  esac
}

judge_accepted() {
  if [ "$what" != forge ]; then
    failure accepted "$(tail -n 1 "$home/verify.log")"
    return
  fi
  ask "$home/diff.log" "$tanren" ckpt diff "$whole" "$damaged"
  if [ "$code" -gt 1 ] || { [ "$code" -eq 1 ] && grep -qv '^state ' "$home/diff.log"; }; then
    failure accepted "and not the same tensors: $(grep -m 1 -v '^state ' "$home/diff.log")"
    return
  fi
  local same_state=$((code == 0))
  "$tanren" ckpt inspect --chunks "$damaged" >"$home/inspect.log"
  if [ "$same_state" = 1 ] && cmp -s "$home/inspect.log" "$home/$layout/inspected"; then
    outcome=same
    return
  fi
  # Of the head only the first line may differ, of the state only sizes and names; all else would be other tensors.
  facts "$home/inspect.log" >"$home/facts.log"
  if ! cmp -s "$home/facts.log" "$home/$layout/facts"; then
    failure accepted "$(diff "$home/facts.log" "$home/$layout/facts" | sed -n 2p)"
    return
  fi
  judge_resumed "$same_state"
}

# What ckpt inspect shows, without the head's line and the state.
facts() { sed -e 1d -e '/^state (/,/^tensors (/d' "$1"; }

# What the loader says to a checkpoint with the same tensors and other words: training of no step.
judge_resumed() {
  rm -rf "$home/probe"
  ask "$home/resume.log" "$tanren" train "$home/$layout/config.yaml" "run_directory=$home/probe" --resume "$damaged" \
    train.stop_after=30
  case $code in
    75) if [ "$1" = 1 ]; then outcome=label; else outcome=state; fi ;;
    1 | 2) outcome=refused ;;
    *) failure crashed "exit code $code of a resume: $(tail -n 1 "$home/resume.log")" ;;
  esac
  case $outcome in
    label) detail=$(head -n 1 "$home/inspect.log") ;;
    refused) detail=$(tail -n 1 "$home/resume.log") ;;
    state) detail=$(tr '\n' ';' <"$home/diff.log") ;;
  esac
  detail=${detail//$'\t'/ }
}

# What training does with a checkpoint that verify refused.
judge_training() {
  command_of "$layout"
  rm -rf "$home/probe"
  ask "$home/resume.log" "${command[@]}" train "$home/$layout/config.yaml" "run_directory=$home/probe" "${mesh[@]}" \
    --resume "$damaged"
  if { [ "$code" -ne 1 ] && [ "$code" -ne 2 ]; } || ! says "$home/resume.log"; then
    failure resumed "--resume with its path: exit code $code: $(tail -n 1 "$home/resume.log")"
  fi
  ask "$home/auto.log" "${command[@]}" train "$home/$layout/config.yaml" "run_directory=$home/$layout/run" "${mesh[@]}" \
    train.stop_after=20
  # A later schema is not damage: the program is old, and nothing older is to be loaded by surprise.
  if grep -q 'this Tanren reads up to' "$home/verify.log"; then
    [ "$code" -eq 2 ] || failure resumed "--resume auto of a later schema: exit code $code"
    return
  fi
  if [ "$code" -ne 75 ] || ! grep -q "^resumed .*$older at step 20" "$home/auto.log" ||
    ! grep -q '^warning: checkpoint .* is damaged and passed over' "$home/auto.log" || ! says "$home/auto.log"; then
    failure resumed "--resume auto: exit code $code: $(grep -v '^ ' "$home/auto.log" | tail -n 1)"
  fi
}

# --- one corruption -----------------------------------------------------------------------------------------------

one_corruption() {
  local began=${EPOCHREALTIME/[.,]/}
  choose_for "corruption $number"
  pick "${layouts[@]}"
  layout=$picked
  whole=$home/$layout/whole/$newer
  outcome=none detail=
  choose_damage
  while true; do
    damaged=$home/$layout/run/$newer
    touched=()
    ! "damage_$what" || break
    [ ${#touched[@]} -eq 0 ] || restore
  done
  judge
  if [ "$outcome" = rejected ] && [ $((number % sample_every)) -eq 0 ]; then
    judge_training
    sampled=1
  else
    sampled=0
  fi
  restore
  if [ "$sampled" = 1 ]; then check_restored; fi
  printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\n' "$number" "$layout" "$what" "$outcome" "$sampled" \
    "$(((${EPOCHREALTIME/[.,]/} - began) / 1000))" "$detail" >>"$home/results.tsv"
}

# A refusal means something only where the checkpoint is accepted without the damage.
check_restored() {
  damaged=$home/$layout/run/$newer
  if ! diff -r "$whole" "$damaged" >"$home/restored.log" || ! "$tanren" ckpt verify "$damaged" >>"$home/restored.log" 2>&1; then
    tail -n 1 "$home/restored.log" >&2
    say "the checkpoint was not restored after corruption $number" >&2
    exit 1
  fi
}

summary() {
  awk -F'\t' '
    { ++all; ms += $6; sampled += $5; if (!$5 && $6 > longest) longest = $6; n[$3]++; count[$3, $4]++
      if ($4 ~ /^(accepted|crashed|slow|unnamed|resumed)$/) ++failed[$3]
      if (!($3 in seen)) { seen[$3] = 1; name[++kinds] = $3 } }
    END {
      printf "corruptions: %d in %.0f s, %d of them shown to training too; the slowest of the others took %.2f s\n",
        all, ms / 1000, sampled, longest / 1000
      printf "corruptions:   %-14s %7s %9s %6s %6s %8s %6s %7s\n",
        "", "all", "rejected", "same", "label", "refused", "state", "failed"
      for (i = 1; i <= kinds; ++i) {
        k = name[i]
        printf "corruptions:   %-14s %7d %9d %6d %6d %8d %6d %7d\n", k, n[k], count[k, "rejected"], count[k, "same"],
          count[k, "label"], count[k, "refused"], count[k, "state"], failed[k]
      }
    }' "$home/results.tsv"
  say "accepted $(count accepted), crashed $(count crashed), too slow $(count slow), unnamed $(count unnamed)," \
    "resumed wrongly $(count resumed)"
}

count() { awk -F'\t' -v outcome="$1" '$4 == outcome { ++n } END { print n + 0 }' "$home/results.tsv"; }
failures() { awk -F'\t' '$4 ~ /^(accepted|crashed|slow|unnamed|resumed)$/ { ++n } END { print n + 0 }' "$home/results.tsv"; }

unset OPENBLAS_CORETYPE TANREN_FAULT
prepare
touch "$home/results.tsv"
# An earlier run may have ended in the middle of one.
touched=()
for layout in "${layouts[@]}"; do
  whole=$home/$layout/whole/$newer
  restore
done
number=$(wc -l <"$home/results.tsv")
while [ "$number" -lt "$corruptions" ]; do
  number=$((number + 1))
  one_corruption
  if [ $((number % 1000)) -eq 0 ]; then say "$number of $corruptions, $(failures) failures"; fi
  case $outcome in
    rejected | same | label | refused | state) ;;
    *) [ "$(failures)" -lt "$most_failures" ] || break ;;
  esac
done
summary
[ "$(failures)" -eq 0 ]
