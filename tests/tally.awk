# Reads ctest's JUnit file and says what was skipped and why, what failed, and, as the last line, the sums.
# Exits with 1 when something failed.
#
# A GoogleTest case counts once, also when it runs on several ranks or in several ctest tests of the same name; a
# ctest test whose output has no such cases counts once itself. A case passed only if it passed on all ranks.

function text(line) {
  gsub(/&lt;/, "<", line); gsub(/&gt;/, ">", line); gsub(/&quot;/, "\"", line); gsub(/&apos;/, "'", line)
  gsub(/&#9;/, "\t", line); gsub(/&amp;/, "\\&", line)
  return line
}

function attribute(line, name) {
  if (!match(line, " " name "=\"[^\"]*\"")) return ""
  return text(substr(line, RSTART + length(name) + 3, RLENGTH - length(name) - 4))
}

function note(name, outcome, why, key) {
  key = name == "" ? test : test ": " name
  cases_of_test++
  if (!(key in outcome_of)) order[++count] = key
  # The worst of several ranks stands: passed < skipped < failed.
  if (rank_of_outcome[outcome] >= rank_of_outcome[outcome_of[key]]) outcome_of[key] = outcome
  if (why != "") why_of[key] = why
}

BEGIN {
  rank_of_outcome["passed"] = 1; rank_of_outcome["skipped"] = 2; rank_of_outcome["failed"] = 3
}

/<testcase / {
  test = attribute($0, "name")
  test_status = attribute($0, "status")
  test_reason = ""; reason = ""; reading_reason = 0; cases_of_test = 0; failed_of_test = 0
}

/<failure/ { if (test_reason == "") test_reason = attribute($0, "message") }
/<skipped/ { if (test_reason == "") test_reason = attribute($0, "message") }

# GoogleTest 1.12 prints "file:line: Skipped", then the reason, then the case's closing line.
/: Skipped$/ { reading_reason = 1; reason = ""; next }

match($0, /\[       OK \] [^ ]+/)    { note(substr($0, RSTART + 13, RLENGTH - 13), "passed", "") }
match($0, /\[  SKIPPED \] [^ ]+ \(/) {
  note(substr($0, RSTART + 13, RLENGTH - 15), "skipped", reason)
  reason = ""; reading_reason = 0
}
match($0, /\[  FAILED  \] [^ ]+ \(/) { failed_of_test++; note(substr($0, RSTART + 13, RLENGTH - 15), "failed", "") }
match($0, /\[  FAILED  \] [^ ]+, where .* \([0-9]+ ms\)/) {
  split(substr($0, RSTART + 13), words, ",")
  failed_of_test++
  note(words[1], "failed", "")
}

reading_reason && $0 != "" { reason = reason == "" ? text($0) : reason " " text($0) }

/<\/testcase>/ {
  if (test_status == "notrun" || test_status == "disabled") {
    note("", "skipped", test_reason == "" ? test_status : test_reason)
  } else if (test_status == "fail" && failed_of_test == 0) {
    # A crash, a time-out or a rank that ended badly: no case owns it.
    note("", "failed", test_reason == "" ? "exit code" : test_reason)
  } else if (cases_of_test == 0) {
    note("", test_status == "run" ? "passed" : "failed", test_reason)
  }
}

END {
  for (i = 1; i <= count; i++) sum[outcome_of[order[i]]]++
  if (sum["skipped"] > 0) {
    print ""
    print "skipped:"
    for (i = 1; i <= count; i++) {
      if (outcome_of[order[i]] != "skipped") continue
      # The lines of several ranks mix: one of them has the reason.
      print "  " order[i] " (" (why_of[order[i]] == "" ? "no reason given" : why_of[order[i]]) ")"
    }
  }
  if (sum["failed"] > 0) {
    print ""
    print "failed:"
    for (i = 1; i <= count; i++) {
      if (outcome_of[order[i]] == "failed") {
        print "  " order[i] (why_of[order[i]] != "" ? " (" why_of[order[i]] ")" : "")
      }
    }
  }
  print ""
  printf "%d passed, %d failed, %d skipped\n", sum["passed"], sum["failed"], sum["skipped"]
  exit sum["failed"] > 0 || count == 0
}
