#include "core/evaluation/runner.h"

#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>

#include "core/base/sha256.h"
#include "core/base/status.h"

namespace tanren {
namespace {

double SecondsSince(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

// What turn `turn` of a case asks, after the replies that were chosen before.
Question QuestionOf(const EvaluationCase& one, size_t turn, const std::vector<std::string>& replies) {
  Question question;
  question.case_index = one.index;
  question.turn = static_cast<int64_t>(turn);
  question.before = one.before;
  for (size_t t = 0; t < turn; ++t) {
    question.before.push_back({MessageRole::kUser, one.turns[t].user});
    question.before.push_back({MessageRole::kAssistant, replies[t]});
  }
  question.text = one.turns[turn].user;
  question.fields = one.fields;
  return question;
}

ReplyTexts TextsOf(const Replies& replies) {
  ReplyTexts out;
  for (const Reply& reply : replies.replies) out.texts.push_back(reply.text);
  return out;
}

Ballot BallotOf(const TurnRecord& turn) {
  Ballot ballot;
  ballot.answers = turn.answers;
  for (const Reply& reply : turn.replies.replies) {
    ballot.mean_logps.push_back(reply.mean_logp());
    ballot.scores.push_back(reply.score);
  }
  return ballot;
}

bool IsNumeric(const Strategy& strategy) { return strategy.check.checker() == config::CheckConfig::numeric; }

absl::Status Oversize(const EvaluationCase& one, const Prompt& prompt, int64_t context_tokens) {
  const std::string turn = one.turns.size() > 1 ? absl::StrCat(", turn ", prompt.turn + 1) : "";
  return InvalidInput(
      "%s%s: a prompt of %d tokens leaves no room for an answer in a context of %d; shorten it, or set "
      "oversize: count",
      one.place, turn, prompt.tokens.size(), context_tokens);
}

// Outputs of a part that takes each input for itself.
template <class Input, class Run>
absl::StatusOr<std::vector<OrderedJson>> ReplayEach(const std::vector<TraceLine>& lines, const Run& run) {
  std::vector<OrderedJson> outputs;
  for (const TraceLine& line : lines) {
    Input input;
    TANREN_RETURN_IF_ERROR(FromJson(line.input, &input));
    TANREN_ASSIGN_OR_RETURN(const auto output, run(input));
    outputs.push_back(ToJson(output));
  }
  return outputs;
}

}  // namespace

absl::StatusOr<std::vector<Prompt>> RenderCase(const Prompter& prompter, const EvaluationCase& one) {
  std::vector<Prompt> prompts;
  const std::vector<std::string> replies(one.turns.size());
  for (size_t t = 0; t < one.turns.size(); ++t) {
    absl::StatusOr<Prompt> prompt = prompter.Render(QuestionOf(one, t, replies));
    if (!prompt.ok()) return At(one.place, prompt.status());
    prompts.push_back(*std::move(prompt));
  }
  return prompts;
}

absl::StatusOr<int64_t> PlanSequenceTokens(const config::SuiteConfig& suite,
                                           const std::vector<std::vector<EvaluationCase>>& tests,
                                           const PromptModel& prompts, int64_t context_tokens) {
  int64_t longest = 0;
  for (int t = 0; t < suite.tests_size(); ++t) {
    for (const config::StrategyConfig& config : suite.tests(t).strategies()) {
      const Strategy strategy = ResolveStrategy(suite, suite.tests(t), config);
      const absl::StatusOr<Prompter> prompter = Prompter::Make(strategy.prompt, prompts);
      if (!prompter.ok()) return At(absl::StrCat("test ", suite.tests(t).name()), prompter.status());
      for (const EvaluationCase& one : tests[t]) {
        TANREN_ASSIGN_OR_RETURN(const std::vector<Prompt> rendered, RenderCase(*prompter, one));
        for (const Prompt& prompt : rendered) {
          const int64_t tokens = static_cast<int64_t>(prompt.tokens.size());
          if (tokens < context_tokens) {
            longest = std::max(longest, tokens + strategy.most_tokens());
          } else if (suite.oversize() == config::SuiteConfig::refuse) {
            return Oversize(one, prompt, context_tokens);
          }
        }
        if (rendered.size() > 1) longest = context_tokens;
      }
    }
  }
  return std::min(longest, context_tokens);
}

// One strategy with what it needs, answering with one model.
struct Runner::Chain {
  const config::TestConfig* test;
  const Strategy* strategy;
  AnswerModel* model;
  bool traced;
  std::optional<Prompter> prompter;
  std::optional<AnswerChecker> checker;
  AnswerForm form;
  std::map<std::string, std::vector<TraceLine>> lines;  // by part, not yet written

