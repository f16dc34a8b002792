#!/usr/bin/env bash
# A stage built outside the tree, against the installed package: it trains, resumes and is refused as the
# stages of the tree are. Needs BUILD, CMAKE, LAUNCHER and SOURCE in the environment.
here=$(cd "$(dirname "$0")" && pwd)
: "${BUILD:?}" "${CMAKE:?}" "${SOURCE:?}"
TANREN=$BUILD/launch/tanren
source "$SOURCE/tests/launch/common.sh"

"$CMAKE" --install "$BUILD" --prefix "$WORK/prefix" >install.log || { cat install.log; exit 1; }
TANREN=$WORK/prefix/bin/tanren

build() {  # build NAME: the project in tests/install/NAME, into NAME/
  "$CMAKE" -S "$here/$1" -B "$1" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_PREFIX_PATH="$WORK/prefix" \
    -DCMAKE_CXX_COMPILER_LAUNCHER="${LAUNCHER:-}" >"$1.log" 2>&1 || { cat "$1.log"; fail "$1 is not configured"; }
  "$CMAKE" --build "$1" >>"$1.log" 2>&1 || { tail -n 40 "$1.log"; fail "$1 is not built"; }
}
build unlikelihood
build refused
expect_text unlikelihood.log "libunlikelihood.so: stages unlikelihood"  # the check after the build
"$(dirname "$CMAKE")/ctest" --test-dir unlikelihood >unlikelihood_test.log || { cat unlikelihood_test.log; exit 1; }

