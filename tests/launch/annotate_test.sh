#!/usr/bin/env bash
# A person at tanren annotate, played by a pipe: rankings and labels are saved at once, resumed, taken back; mistakes are
# explained; what is written is what the stages read. Agreement of two files against figures worked out by hand.
source "$(dirname "$0")/common.sh"

cat >samples.jsonl <<'JSONL'
{"prompt":"first?","responses":["one","two","three","two"],"models":["small","large","small","small"],"answer":"2"}
{"prompt":"esc \u001b[2J\u202e\nA\n  | forged","responses":["plain","\u001b]0;title\u0007 red"]}
{"prompt":"alone?","responses":["same","same",""]}
{"prompt":"last?","responses":["x","y"]}
{"prompt":"last?","responses":["y","x"]}
JSONL

# annotate OUT TYPED [OPTION...]: a session in the samples' own order; what is typed is for printf.
annotate() {
  local out=$1 typed=$2
  shift 2
  # shellcheck disable=SC2059
  printf "$typed" | "$TANREN" annotate samples.jsonl --out "$out" --no-shuffle "$@" >session.log 2>&1 || {
    echo $? >session.code
    return "$(cat session.code)"
  }
}
lines() { wc -l <"$1"; }

# --- rankings ---------------------------------------------------------------------------------------------------
annotate a.jsonl 'B > A\nb>d\n\nB > B > A\nA = B = C\n b>A  =\tc # the only right one\n' --annotator ann
expect_text session.log 'does not name C; it must rank A, B and C'
expect_text session.log 'has "D" in the place of an answer'
expect_text session.log 'names B twice'
expect_text session.log 'all equal'
expect_text session.log 'from best to worst'
expect_text session.log '1 decided now and 0 before, in a.jsonl; 2 left, 0 of them skipped'
expect_text session.log '1 prompts left out: fewer than two different answers'
expect_text session.log '1 repeated in the samples, asked once'
expect_text session.log '2 duplicate responses left out'
expect_text session.log '1 empty responses left out'
[ "$(cat a.jsonl)" = '{"prompt":"first?","responses":["one","two","three"],"ranking":[2,1,2],"shown":[0,1,2],"models":["small","large, small","small"],"answer":"2","annotator":"ann","comment":"the only right one"}' ] ||
  fail "the ranking was written as $(cat a.jsonl)"
# Blind unless asked for.
grep -q 'large' session.log && fail "a blind session shows who wrote an answer"
annotate shown.jsonl 'q\n' --show-models
expect_text session.log 'B  by large, small'

# What the samples hold cannot act on the terminal or pass for the program's own lines.
annotate a.jsonl 's\n' --annotator ann
expect_text session.log '  | esc \x1b[2J\xe2\x80\xae'
expect_text session.log '  |   | forged'
expect_text session.log '\x1b]0;title\x07 red'
grep -q $'\x1b\|\x07' session.log && fail "a control character came through"

# Gone on with, a skip, undone across sessions, the last one undone at the end.
annotate a.jsonl 's\nA > B\nu\nu\nu\nC > A > B\nA > B\nB > A' --annotator ann
expect_text session.log '3 decided now and 0 before'
expect_text session.log '0 left, 0 of them skipped'
[ "$(lines a.jsonl)" -eq 3 ] || fail "$(lines a.jsonl) lines instead of 3"
[ "$(sed -nE 's/.*"ranking":(\[[0-9,]*\]).*/\1/p' a.jsonl | tr '\n' ' ')" = '[2,3,1] [1,2] [2,1] ' ] || fail "rankings: $(cat a.jsonl)"
annotate a.jsonl 'nonsense\nu\ns\n' --annotator ann
expect_text session.log 'nothing is left'
expect_text session.log '0 decided now and 2 before, in a.jsonl; 1 left, 1 of them skipped'
annotate a.jsonl 'B > A\n' --annotator ann
annotate empty.jsonl 'u\nq\n'
expect_text session.log 'there is nothing to take back'

# The stages' own reader takes the file.
expect_exit 0 show.log "$TANREN" data show a.jsonl --tokenizer bytes
expect_text show.log '3 examples (3 ranking)'
expect_text show.log 'rank 1: '

# Every decision is on disk before the next question.
mkfifo keys
"$TANREN" annotate samples.jsonl --out killed.jsonl <keys >killed.log 2>&1 &
annotator=$!
exec 5>keys
printf 'A > B > C\n' >&5
for _ in $(seq 1 200); do
  [ -s killed.jsonl ] && break
  sleep 0.05
