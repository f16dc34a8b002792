#!/usr/bin/env bash
# tanren data show of files of examples: which tokens are trained, in colour and between marks alike, and nothing else is
# marked; a format and a system message as the stages would take them.
source "$(dirname "$0")/common.sh"
show() { "$TANREN" data show "$1" --tokenizer bytes --documents 100 "${@:2}"; }

cat >mixed.jsonl <<'JSONL'
{"prompt":"Hi","completion":"Yo"}
{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b","train":false},{"role":"user","content":"c"},{"role":"assistant","content":"d"},{"role":"user","content":"e"},{"role":"assistant","content":"f"}]}
{"prompt":"p\u001b[32mq","completion":"鍛錬"}
{"prompt":[{"role":"user","content":"a"},{"role":"assistant","content":"b"},{"role":"user","content":"c"}],"chosen":"Yo","rejected":"No"}
{"system":"Be brief","prompt":"Hi","completion":"Yo"}
JSONL
cat >mixed.expected <<'TEXT'
5 examples (1 messages, 1 preference, 3 prompt_completion)
--- mixed.jsonl:1: prompt_completion
response 1: 6 tokens, 3 trained
Hi
«Yo<|endoftext|>»
--- mixed.jsonl:2: messages
response 1: 12 tokens, 4 trained
a
b<|endoftext|>c
«d<|endoftext|>»e
«f<|endoftext|>»
--- mixed.jsonl:3: prompt_completion
response 1: 15 tokens, 7 trained
p\x1b[32mq
«鍛錬<|endoftext|>»
--- mixed.jsonl:4: preference
chosen: 9 tokens, 3 trained
a
b<|endoftext|>c
«Yo<|endoftext|>»
rejected: 9 tokens, 3 trained
a
b<|endoftext|>c
«No<|endoftext|>»
--- mixed.jsonl:5: prompt_completion
response 1: 15 tokens, 3 trained
Be brief
Hi
«Yo<|endoftext|>»
TEXT

# --- what is trained --------------------------------------------------------------------------------------------
show mixed.jsonl --color never >never.out
diff mixed.expected never.out || fail "--color never marks something else"
show mixed.jsonl >auto.out
cmp never.out auto.out || fail "a file is coloured without being asked for"
# Green in place of the marks, at the same places; no other escape sequence, not even one that stands in a record.
show mixed.jsonl --color always >always.out
sed -e 's/«/\x1b[32m/g' -e 's/»/\x1b[0m/g' mixed.expected >always.expected
cmp always.expected always.out || { cat -v always.out >&2; fail "--color always colours something else than the trained tokens"; }
grep -q -e « -e » always.out && fail "--color always marks as well"
[ "$(grep -o $'\x1b' always.out | wc -l)" -eq 14 ] || fail "not 7 coloured stretches: $(cat -v always.out)"

# --- formats ----------------------------------------------------------------------------------------------------
echo '{"question":"Which?","choice0":"a","choice1":"b","choice2":"c","label":1}' >choices.jsonl
show choices.jsonl >choices.out
[ "$(grep -c ' trained$' choices.out)" -eq 1 ] || fail "by content the right choice is the only answer: $(cat choices.out)"
show choices.jsonl --format ranking >choices.out
diff - choices.out <<'TEXT' || fail "choices as a ranking"
1 examples (1 ranking)
--- choices.jsonl:1: ranking
rank 2: 21 tokens, 2 trained
Which?
- a
- b
- c
«a<|endoftext|>»
rank 1: 21 tokens, 2 trained
Which?
- a
- b
- c
«b<|endoftext|>»
rank 2: 21 tokens, 2 trained
Which?
- a
- b
- c
«c<|endoftext|>»
answer: b
TEXT
printf "%s\n" '{"question":"2+3?","answer":"2+3=5\n#### 5"}' >worked.jsonl
show worked.jsonl >worked.out
expect_text worked.out '13 trained'
show worked.jsonl --format answer --color always >worked.out
diff - worked.out <<'TEXT' || fail "a worked answer as a prompt of RL"
1 examples (1 answer)
--- worked.jsonl:1: answer
5 tokens, none trained
2+3?

answer: 5
TEXT

# --- the system message -----------------------------------------------------------------------------------------
show mixed.jsonl --system 'Be kind' >system.out
[ "$(grep -c '^Be kind$' system.out)" -eq 5 ] || fail "--system is not in front of each of five conversations"
[ "$(grep -c '^Be brief$' system.out)" -eq 1 ] || fail "--system replaced a record's own message"
diff <(grep -v '^Be kind$' system.out | sed 's/: [0-9]* tokens/: tokens/') <(sed 's/: [0-9]* tokens/: tokens/' mixed.expected) ||
  fail "--system changes more than the message"
show worked.jsonl --format answer --system 'Be kind' --template chatml >system.out
[ "$(sed -n '4,7p' system.out | tr '\n' '|')" = '<|im_start|>system|Be kind<|im_end|>|<|im_start|>user|2+3?<|im_end|>|' ] ||
  fail "a prompt of RL without the system message: $(cat system.out)"
expect_text system.out 'none trained'

# --- bad input --------------------------------------------------------------------------------------------------
refused() {  # refused TEXT ARGUMENT...
  local text=$1
  shift
  expect_exit 2 refused.log show "$@"
  expect_text refused.log "$text"
}
refused '--format: format rankings is none of by_content, ranking' choices.jsonl --format rankings
refused 'mixed.jsonl:1: ' mixed.jsonl --format ranking
refused '--color green is none of auto, always and never' mixed.jsonl --color green
refused '--template llama is neither plain nor chatml' mixed.jsonl --template llama
refused '--first 5, --documents 100: the file has examples 0 to 4' mixed.jsonl --first 5
echo "shown"
