#!/usr/bin/env bash
# tanren chat: answers, commands, a context that is full, ranks, Ctrl-C, and what cannot be talked to.
source "$(dirname "$0")/common.sh"
export OMP_NUM_THREADS=1

# A model that has learnt four first turns and one second turn by heart.
cat >dialogues.jsonl <<'JSON'
{"messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi!"}, {"role": "user", "content": "Again"}, {"role": "assistant", "content": "Hi, hi!"}]}
{"messages": [{"role": "user", "content": "Bye"}, {"role": "assistant", "content": "Goodbye 鍛錬!"}]}
{"messages": [{"role": "user", "content": "/slash"}, {"role": "assistant", "content": "A\\B"}]}
{"messages": [{"role": "user", "content": "one\ntwo"}, {"role": "assistant", "content": "three"}]}
{"messages": [{"role": "system", "content": "Shout"}, {"role": "user", "content": "Hello"}, {"role": "assistant", "content": "HI!"}]}
JSON
cat >chat.yaml <<'YAML'
stage: sft
run_directory: run
model: {layers: 2, width: 32, heads: 2, mlp_width: 64, context_length: 96}
tokenizer: {kind: bytes}
data:
  examples: [{path: dialogues.jsonl}]
batch: {micro_batch_tokens: 256}
optimizer: {learning_rate: 1e-2}
schedule: {warmup_steps: 10}
train: {steps: 250, log_interval: 50}
parallel: {threads: 1}
YAML
expect_exit 0 train.log "$TANREN" train chat.yaml

# says WANT INPUT [ARGUMENT...]: greedy, the output for this input.
says() {
  local want=$1 input=$2
  shift 2
  printf "$input" >input.txt
  expect_exit 0 chat.log "$TANREN" chat run --temperature 0 "$@" <input.txt
  printf "$want" | diff - chat.log >diff.log || { cat diff.log >&2; fail "on input '$input'"; }
}

says 'Hi!\nHi, hi!\n' 'Hello\nAgain\n'
says 'Hi!\nGoodbye 鍛錬!\n' 'Hello\n\n/reset\nBye'
says 'Hi!\nGoodbye 鍛錬!\n' 'Hello\n/undo\nBye\n/quit\nHello\n'
says 'Hi!\nHi!\nHi, hi!\n' 'Hello\n/retry\nAgain\n'
says 'A\\B\n' '//slash\n'
says 'three\n' 'one\\\ntwo\n'
says 'HI!\n' 'Hello\n' --system Shout
says 'no system message\nShout\nHI!\nHi!\n' '/system\n/system Shout\n/system\nHello\n/reset\n/system -\nHello\n'
says 'three\n' 'one\\\ntwo\\'
says 'there is no message yet\nthere is no answer yet\n' '/undo\n/retry\n'
says '/nothing: no such command; /help names them, // begins a message with a slash\n' '/nothing\n'
says '' ''
says 'Hi\n' 'Hello\n' --max-tokens 2

# What is saved can be trained on.
says 'Hi!\nHi, hi!\nGoodbye 鍛錬!\n' 'Hello\nAgain\n/save kept.jsonl\n/reset\nBye\n/save kept.jsonl\n'
[ "$(wc -l <kept.jsonl)" -eq 2 ] || fail "kept.jsonl has not two lines"
diff <(head -n 1 kept.jsonl) <(head -n 1 dialogues.jsonl | sed 's/: /:/g; s/, "role/,"role/g; s/, "content/,"content/g; s/}, {/},{/g') || fail "the saved conversation is another"
expect_exit 0 show.log "$TANREN" data show kept.jsonl --tokenizer bytes --color never
says 'Hi!\n/save FILE: a file is needed\n' 'Hello\n/save\n'
says 'there is no answer yet\n' '/save kept.jsonl\n'
[ "$(wc -l <kept.jsonl)" -eq 2 ] || fail "an empty conversation was saved"
mkdir folder
printf 'Hello\n/save folder\n' | "$TANREN" chat run --temperature 0 >chat.log 2>&1
expect_text chat.log folder

# The context is 96 tokens: the oldest exchanges are left out, and what cannot fit is refused and forgotten.
printf 'Hello\nAgain\nHello\nAgain\nHello\n' | "$TANREN" chat run --temperature 0 --context 40 >chat.log
expect_text chat.log "(the context is full: the first "
long=$(printf 'x%.0s' {1..120})
printf '%s\nHello\n' "$long" | "$TANREN" chat run --temperature 0 >chat.log
expect_text chat.log "leaves no room for an answer in a context of 96"
[ "$(tail -n 1 chat.log)" = 'Hi!' ] || fail "after a message that did not fit"