done
expect_exit 2 refused.log "$TANREN" annotate samples.jsonl --out killed.jsonl
expect_text refused.log 'is in use by another annotation'
kill -9 "$annotator"
wait "$annotator" 2>/dev/null || true
exec 5>&-
[ "$(lines killed.jsonl)" -eq 1 ] || fail "a killed session lost its decision"
# A file of something else is left as it is.
printf 'my notes' >notes.txt
expect_exit 2 refused.log "$TANREN" annotate samples.jsonl --out notes.txt </dev/null
[ "$(cat notes.txt)" = "my notes" ] || fail "notes.txt was changed"
# Half a line is cut off, a whole one without its line feed is kept.
printf '{"prompt":"last?","resp' >>killed.jsonl
annotate killed.jsonl 'q\n'
expect_text session.log 'its last line was not written whole; 23 bytes cut off'
expect_text session.log '1 before'
truncate -s -1 killed.jsonl
annotate killed.jsonl 'A > B\n'
[ "$(lines killed.jsonl)" -eq 2 ] || fail "two decisions on $(lines killed.jsonl) lines"
expect_text session.log '1 decided now and 1 before'

# The order is drawn from the seed, for every prompt anew, and ranks belong to answers, not to places.
for prompt in $(seq 1 60); do echo "{\"prompt\":\"$prompt\",\"responses\":[\"x\",\"y\",\"z\"]}"; done >many.jsonl
ranked() { for _ in $(seq 1 60); do echo 'A > B > C'; done | "$TANREN" annotate many.jsonl --out "$1" --seed "$2" >/dev/null; }
ranked seed1.jsonl 1
ranked seed1b.jsonl 1
ranked seed2.jsonl 2
cmp seed1.jsonl seed1b.jsonl || fail "the same seed showed another order"
cmp -s seed1.jsonl seed2.jsonl && fail "another seed showed the same order"
# Each of the six orders about 10 times of 60: a share below 1 or above 25 has a chance of less than 1e-4.
sed -nE 's/.*"ranking":(\[[0-9,]*\]).*/\1/p' seed1.jsonl | sort | uniq -c |
  awk '{ if ($1 > 25) bad = 1 } END { exit bad || NR != 6 }' || fail "the orders shown are not even"
sed -nE 's/.*"ranking":(\[[0-9,]*\]),"shown":(\[[0-9,]*\]).*/\1 \2/p' seed1.jsonl | tr -d '[]' | tr ', ' '  ' |
  awk '{ for (place = 1; place <= 3; ++place) if ($($(3 + place) + 1) != place) exit 1 }' || fail "ranks went to places"

# --- labels -----------------------------------------------------------------------------------------------------
annotate labels.jsonl 'g\nBAD # why not\nmaybe\ns\ngood\nb\n' --labels --annotator ann
expect_text session.log '"maybe" is neither g (good) nor b (bad)'
expect_text session.log '4 decided now'
[ "$(sed -n 2p labels.jsonl)" = '{"prompt":"first?","completion":"two","label":false,"model":"large, small","answer":"2","annotator":"ann","comment":"why not"}' ] ||
  fail "the label was written as $(sed -n 2p labels.jsonl)"
expect_exit 0 show.log "$TANREN" data show labels.jsonl --tokenizer bytes
expect_text show.log '4 examples (4 labelled)'

# --- agreement --------------------------------------------------------------------------------------------------
# Pairs: first xy same, xz same, yz opposite; second xy tied by one, xz and yz same. tau-b: 1/3 and 2/sqrt(6).
cat >one.jsonl <<'JSONL'
{"prompt":"p","responses":["x","y","z"],"ranking":[1,2,3]}
{"prompt":"q","responses":["x","y","z"],"ranking":[1,2,3]}
{"prompt":"only here","responses":["x","y"],"ranking":[1,2]}
JSONL
cat >two.jsonl <<'JSONL'
{"prompt":"q","responses":["z","y","x"],"ranking":"C = B > A"}
{"prompt":"p","responses":["x","y","z"],"ranking":[1,3,2]}
JSONL
expect_exit 0 agreement.log "$TANREN" annotate agreement one.jsonl two.jsonl
expect_text agreement.log '2 decisions about the same answers in both files, 1 only in one.jsonl, 0 only in two.jsonl'
expect_text agreement.log '6 pairs of answers: 4 in the same order, 1 in opposite orders, 1 tied by one only, 0 by both'
expect_text agreement.log 'pairwise agreement 0.6667'
expect_text agreement.log "Kendall's tau-b 0.5749"
label() { for answer in $(seq "$1" "$2"); do echo "{\"prompt\":\"p\",\"completion\":\"$answer\",\"label\":$3}"; done; }
{ label 1 25 true; label 26 50 false; } >one-labels.jsonl
{ label 1 20 true; label 21 25 false; label 26 35 true; label 36 50 false; } >two-labels.jsonl
expect_exit 0 agreement.log "$TANREN" annotate agreement one-labels.jsonl two-labels.jsonl
expect_text agreement.log "Cohen's kappa 0.4000"
expect_exit 0 agreement.log "$TANREN" annotate agreement a.jsonl a.jsonl
expect_text agreement.log "Kendall's tau-b 1.0000"

