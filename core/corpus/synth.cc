#include "core/corpus/synth.h"

#include <unistd.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/base/sha256.h"
#include "core/base/status.h"
#include "core/corpus/staged_directory.h"
#include "core/corpus/synth_recall.h"
#include "core/corpus/synth_wordings.h"
#include "core/tokenizer/files.h"
#include "core/tokenizer/json_file.h"

namespace tanren {
namespace {

using nlohmann::json;

constexpr const char* kRecordFile = "synth.json";

const char* DifficultyOf(const SynthProblem& entry) { return entry.harder ? "harder" : "same"; }

json TextOnly(const std::string& text) { return {{"text", text}}; }

json TextRecord(const SynthProblem& entry) {
  return {{"text", TextOf(entry.problem)},
          {"question", entry.problem.question},
          {"answer", absl::StrCat(AnswerOf(entry.problem))},
          {"kind", NameOf(entry.problem.kind)},
          {"difficulty", DifficultyOf(entry)}};
}

json HeldOutRecord(const SynthProblem& entry) {
  json record = TextRecord(entry);
  record["prompt"] = entry.problem.question;
  return record;
}

json PromptRecord(const SynthProblem& entry) {
  return {{"prompt", entry.problem.question},
          {"answer", absl::StrCat(AnswerOf(entry.problem))},
          {"kind", NameOf(entry.problem.kind)},
          {"difficulty", DifficultyOf(entry)}};
}

json SftRecord(const SynthProblem& entry) {
  json record = PromptRecord(entry);
  record["completion"] = absl::StrCat(WorkOf(entry.problem), "\n#### ", AnswerOf(entry.problem));
  return record;
}

json SftAnswerRecord(const SynthProblem& entry) {
  json record = PromptRecord(entry);
  record["completion"] = absl::StrCat("#### ", AnswerOf(entry.problem));
  return record;
}

json WordingRecord(const WordingProblem& entry) {
  return {{"prompt", SentencePrompt(entry.problem)},
          {"answer", absl::StrCat(AnswerOf(entry.problem))},
          {"kind", "wording"},
          {"completions", entry.seen}};
}

json HeldOutWordingRecord(const WordingProblem& entry) {
  return {{"prompt", SentencePrompt(entry.problem)},
          {"answer", absl::StrCat(AnswerOf(entry.problem))},
          {"kind", "wording"},
          {"seen", entry.seen},
          {"unseen", entry.unseen},
          {"wrong", entry.wrong}};
}

json RecallRecord(const RecallProblem& problem) {
  return {{"prompt", RecallPrompt(problem)},
          {"answer", RecallExpression(problem)},
          {"kind", "recall"},
          {"difficulty", absl::StrCat(problem.names.size())}};
}

json RecallExampleRecord(const RecallExample& entry) {
  json record = RecallRecord(entry.problem);
  record["completions"] = entry.right;
  return record;
}

json NamesOf(const std::vector<RecallError>& errors) {
  json names = json::array();
  for (const RecallError error : errors) names.push_back(NameOf(error));
  return names;
}

// Right answers tie, however they are worded.
json RecallRankingRecord(const RecallExample& entry) {
  json record = RecallRecord(entry.problem);
  record["responses"] = entry.right;
  record["ranking"] = std::vector<int>(entry.right.size(), 1);
  for (const std::string& sentence : entry.wrong) {
    record["responses"].push_back(sentence);
    record["ranking"].push_back(2);
  }
  record["errors"] = NamesOf(entry.errors);
  return record;
}

json HeldOutRecallRecord(const RecallCase& entry) {
  json record = RecallRecord(entry.problem);
  record["seen"] = entry.seen;
  record["unseen"] = entry.unseen;
  record["wrong"] = entry.wrong;
  record["errors"] = NamesOf(entry.errors);
  return record;
}

// A file in memory.
struct MadeFile {
  const char* name;
  const char* use;
  int64_t records = 0;
  std::string content;
};

template <class Entry, class ToJson>
MadeFile Make(const char* name, const char* use, const std::vector<Entry>& entries, ToJson to_json) {
  MadeFile file{name, use, static_cast<int64_t>(entries.size()), ""};
  for (const Entry& entry : entries) absl::StrAppend(&file.content, to_json(entry).dump(), "\n");
  return file;
}

std::vector<MadeFile> MakeFiles(const SynthSets& sets) {
  std::vector<MadeFile> files;
  files.push_back(Make("pretrain.jsonl", "texts for a base model", sets.pretrain, TextOnly));
  files.push_back(Make("train.jsonl", "worked problems as texts", sets.train, TextRecord));
  files.push_back(Make("sft.jsonl", "questions with worked answers", sets.sft, SftRecord));
  files.push_back(
      Make("sft_answers.jsonl", "the same questions, answers without steps", sets.sft, SftAnswerRecord));
  files.push_back(
      Make("wordings.jsonl", "instructions with several right answers", sets.wordings, WordingRecord));
  files.push_back(Make("prompts.jsonl", "questions to practise on", sets.prompts, PromptRecord));
  files.push_back(Make("heldout.jsonl", "questions to measure with", sets.held_out, HeldOutRecord));
  files.push_back(Make("heldout_wordings.jsonl", "right and wrong sentences to measure with",
                       sets.held_out_wordings, HeldOutWordingRecord));
  if (sets.recall.examples.empty()) return files;
  const RecallSets& recall = sets.recall;
  files.push_back(
      Make("recall_pretrain.jsonl", "who has how many, for a base model", recall.texts, TextOnly));
  files.push_back(
      Make("recall.jsonl", "who has how many, in several wordings", recall.examples, RecallExampleRecord));
  files.push_back(Make("recall_rankings.jsonl", "right sentences above nearly right ones", recall.rankings,
                       RecallRankingRecord));
  files.push_back(
      Make("recall_prompts.jsonl", "who has how many, to practise on", recall.prompts, RecallRecord));
  files.push_back(Make("heldout_recall.jsonl", "who has how many, right and wrong, to measure with",
                       recall.held_out, HeldOutRecallRecord));
  return files;
}

json Record(const SynthOptions& options) {
  return {{"format", "tanren.synth"},
          {"version", 4},
          {"seed", options.seed},
          {"digits", options.digits},
          {"problems", options.problems},
          {"pretrain", options.pretrain},
          {"sft", options.sft},
          {"wordings", options.wordings},
          {"prompts", options.prompts},
          {"harder_prompts", options.harder_prompts},
          {"longer_sft", options.longer_sft},
          {"held_out", options.held_out},
          {"held_out_wordings", options.held_out_wordings}};
}

// True when `out` holds these files, false when it may be written.
absl::StatusOr<bool> LookForEarlier(const SynthOptions& options, const json& record,
                                    const std::vector<MadeFile>& files) {
  if (IsAbsentOrEmpty(options.out)) return false;
  const std::string path = absl::StrCat(options.out, "/", kRecordFile);
  if (access(path.c_str(), F_OK) != 0) {
    return InvalidInput("%s is there already and was not made by `tanren data synth`; choose another --out",
                        options.out);
  }
  const absl::StatusOr<json> earlier = ReadJsonFile(path);
  const bool same = earlier.ok() && *earlier == record &&
                    std::all_of(files.begin(), files.end(), [&](const MadeFile& file) {
                      const absl::StatusOr<std::string> content =
                          ReadSmallFile(absl::StrCat(options.out, "/", file.name), int64_t{1} << 36);
                      return content.ok() && *content == file.content;
                    });
  if (same || options.force) return same;
  return InvalidInput(
      "%s holds other problems, or was changed; choose another --out, or replace it with --force",
      options.out);
}

SynthSummary Summarize(const SynthOptions& options, const SynthSets& sets,
                       const std::vector<MadeFile>& files) {
  const auto count_harder = [](const std::vector<SynthProblem>& problems) {
    return std::count_if(problems.begin(), problems.end(), [](const SynthProblem& p) { return p.harder; });
  };
  SynthSummary summary;
  for (const MadeFile& file : files) {
    summary.files.push_back({absl::StrCat(options.out, "/", file.name), file.records, file.use});
  }
  summary.harder_prompts = count_harder(sets.prompts);
  summary.harder_held_out = count_harder(sets.held_out);
  summary.example = TextOf(sets.train[0].problem);
  return summary;
}

}  // namespace

absl::StatusOr<SynthSummary> WriteSynthCorpus(const SynthOptions& options) {
  if (options.out.empty()) return InvalidInput("no output directory");
  TANREN_ASSIGN_OR_RETURN(const SynthSets sets, MakeSynthSets(options));
  const std::vector<MadeFile> files = MakeFiles(sets);
  json record = Record(options);
  // Without them the record is what it was before there were any.
  if (options.recall > 0) {
    record["recall"] = options.recall;
    record["recall_people"] = options.recall_people;
  }
  for (const MadeFile& file : files) record[file.name] = Sha256Hex(file.content);
  SynthSummary summary = Summarize(options, sets, files);
  TANREN_ASSIGN_OR_RETURN(summary.up_to_date, LookForEarlier(options, record, files));
  if (summary.up_to_date) return summary;

  TANREN_ASSIGN_OR_RETURN(const std::unique_ptr<StagedDirectory> staged,
                          StagedDirectory::Create(options.out));
  for (const MadeFile& file : files) {
    TANREN_RETURN_IF_ERROR(WriteSmallFile(absl::StrCat(staged->path(), "/", file.name), file.content));
  }
  TANREN_RETURN_IF_ERROR(
      WriteSmallFile(absl::StrCat(staged->path(), "/", kRecordFile), record.dump(1) + "\n"));
  TANREN_RETURN_IF_ERROR(staged->Commit(options.force));
  return summary;
}

}  // namespace tanren