# Ranks: rank 0 reads, and waits for whoever types longer than the watchdog waits for a rank.
for layout in 1 2; do
  printf 'Hello\nAgain\n' | "$TANREN" launch -n 2 chat run --temperature 0 "parallel.tensor=$layout" >chat.log 2>ranks.log
  printf 'Hi!\nHi, hi!\n' | diff - chat.log || { cat ranks.log >&2; fail "two ranks, tensor $layout"; }
done
(sleep 4; printf 'Hello\n') | "$TANREN" launch -n 2 chat run --temperature 0 watchdog.stall_seconds=1 >chat.log 2>ranks.log || { cat ranks.log >&2; fail "a slow typist was ended"; }
[ "$(cat chat.log)" = 'Hi!' ] || fail "a slow typist"

# Nobody reads what is said: the job ends, for there is nothing to save.
mkfifo keyboard
exec 7<>keyboard
set +o pipefail
timeout 60 "$TANREN" launch -n 2 chat run <keyboard 2>ranks.log | true
codes=("${PIPESTATUS[@]}")
set -o pipefail
exec 7>&-
[ "${codes[0]}" -eq 141 ] || { cat ranks.log >&2; fail "exit code ${codes[0]} where nobody reads, not 141"; }

# The same seed, the same conversation; another, another.
talk() { printf 'Hello there\n/retry\n/retry\n' | "$TANREN" chat run --temperature 3 --max-tokens 40 --seed "$1"; }
diff <(talk 1) <(talk 1) || fail "the same seed gives two conversations"
! diff -q <(talk 1) <(talk 2) >/dev/null || fail "two seeds give one conversation"

# chatting ARGUMENT...: the program with a pipe to type into, and its output in chat.log.
chatting() {
  rm -f typed
  mkfifo typed
  "$TANREN" chat "$@" <typed >chat.log 2>&1 &
  chat=$!
  exec 7>typed
}
# shows TEXT: the output has come to it.
shows() {
  for _ in $(seq 1 200); do grep -q "$1" chat.log && return; sleep 0.05; done
  fail "the chat never said $1: $(cat chat.log)"
}
# ended CODE
ended() {
  local code=0
  wait "$chat" || code=$?
  exec 7>&-
  [ "$code" -eq "$1" ] || { cat chat.log >&2; fail "exit code $code, not $1"; }
}

# Ctrl-C at the prompt is the end, with 0; so it is where a message was begun, which is not sent.
chatting run --temperature 0
printf 'Hello\n' >&7
shows 'Hi!'
kill -INT "$chat"
ended 0
chatting run --temperature 0
printf 'Hello\nBye\\\n' >&7
shows 'Hi!'
sleep 0.3
kill -INT "$chat"
ended 0
[ "$(cat chat.log)" = 'Hi!' ] || fail "a message that was not finished was answered: $(cat chat.log)"

# Ctrl-C ends an answer, and the next line is read; TERM ends the program. A model that has learnt nothing repeats
# itself and does not stop.
expect_exit 0 dull.log "$TANREN" train chat.yaml run_directory=dull train.steps=1 schedule.warmup_steps=0
chatting dull --temperature 0 --max-tokens 100000 --context 100000 model.context_length=100000
printf 'Hello\n' >&7
for _ in $(seq 1 200); do [ -s chat.log ] && break; sleep 0.05; done
kill -INT "$chat"
printf '/save interrupted.jsonl\n/nothing\n' >&7
shows 'no such command'
[ "$(wc -l <interrupted.jsonl)" -eq 1 ] || fail "the answer that was cut short is not part of the conversation"
printf 'Hello\n' >&7
sleep 0.5
kill -TERM "$chat"
ended 0

# What cannot be talked to.
expect_exit 2 bad.log "$TANREN" chat nowhere </dev/null
expect_exit 2 bad.log "$TANREN" chat run --temperature -1 </dev/null
expect_text bad.log "--temperature: -1"
expect_exit 2 bad.log "$TANREN" chat run --context -1 </dev/null
make_data
write_config
expect_exit 0 pretrain.log "$TANREN" train config.yaml run_directory=base train.steps=1 schedule.decay_steps=1 schedule.warmup_steps=0
expect_exit 2 bad.log "$TANREN" chat base </dev/null
expect_text bad.log "knows no turns; tanren generate goes on from a text"