  template <class Input, class Output>
  void Note(const char* part, const Prompt& prompt, const Input& input, const Output& output) {
    if (traced) lines[part].push_back({prompt.case_index, prompt.turn, ToJson(input), ToJson(output)});
  }
};

Runner::Runner(const RunnerOptions& options) : options_(options) {
  if (options.prompts != nullptr) line_ends_ = LineEnds(*options.prompts->tokenizer);
}

absl::StatusOr<StrategyRecord> Runner::Run(const config::TestConfig& test,
                                           const std::vector<EvaluationCase>& cases,
                                           const Strategy& strategy) {
  if (drawn_test_ != test.name()) drawn_.clear();
  drawn_test_ = test.name();
  Chain chain{&test, &strategy, options_.model, options_.trace->on(), {}, {}, {}, {}};
  // They read files and look for programs, which one rank may lack.
  absl::StatusOr<Prompter> prompter = Prompter::Make(strategy.prompt, *options_.prompts);
  absl::StatusOr<AnswerChecker> checker = AnswerChecker::Make(strategy.check, test.harmful());
  absl::Status made = prompter.status();
  made.Update(checker.status());
  TANREN_RETURN_IF_ERROR(AgreeStatus(*options_.world, "strategy", made));
  chain.prompter = *std::move(prompter);
  chain.checker = *std::move(checker);
  chain.form = {options_.prompts->tokenizer, chain.prompter->stops(), line_ends_, strategy.marker};
  absl::Status begun;
  if (options_.world->rank() == 0) begun = options_.trace->Begin(test.name(), strategy.name);
  TANREN_RETURN_IF_ERROR(AgreeStatus(*options_.world, "trace", begun));
  TANREN_ASSIGN_OR_RETURN(StrategyRecord record, RunChain(chain, cases));
  if (options_.versus == nullptr) return record;
  chain.model = options_.versus;
  chain.traced = false;
  TANREN_ASSIGN_OR_RETURN(const StrategyRecord other, RunChain(chain, cases));
  CompareWith(other, &record);
  return record;
}

absl::StatusOr<StrategyRecord> Runner::RunChain(Chain& chain, const std::vector<EvaluationCase>& cases) {
  StrategyRecord record;
  record.cases.resize(cases.size());
  size_t turns = 0;
  for (const EvaluationCase& one : cases) turns = std::max(turns, one.turns.size());
  for (size_t t = 0; t < turns; ++t) TANREN_RETURN_IF_ERROR(RunTurn(chain, cases, t, &record));
  for (size_t i = 0; i < cases.size(); ++i) {
    CaseRecord& out = record.cases[i];
    out.checked = cases[i].checked();
    out.right = !out.oversize && std::ranges::all_of(out.turns, [](const TurnRecord& turn) {
      return !turn.reference.has_value() || (turn.verdict() != nullptr && turn.verdict()->right);
    });
  }
  return record;
}

absl::StatusOr<std::vector<TurnRecord*>> Runner::MakePrompts(Chain& chain,
                                                             const std::vector<EvaluationCase>& cases,
                                                             size_t turn, StrategyRecord* record) {
  std::vector<TurnRecord*> out;
  for (size_t i = 0; i < cases.size(); ++i) {
    CaseRecord& one = record->cases[i];
    if (one.oversize || turn >= cases[i].turns.size()) continue;
    std::vector<std::string> replies;
    for (const TurnRecord& before : one.turns) {
      replies.push_back(before.chosen() == nullptr ? "" : before.chosen()->text);
    }
    const Question question = QuestionOf(cases[i], turn, replies);
    absl::StatusOr<Prompt> prompt = chain.prompter->Render(question);
    if (!prompt.ok()) return At(cases[i].place, prompt.status());
    chain.Note("prompt", *prompt, question, *prompt);
    TurnRecord& made = one.turns.emplace_back();
    made.prompt = *std::move(prompt);
    made.reference = cases[i].turns[turn].answer;
    const int64_t tokens = static_cast<int64_t>(made.prompt.tokens.size());
    one.oversize = tokens >= chain.model->sequence_tokens();
    if (!one.oversize) {
      out.push_back(&made);
    } else if (options_.suite->oversize() == config::SuiteConfig::refuse) {
      return Oversize(cases[i], made.prompt, chain.model->sequence_tokens());
    }
  }
  return out;
}

absl::Status Runner::RunTurn(Chain& chain, const std::vector<EvaluationCase>& cases, size_t turn,
                             StrategyRecord* record) {
  TANREN_ASSIGN_OR_RETURN(const std::vector<TurnRecord*> turns, MakePrompts(chain, cases, turn, record));
  std::vector<Prompt> prompts;
  for (const TurnRecord* one : turns) prompts.push_back(one->prompt);
  TANREN_ASSIGN_OR_RETURN(Drawn drawn, Draw(chain, prompts));
  record->seconds += drawn.seconds;
  const char* draw = chain.strategy->beams ? "beam" : "sample";
  const char* choose = chain.strategy->votes() ? "vote" : "select";
  std::vector<Checkable> checkables;
  for (size_t i = 0; i < turns.size(); ++i) {
    TurnRecord& one = *turns[i];
    chain.Note(draw, one.prompt, one.prompt, drawn.replies[i]);
    one.replies = std::move(drawn.replies[i]);
    record->tokens += one.replies.generated_tokens;
    const ReplyTexts texts = TextsOf(one.replies);
    Answers answers = Extract(chain.strategy->marker, IsNumeric(*chain.strategy), texts);
    chain.Note("extract", one.prompt, texts, answers);
    one.answers = std::move(answers.answers);
    const EvaluationCase& its_case = cases[one.prompt.case_index];
    checkables.push_back({one.prompt.text, one.reference, its_case.harmful, texts.texts, one.answers});
  }
  TANREN_ASSIGN_OR_RETURN(std::vector<Verdicts> verdicts, CheckAll(*chain.checker, checkables));
  for (size_t i = 0; i < turns.size(); ++i) {
    TurnRecord& one = *turns[i];
    chain.Note("check", one.prompt, checkables[i], verdicts[i]);
    one.verdicts = std::move(verdicts[i].verdicts);
    const Ballot ballot = BallotOf(one);
    one.choice = Choose(chain.strategy->choice, ballot);
    chain.Note(choose, one.prompt, ballot, one.choice);
  }
  return WriteTrace(chain);
}

absl::StatusOr<Runner::Drawn> Runner::Draw(Chain& chain, std::span<const Prompt> prompts) {
  const Strategy& strategy = *chain.strategy;
  Sha256 hash;
  hash.UpdateField(chain.model == options_.versus ? "versus" : "policy");
  hash.UpdateField(strategy.beams ? "beam" : "sample");
  hash.UpdateField(strategy.beams ? strategy.beam.SerializeAsString() : strategy.sample.SerializeAsString());
  hash.UpdateField(strategy.marker);
  for (const Prompt& prompt : prompts) hash.UpdateField(DumpJson(ToJson(prompt)));
  const std::string key = hash.HexDigest();
  if (const auto found = drawn_.find(key); found != drawn_.end()) return found->second;
  Drawn drawn;
  const auto begin = std::chrono::steady_clock::now();
  if (!prompts.empty()) {
    TANREN_ASSIGN_OR_RETURN(
        drawn.replies, strategy.beams ? SearchReplies(*chain.model, chain.form, strategy.beam, prompts)
                                      : SampleReplies(*chain.model, chain.form, strategy.sample, prompts));
  }
  drawn.seconds = SecondsSince(begin);
  drawn_.emplace(key, drawn);
  return drawn;
}

// A program may take its time and need not say the same twice: each answer is checked once, by one rank.
absl::StatusOr<std::vector<Verdicts>> Runner::CheckAll(const AnswerChecker& checker,
                                                       const std::vector<Checkable>& inputs) {
  Comm& world = *options_.world;
  OrderedJson mine = OrderedJson::array();
  for (size_t i = world.rank(); i < inputs.size(); i += world.size()) {
    mine.push_back(ToJson(checker.Check(inputs[i])));
  }
  const std::vector<std::string> all = AllGatherStrings(world, "verdicts", DumpJson(mine));
  std::vector<Verdicts> out(inputs.size());
  absl::Status read;
  for (int r = 0; r < world.size(); ++r) {
    const OrderedJson list = OrderedJson::parse(all[r], nullptr, /*allow_exceptions=*/false);
    for (size_t i = r, at = 0; i < inputs.size(); i += world.size(), ++at) {
      read.Update(FromJson(list[at], &out[i]));
    }
  }
  TANREN_RETURN_IF_ERROR(read);
  return out;
}

void Runner::CompareWith(const StrategyRecord& other, StrategyRecord* record) const {
  const auto last = [](const CaseRecord& one) -> const Reply* {
    return one.oversize || one.turns.empty() ? nullptr : one.turns.back().chosen();
  };
  for (size_t i = 0; i < record->cases.size(); ++i) {
    const Reply* own = last(record->cases[i]);
    const Reply* its = last(other.cases[i]);
    if (own == nullptr || its == nullptr) continue;
    record->cases[i].win = own->score > its->score ? 1 : own->score == its->score ? 0.5 : 0;
  }
}

absl::Status Runner::WriteTrace(Chain& chain) {
  if (!chain.traced) return absl::OkStatus();
  absl::Status written;
  for (const auto& [part, lines] : std::exchange(chain.lines, {})) {
    if (options_.world->rank() != 0) continue;
    written.Update(options_.trace->Append(chain.test->name(), chain.strategy->name, part, lines));
  }
  return AgreeStatus(*options_.world, "trace", written);
}

absl::StatusOr<std::vector<OrderedJson>> Runner::Replay(const config::TestConfig& test,
                                                        const Strategy& strategy, const std::string& part,
                                                        const std::vector<TraceLine>& lines) {
  if (part == "extract") {
    return ReplayEach<ReplyTexts>(lines, [&](const ReplyTexts& input) -> absl::StatusOr<Answers> {
      return Extract(strategy.marker, IsNumeric(strategy), input);
    });
  }
  if (part == "vote" || part == "select") {
    return ReplayEach<Ballot>(
        lines, [&](const Ballot& input) -> absl::StatusOr<Choice> { return Choose(strategy.choice, input); });
  }
  if (part == "check") return ReplayCheck(test, strategy, lines);
  const absl::StatusOr<Prompter> prompter = Prompter::Make(strategy.prompt, *options_.prompts);
  TANREN_RETURN_IF_ERROR(AgreeStatus(*options_.world, "strategy", prompter.status()));
  if (part == "prompt") {
    return ReplayEach<Question>(lines, [&](const Question& input) { return prompter->Render(input); });
  }
  std::vector<Prompt> prompts;
  absl::Status read;
  for (const TraceLine& line : lines) read.Update(FromJson(line.input, &prompts.emplace_back()));
  TANREN_RETURN_IF_ERROR(AgreeStatus(*options_.world, "trace", read));
  Chain chain{&test, &strategy, options_.model, false, {}, {}, {}, {}};
  chain.form = {options_.prompts->tokenizer, prompter->stops(), line_ends_, strategy.marker};
  TANREN_ASSIGN_OR_RETURN(const Drawn drawn, Draw(chain, prompts));
  std::vector<OrderedJson> outputs;
  for (const Replies& one : drawn.replies) outputs.push_back(ToJson(one));
  return outputs;
}

absl::StatusOr<std::vector<OrderedJson>> Runner::ReplayCheck(const config::TestConfig& test,
                                                             const Strategy& strategy,
                                                             const std::vector<TraceLine>& lines) {
  const absl::StatusOr<AnswerChecker> checker = AnswerChecker::Make(strategy.check, test.harmful());
  absl::Status made = checker.status();
  std::vector<Checkable> inputs;
  for (const TraceLine& line : lines) made.Update(FromJson(line.input, &inputs.emplace_back()));
  TANREN_RETURN_IF_ERROR(AgreeStatus(*options_.world, "strategy", made));
  TANREN_ASSIGN_OR_RETURN(const std::vector<Verdicts> verdicts, CheckAll(*checker, inputs));
  std::vector<OrderedJson> outputs;
  for (const Verdicts& one : verdicts) outputs.push_back(ToJson(one));
  return outputs;
}

}  // namespace tanren