# --- a judge ----------------------------------------------------------------------------------------------------
cat >sums.jsonl <<'JSONL'
{"prompt":"2 + 2 = ?","answer":"4","responses":["#### 5","2 + 2 = 4\n#### 4","","no"],"kind":"add"}
{"prompt":"1 + 1 = ?","answer":"2","responses":["no","none"]}
JSONL
expect_exit 0 judge.log "$TANREN" annotate sums.jsonl --judge arithmetic --out judged.jsonl
expect_text judge.log '2 groups: 1 written to judged.jsonl, 1 without a preference left out'
[ "$(cat judged.jsonl)" = '{"prompt":"2 + 2 = ?","responses":["#### 5","2 + 2 = 4\n#### 4","no"],"ranking":[2,1,3],"answer":"4","kind":"add"}' ] ||
  fail "the judge wrote $(cat judged.jsonl)"
expect_exit 2 judge.log "$TANREN" annotate sums.jsonl --judge arithmetic --out judged.jsonl
expect_text judge.log 'judged.jsonl is there already'

# --- bad input --------------------------------------------------------------------------------------------------
refused() {  # refused TEXT ARGUMENT...
  local text=$1
  shift
  expect_exit 2 refused.log "$TANREN" annotate "$@" </dev/null
  expect_text refused.log "$text"
}
refused 'a file of samples and --out are needed' samples.jsonl
refused 'a decision of annotator "ann" in the file of annotator "bob"' samples.jsonl --out a.jsonl --annotator bob
refused 'a record of format ranking in a file of labelled records' samples.jsonl --out a.jsonl --labels --annotator ann
refused '--force replaces a judge' samples.jsonl --out a.jsonl --force
refused '--labels and --annotator are for a person' samples.jsonl --out new.jsonl --judge arithmetic --labels
refused 'there is no such judge' samples.jsonl --out new.jsonl --judge me
refused 'needs the right answer of every prompt' samples.jsonl --out new.jsonl --judge arithmetic
refused 'no regular file' samples.jsonl --out /dev/null
echo '{"prompt":"p","responses":["a","b"],"models":["m"]}' >bad.jsonl
refused 'bad.jsonl:1: "models" names 1 writers of 2 responses' bad.jsonl --out new.jsonl
echo '{"prompt":"p"}' >bad.jsonl
refused 'bad.jsonl:1: the field "responses" is missing' bad.jsonl --out new.jsonl
echo '{"prompt":"p","responses":["a"]}' >bad.jsonl
refused 'there is nothing to decide' bad.jsonl --out new.jsonl
echo "{\"prompt\":\"p\",\"responses\":[$(seq -s, 1 27 | sed -E 's/[0-9]+/"&"/g')]}" >bad.jsonl
refused 'at most 26 can be ranked by letters' bad.jsonl --out new.jsonl
{ cat a.jsonl; echo 'no record'; cat a.jsonl; } >damaged.jsonl
refused 'damaged.jsonl:4: not JSON' samples.jsonl --out damaged.jsonl --annotator ann
refused 'compare two files of one kind' agreement one.jsonl one-labels.jsonl
refused 'decide about no answers in common' agreement one.jsonl a.jsonl
cat one.jsonl one.jsonl >twice.jsonl
refused 'twice.jsonl:4: decides about the same answers as twice.jsonl:1' agreement twice.jsonl one.jsonl
echo '{"prompt":"p","completion":"x"}' >bad.jsonl
refused 'a file to compare holds rankings only, or labels only' agreement bad.jsonl one.jsonl
head -c 100000 /dev/zero | tr '\0' 'A' | "$TANREN" annotate samples.jsonl --out long.jsonl >session.log
expect_text session.log 'a line of more than 16384 bytes'
echo "annotated"
