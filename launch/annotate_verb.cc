#include "launch/annotate_verb.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <string_view>
#include <vector>

#include "core/base/status.h"
#include "core/config/text.h"
#include "core/reward/judge.h"
#include "core/tokenizer/files.h"
#include "launch/annotate_session.h"
#include "launch/annotation_file.h"
#include "launch/sample_groups.h"
#include "launch/text_verbs.h"
#include "nlohmann/json.hpp"

namespace tanren {
namespace {

using Json = nlohmann::ordered_json;

void PrintLeftOut(const SampleCounts& counts) {
  if (counts.duplicates > 0) {
    std::printf("%lld duplicate responses left out\n", static_cast<long long>(counts.duplicates));
  }
  if (counts.unusable > 0) {
    std::printf("%lld empty responses left out: no stage can learn from them\n",
                static_cast<long long>(counts.unusable));
  }
}

// The lines of the groups that prefer something.
absl::StatusOr<std::string> JudgeAll(const AnnotateOptions& options, const std::vector<SampleGroup>& groups,
                                     int64_t* written) {
  std::string rankings;
  for (const SampleGroup& group : groups) {
    if (!group.answer.is_string()) {
      return InvalidInput(
          "%s: --judge %s needs the right answer of every prompt, and the field \"answer\" of %s is %s",
          options.samples, options.judge, config::Printable(group.prompt),
          group.answer.is_null() ? "missing" : "no text");
    }
    const std::vector<int32_t> ranks =
        JudgeArithmetic(group.prompt, group.answer.get_ref<const std::string&>(), group.responses);
    if (std::all_of(ranks.begin(), ranks.end(), [&](int32_t rank) { return rank == ranks.front(); }))
      continue;
    Json record = {{"prompt", group.prompt}, {"responses", group.responses}, {"ranking", ranks}};
    AddGroupFields(group, &record);
    absl::StrAppend(&rankings, record.dump(-1, ' ', false, Json::error_handler_t::replace), "\n");
    ++*written;
  }
  return rankings;
}

absl::Status AnnotateByJudge(const AnnotateOptions& options) {
  if (options.judge != "arithmetic") {
    return InvalidInput(
        "--judge %s: there is no such judge; use arithmetic, or leave --judge out to rank yourself",
        Quoted(options.judge));
  }
  if (options.labels || !options.annotator.empty()) {
    return InvalidInput(
        "--labels and --annotator are for a person; a judge ranks: leave them, or --judge, out");
  }
  struct stat info;
  if (!options.force && lstat(options.out.c_str(), &info) == 0) {
    return InvalidInput("%s is there already; give another --out, or --force to replace it", options.out);
  }
  SampleCounts counts;
  TANREN_ASSIGN_OR_RETURN(const std::vector<SampleGroup> groups, ReadSampleGroups(options.samples, &counts));
  int64_t written = 0;
  TANREN_ASSIGN_OR_RETURN(const std::string rankings, JudgeAll(options, groups, &written));
  if (written == 0) {
    return InvalidInput("%s: none of its %d groups prefers one response to another; nothing was written",
                        options.samples, groups.size());
  }
  TANREN_RETURN_IF_ERROR(WriteSmallFile(options.out, rankings));
  std::printf("%zu groups: %lld written to %s, %lld without a preference left out\n", groups.size(),
              static_cast<long long>(written), options.out.c_str(),
              static_cast<long long>(static_cast<int64_t>(groups.size()) - written));
  PrintLeftOut(counts);
  return absl::OkStatus();
}

absl::Status AnnotateByPerson(const AnnotateOptions& options) {
  if (options.force) {
    return InvalidInput("--force replaces a judge's file; what a person decided is kept: give another --out");
  }
  if (config::FirstInvalidUtf8(options.annotator) != std::string::npos) {
    return InvalidInput("--annotator %s is not UTF-8", Quoted(options.annotator));
  }
  SampleCounts read;
  TANREN_ASSIGN_OR_RETURN(const std::vector<SampleGroup> groups, ReadSampleGroups(options.samples, &read));
  TANREN_ASSIGN_OR_RETURN(
      AnnotationFile file,
      AnnotationFile::Open(options.out, options.labels ? ExampleFormat::kLabelled : ExampleFormat::kRanking,
                           options.annotator));
  PrintLeftOut(read);
  if (file.cut_bytes() > 0) {
    std::printf("%s: its last line was not written whole; %lld bytes cut off\n", options.out.c_str(),
                static_cast<long long>(file.cut_bytes()));
  }
  SessionOptions session;
  session.labels = options.labels;
  session.annotator = options.annotator;
  session.seed = options.seed;
  session.shuffle = options.shuffle;
  session.show_models = options.show_models;
  SessionCounts counts;
  const absl::Status ended = Annotate(session, groups, file, &counts);
  if (!ended.ok()) return At(options.samples, ended);
  std::printf("\n%lld decided now and %lld before, in %s; %lld left, %lld of them skipped\n",
              static_cast<long long>(counts.decided), static_cast<long long>(counts.before),
              options.out.c_str(), static_cast<long long>(counts.left),
              static_cast<long long>(counts.skipped));
  if (counts.too_small > 0) {
    std::printf("%lld prompts left out: fewer than two different answers\n",
                static_cast<long long>(counts.too_small));
  }
  if (counts.repeated > 0) {
    std::printf("%lld repeated in the samples, asked once\n", static_cast<long long>(counts.repeated));
  }
  return absl::OkStatus();
}

}  // namespace

int Annotate(const AnnotateOptions& options) {
  if (options.samples.empty() || options.out.empty()) {
    return WrongInput(InvalidInput("annotate: a file of samples and --out are needed"));
  }
  const absl::Status status = options.judge.empty() ? AnnotateByPerson(options) : AnnotateByJudge(options);
  if (status.ok()) return 0;
  const int wrong_input = WrongInput(status);
  return absl::IsResourceExhausted(status) ? 1 : wrong_input;
}

}  // namespace tanren