# --- what the walk-through shows is what is tested ---------------------------------------------------------------
# Every block between ``` fences that begins with a comment "// FILE" or "# FILE" is found in that file.
awk -v out="$WORK/snippet" '
  /^```/ { inside = !inside; if (inside) { n++; file = "" } else if (file) close(name); next }
  inside && !file { if ($1 == "//" || $1 == "#") { file = $2; name = out "." n; print file > name } else file = "-"; next }
  inside && file != "-" { print > name }' "$SOURCE/docs/add_a_stage.md"
snippets=0
for snippet in snippet.*; do
  file=$here/$(head -n 1 "$snippet")
  [ -f "$file" ] || fail "docs/add_a_stage.md names $file, which is not there"
  shown=$(tail -n +2 "$snippet")
  [[ $(cat "$file") == *"$shown"* ]] || { echo "$shown"; fail "docs/add_a_stage.md shows what $file does not hold"; }
  snippets=$((snippets + 1))
done
[ "$snippets" -ge 5 ] || fail "only $snippets snippets of docs/add_a_stage.md were found"

# --- a task: right and wrong answers -----------------------------------------------------------------------------
"$TANREN" data synth --out synth --problems 300 --held-out 40 --pretrain 300 --sft 200 --prompts 40 >/dev/null
"$TANREN" tokenizer train --kind characters --out tokenizer synth/pretrain.jsonl >/dev/null 2>&1
sed -nE 's/^\{.*"prompt":"([^"]*)".*$/\1/p' synth/sft.jsonl |
  awk '{ n = length($0) % 7; printf "{\"prompt\":\"%s\",\"completion\":\"#### %d\",\"label\":%s}\n", $0, n, NR % 2 ? "true" : "false" }' >labelled.jsonl
cat >base.yaml <<YAML
model: {layers: 2, width: 48, heads: 4, kv_heads: 2, head_dim: 12, mlp_width: 96, context_length: 256}
tokenizer: {kind: characters, path: tokenizer}
optimizer: {learning_rate: 1e-3}
schedule: {warmup_steps: 2, decay_steps: 12}
checkpoint: {interval_steps: 5, keep: 20}
batch: {micro_batch_tokens: 512, micro_batches: 4}
train: {steps: 12, log_interval: 1}
validation: {interval_steps: 6}
data: {examples: [{path: labelled.jsonl}], validation_examples: [{path: labelled.jsonl, limit: 20}]}
YAML
grep '"label":true' labelled.jsonl >good.jsonl
expect_exit 0 sft.log "$TANREN" train base.yaml stage=sft run_directory=sft 'data.examples=[{path: good.jsonl}]' \
  'data.validation_examples=[{path: good.jsonl}]' train.steps=4
cat >run.yaml <<YAML
include: base.yaml
stage: unlikelihood
plugins: [unlikelihood/libunlikelihood.so]
unlikelihood: {strength: 2}
init: {from: sft}
YAML
train() {  # train RANKS DIRECTORY [key=value ...]
  local ranks=$1 directory=$2
  shift 2
  "$TANREN" launch -n "$ranks" train run.yaml "run_directory=$WORK/$directory" "$@"
}

# --- it trains, the same at 1 and 2 ranks, and resumes bit for bit -------------------------------------------------
expect_exit 0 one.log train 1 one
expect_text one.log "libunlikelihood.so: stages unlikelihood"
expect_exit 0 two.log train 2 two
paste -d' ' <(losses one) <(losses two) |
  awk '{ d = $2 - $4; if (d < 0) d = -d; if ($1 != $3 || d > 1e-5 * $2) { print; bad = 1 } n++ } END { exit bad || n != 12 }' ||
  fail "losses of 1 and 2 ranks differ"
losses one | awk 'NR == 1 { first = $2 } { last = $2 } END { exit !(last < first) }' || fail "the loss did not fall"
expect_text one/metrics.jsonl '"bad_loss":'
expect_exit 75 stopped.log train 2 stopped train.stop_after=7
expect_exit 0 stopped.log train 2 stopped
expect_text stopped.log "resumed"
same_run two stopped 12
# The options matter: another strength is another run.
expect_exit 75 other.log train 2 other unlikelihood.strength=1 train.stop_after=1
[ "$(losses other)" != "$(losses two | head -n 1)" ] || fail "unlikelihood.strength changes nothing"

# --- the plugin's keys are keys like all others, for every verb ---------------------------------------------------
for verb in "config show" "config validate" "estimate" "train --dry-run"; do
  # shellcheck disable=SC2086
  expect_exit 0 verb.log "$TANREN" $verb run.yaml
  # shellcheck disable=SC2086
  expect_exit 2 verb.log "$TANREN" $verb run.yaml unlikelihood.strenth=1
  expect_text verb.log "override 'unlikelihood.strenth=1': unlikelihood.strenth: unknown key; did you mean unlikelihood.strength?"
done
"$TANREN" config show run.yaml >shown.yaml
expect_text shown.yaml "spare_expected: true"
expect_exit 0 table.log "$TANREN" config table --plugin unlikelihood/libunlikelihood.so
# shellcheck disable=SC2016
expect_text table.log '| `strength` | number | `1` | (0, 100] | weight of bad answers against good ones |'
expect_exit 0 schema.log "$TANREN" config schema --plugin unlikelihood/libunlikelihood.so
expect_text schema.log 'tanren.lab.UnlikelihoodConfig'
sed 's/strength: 2/strenth: 2/' run.yaml >misspelt.yaml
expect_exit 2 misspelt.log "$TANREN" launch -n 2 train misspelt.yaml run_directory=x
expect_text misspelt.log "misspelt.yaml:4:16: unlikelihood.strenth: unknown key; did you mean unlikelihood.strength?"
expect_exit 2 range.log "$TANREN" launch -n 2 train run.yaml unlikelihood.strength=0
expect_text range.log "unlikelihood.strength: 0 is outside (0, 100]"
# An include and an override name a plugin too.
grep plugins run.yaml >plugins.yaml
{ echo 'include: [base.yaml, plugins.yaml]'; grep -E '^(stage|unlike|init)' run.yaml; } >included.yaml
expect_exit 0 included.log "$TANREN" config validate included.yaml
expect_exit 2 replaced.log "$TANREN" config validate included.yaml plugins=[]
expect_text replaced.log "unlikelihood: unknown key"

# --- a checkpoint is read without the plugin that made it; going on needs it --------------------------------------
mv unlikelihood/libunlikelihood.so away.so
expect_exit 0 generate.log "$TANREN" generate one --prompt "2 + 2" --max-tokens 4
expect_exit 0 eval.log "$TANREN" eval one --cases synth/heldout.jsonl --limit 2 --max-tokens 8
expect_exit 0 sft_after.log "$TANREN" train base.yaml stage=sft init.from=one run_directory=after train.steps=2 \
  'data.examples=[{path: good.jsonl}]' 'data.validation_examples=[]'
expect_exit 2 gone.log train 2 two train.steps=14
expect_text gone.log "run.yaml:3:11: plugins.0: unlikelihood/libunlikelihood.so: there is no such file"
expect_exit 2 unnamed.log "$TANREN" train base.yaml stage=unlikelihood
expect_text unnamed.log 'one built outside the tree needs its shared object in plugins'
mv away.so unlikelihood/libunlikelihood.so

# --- refused ------------------------------------------------------------------------------------------------------
refuse() {  # refuse TEXT OBJECT [launch -n 2]: the run ends with code 2 and says so, naming the object
  expect_exit 2 refused.log timeout 60 "$TANREN" "${@:3}" train base.yaml run_directory=x "plugins=[$2]"
  expect_text refused.log "$2: $1"
}
other_identity() {  # other_identity OLD NEW: the example with these bytes of its identity changed
  LC_ALL=C sed "s/${1//./\\.}/$2/" unlikelihood/libunlikelihood.so >other.so
  ! cmp -s other.so unlikelihood/libunlikelihood.so || fail "$1 is not in the object"
}
version=$("$TANREN" --version | cut -d' ' -f2)
interface=$(sed -nE 's/.*TANREN_INTERFACE_ID "(.*)"/\1/p' prefix/include/tanren/core/plugin/interface_id.h)
refuse "there is no such file" "nowhere.so" launch -n 2
refuse "is no shared object" "run.yaml"
refuse "is a static library" "$(find "$WORK/prefix" -name libtanren_config.a)"
head -c 20000 unlikelihood/libunlikelihood.so >cut.so
refuse "is cut off or damaged" "cut.so"
refuse "is no plugin of tanren" "$(ldd "$TANREN" | awk '/libz\.so/ { print $3 }')"
other_identity "$version" "9.9.9"
refuse "is built for tanren 9.9.9, and this is tanren $version" "other.so" launch -n 2
other_identity "$interface" "${interface//[0-9]/0}"
refuse "is built against other headers of tanren $version" "other.so"
other_identity "with strings of kind 1" "with strings of kind 0"
refuse "is compiled by GCC" "other.so"
refuse "cannot be loaded: undefined symbol: tanren::NoSuchFunction(int)" "refused/libmissing_symbol.so"
refuse "defines tanren::RegisterStages(), which this program has already" "refused/libclash.so"
refuse "holds a copy of core/proto/" "refused/libcopy.so"
refuse "holds a copy of core/proto/" "refused/libhidden_copy.so"
refuse "brings no stage" "refused/librefused.so"
REFUSED=taken_name refuse 'there is a stage "sft" already' "refused/librefused.so" launch -n 2
REFUSED=no_name refuse 'stage "" lacks a name or a factory' "refused/librefused.so"
REFUSED=exception refuse "threw an exception while it was loaded: no licence for this stage" "refused/librefused.so" launch -n 2
REFUSED=crash refuse "the plugin crashed (signal 06)" "$WORK/refused/librefused.so" launch -n 2
REFUSED=null_stage expect_exit 2 null.log "$TANREN" train base.yaml stage=null_stage "plugins=[refused/librefused.so]"
expect_text null.log 'what registered "null_stage" makes no stage of it'
# The same options under another name: protobuf aborts, and the message names the object.
cp unlikelihood/libunlikelihood.so twin.so
expect_exit 2 twin.log "$TANREN" config validate run.yaml plugins.1=twin.so
expect_text twin.log "twin.so: "
# The same file by another name is the same plugin.
ln -s libunlikelihood.so unlikelihood/link.so
expect_exit 0 link.log "$TANREN" config validate run.yaml plugins.1=unlikelihood/link.so
no_orphans
