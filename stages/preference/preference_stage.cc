#include "stages/preference/preference_stage.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <numbers>
#include <utility>

#include "core/base/exact_sum.h"
#include "core/base/status.h"
#include "core/proto/config.pb.h"
#include "stages/common/checkpoint_model.h"
#include "stages/common/pair_lengths.h"
#include "stages/common/scoring.h"
#include "stages/losses/preference_losses.h"

namespace tanren {
namespace {

using Options = config::PreferenceConfig;

// fp32 sums of thousands of log-probabilities that cancel; a moved weight shows far above it.
constexpr double kStartTolerance = 1e-5;

double BetaOf(const Options& options) {
  if (options.beta() > 0) return options.beta();
  return options.loss() == Options::simpo ? 2 : 0.1;
}

std::unique_ptr<Loss> MakeLoss(const Options& options) {
  const double beta = BetaOf(options);
  switch (options.loss()) {
    case Options::dpo:
      if (options.reference_free()) {
        return std::make_unique<SequenceLossOf<DpoFunctor<true>>>(
            DpoFunctor<true>{beta, options.label_smoothing()});
      }
      return std::make_unique<SequenceLossOf<DpoFunctor<false>>>(
          DpoFunctor<false>{beta, options.label_smoothing()});
    case Options::robust: {
      const double smoothing = options.label_smoothing() > 0 ? options.label_smoothing() : 0.1;
      return std::make_unique<SequenceLossOf<RobustDpoFunctor>>(RobustDpoFunctor{beta, smoothing});
    }
    case Options::ipo:
      return std::make_unique<SequenceLossOf<IpoFunctor>>(
          IpoFunctor{beta, options.length_norm() == Options::mean});
    case Options::simpo:
      return std::make_unique<SequenceLossOf<SimpoFunctor>>(SimpoFunctor{beta, options.gamma()});
    case Options::orpo:
      return std::make_unique<SequenceLossOf<OrpoFunctor>>(OrpoFunctor{options.lambda()});
    case Options::kto:
      return std::make_unique<SequenceLossOf<KtoFunctor>>(
          KtoFunctor{beta, options.desirable_weight(), options.undesirable_weight()});
  }
  return nullptr;
}

// What the loss is where policy and reference are equal, on data of which the share `good` is labelled good
// (KTO); below 0: there is no reference.
double StartLoss(const Options& options, double good) {
  const double beta = BetaOf(options);
  switch (options.loss()) {
    case Options::dpo:
      return options.reference_free() ? -1 : std::numbers::ln2;
    case Options::robust:
      return std::numbers::ln2;
    case Options::ipo:
      return 1 / (4 * beta * beta);
    case Options::kto:
      return 0.5 * (options.desirable_weight() * good + options.undesirable_weight() * (1 - good));
    default:
      return -1;
  }
}

bool NeedsReference(const Options& options) {
  return options.loss() != Options::simpo && options.loss() != Options::orpo &&
         !(options.loss() == Options::dpo && options.reference_free());
}

absl::Status AddAnswer(const ChatTemplate& chat, const std::vector<Message>& prompt,
                       const std::string& response, Unit* unit) {
  TANREN_ASSIGN_OR_RETURN(const RenderedConversation rendered,
                          RenderResponse(chat, prompt, response, /*earlier_turns=*/false));
  if (rendered.trained_tokens() == 0) return InvalidInput("no trained token");
  AddSegment(rendered, /*whole=*/false, unit);
  return absl::OkStatus();
}

// The prompt of one unit with the answer of another, cut to `limit` tokens.
Unit Mismatch(const Unit& prompt, const Unit& answer, int64_t limit) {
  const auto first_trained = [](const Unit& unit) {
    return std::find(unit.mask.begin(), unit.mask.end(), 1) - unit.mask.begin();
  };
  const int64_t p = first_trained(prompt), a = first_trained(answer);
  Unit unit;
  unit.ids.assign(prompt.ids.begin(), prompt.ids.begin() + p + 1);
  unit.ids.insert(unit.ids.end(), answer.ids.begin() + a + 1, answer.ids.end());
  unit.targets.assign(prompt.targets.begin(), prompt.targets.begin() + p);
  unit.targets.insert(unit.targets.end(), answer.targets.begin() + a, answer.targets.end());
  unit.mask.assign(p, 0);
  unit.mask.insert(unit.mask.end(), answer.mask.begin() + a, answer.mask.end());
  const int64_t tokens = std::min<int64_t>(limit, unit.tokens());
  unit.ids.resize(tokens);
  unit.targets.resize(tokens);
  unit.mask.resize(tokens);
  unit.segment_lengths = {static_cast<int32_t>(tokens)};
  return unit;
}

}  // namespace

absl::Status MakePairUnit(const config::Config& config, const ChatTemplate& chat, const Example& example,
                          Unit* unit) {
  if (example.format != ExampleFormat::kPreference && example.format != ExampleFormat::kRanking) {
    return InvalidInput("a record of format %s has no chosen and rejected answer", NameOf(example.format));
  }
  // Of a ranking, the best against the worst.
  const auto best = std::min_element(example.ranks.begin(), example.ranks.end()) - example.ranks.begin();
  const auto worst = std::max_element(example.ranks.begin(), example.ranks.end()) - example.ranks.begin();
  const std::vector<Message> prompt = PromptMessages(config, example);
  TANREN_RETURN_IF_ERROR(AddAnswer(chat, prompt, example.responses[best], unit));
  return AddAnswer(chat, prompt, example.responses[worst], unit);
}

absl::Status MakeLabelledUnit(const config::Config& config, const ChatTemplate& chat, const Example& example,
                              Unit* unit) {
  if (example.format != ExampleFormat::kLabelled) {
    return InvalidInput("a record of format %s has no label", NameOf(example.format));
  }
  TANREN_RETURN_IF_ERROR(AddAnswer(chat, PromptMessages(config, example), example.responses[0], unit));
  unit->segment_columns.Get("label", 1, example.label ? 1.0f : 0.0f);
  return absl::OkStatus();
}

std::vector<Example> RankedPairs(std::vector<Example> examples) {
  std::vector<Example> pairs;
  for (Example& example : examples) {
    if (example.format != ExampleFormat::kRanking) {
      pairs.push_back(std::move(example));
      continue;
    }
    for (size_t better = 0; better < example.ranks.size(); ++better) {
      for (size_t worse = 0; worse < example.ranks.size(); ++worse) {
        if (example.ranks[better] >= example.ranks[worse]) continue;
        Example pair = example;
        pair.format = ExampleFormat::kPreference;
        pair.responses = {example.responses[better], example.responses[worse]};
        pair.ranks = {1, 2};
        pairs.push_back(std::move(pair));
      }
    }
  }
  return pairs;
}

absl::Status PreferenceStage::Declare(const config::Config& config, const Tokenizer& tokenizer,
                                      EngineOptions* engine) {
  std::string start;
  if (!config.init().from().empty()) {
    TANREN_ASSIGN_OR_RETURN(const CheckpointModel model,
                            DescribeCheckpoint("init.from", config.init().from(), tokenizer));
    TANREN_RETURN_IF_ERROR(CheckTemplate("init.from", model, config));
    start = model.path;
  }
  needs_reference_ = NeedsReference(config.preference());
  if (!needs_reference_) return absl::OkStatus();
  const bool own = !config.init().reference().empty();
  const std::string key = own ? "init.reference" : "init.from";
  const std::string& path = own ? config.init().reference() : config.init().from();
  if (path.empty()) {
    return InvalidInput(
        "init.from: preference.loss %s needs a policy to start from, which is its reference too (or name "
        "init.reference)",
        Options::Loss_Name(config.preference().loss()));
  }
  TANREN_ASSIGN_OR_RETURN(const CheckpointModel source, DescribeCheckpoint(key, path, tokenizer));
  if (source.shape.scalar_head) {
    return InvalidInput("%s: %s is a reward model, and a reference needs a vocabulary head", key,
                        source.path);
  }
  // No answer is longer than either.
  const int64_t longest =
      std::min(engine->models[0].shape.context_length, config.batch().micro_batch_tokens());
  if (source.shape.context_length < longest) {
    return InvalidInput(
        "%s: %s has a context of %d tokens and cannot score answers of up to %d; set model.context_length: "
        "%d",
        key, source.path, source.shape.context_length, longest, source.shape.context_length);
  }
  starts_at_reference_ = !start.empty() && SameCheckpoint(source.path, start);
  ModelOptions reference = engine->models[0];
  SetFrozen(source, "reference", &reference);
  engine->models.push_back(std::move(reference));
  return absl::OkStatus();
}

absl::Status PreferenceStage::Open(const config::Config& config, const Tokenizer& tokenizer,
                                   const Mesh& mesh) {
  if (config.data().examples().empty()) {
    return InvalidInput(
        "data.examples: stage preference needs at least one file of pairs, rankings or labels");
  }
  preference_ = &config.preference();
  kto_ = preference_->loss() == Options::kto;
  TANREN_ASSIGN_OR_RETURN(const ChatTemplate chat, ChatTemplateFromConfig(config, tokenizer));
  const MakeUnit make = [&](const Example& example, Unit* unit) {
    return kto_ ? MakeLabelledUnit(config, chat, example, unit) : MakePairUnit(config, chat, example, unit);
  };
  ExpandExamples expand;
  if (config.preference().pairs() == Options::all) expand = RankedPairs;
  std::vector<UnitReport> reports;
  TANREN_ASSIGN_OR_RETURN(std::vector<UnitSet> sets, ReadUnits(config, false, make, &reports, expand));
  TANREN_ASSIGN_OR_RETURN(std::vector<UnitSet> held_out, ReadUnits(config, true, make, &reports, expand));
  if (mesh.world->rank() == 0) {
    for (const UnitReport& report : reports) std::printf("%s\n", report.ToString().c_str());
    if (const std::string lengths = PairLengths(sets); !lengths.empty()) std::printf("%s\n", lengths.c_str());
    std::fflush(stdout);
  }
  UnitSource::Options options;
  options.shuffle = config.data().shuffle();
  options.seed = static_cast<uint64_t>(config.seed());
  examples_ = std::make_unique<UnitSource>(std::move(sets), options);
  options.endless = false;
  if (!held_out.empty()) validation_ = std::make_unique<UnitSource>(std::move(held_out), options);
  planner_options_ = PlannerOptions(config);
  planner_ = std::make_unique<StepPlanner>(examples_.get(), planner_options_);
  loss_ = MakeLoss(config.preference());
  TANREN_RETURN_IF_ERROR(RefuseGuards(config, /*measures_forgetting=*/true));
  return base_.Open(config, tokenizer);
}

// Policy against reference on answers that do not belong to their prompts: KTO's estimate of the KL.
absl::StatusOr<double> PreferenceStage::MismatchedKl(Engine& engine, Source& source, const StepPlan& plan) {
  std::vector<UnitRef> refs;
  for (const auto& micro_batch : plan.micro_batches)
    refs.insert(refs.end(), micro_batch.begin(), micro_batch.end());
  const int64_t limit =
      std::min(engine.model("policy").shape.context_length, engine.options().micro_batch_tokens);
  // Every rank makes the units of its own share; which rank scores a unit does not matter to the sum.
  ExactSum sum;
  int64_t scored = 0;
  const DealtRange mine = DealMicroBatches(static_cast<int64_t>(refs.size()), engine.mesh().data->rank(),
                                           engine.mesh().data->size());
  absl::Status local;
  for (int64_t i = mine.begin; i < mine.end && local.ok() && refs.size() > 1; ++i) {
    Unit prompt, answer;
    local = source.Load(refs[i], &prompt);
    local.Update(source.Load(refs[(i + 1) % refs.size()], &answer));
    if (!local.ok()) break;
    std::vector<MicroBatch> batches(1);
    local =
        PackMicroBatch({Mismatch(prompt, answer, limit)}, engine.options().micro_batch_tokens, &batches[0]);
    if (!local.ok()) break;
    local = AddLogProbabilities(engine, "policy", "policy_logp", 1, &batches);
    local.Update(AddLogProbabilities(engine, "reference", "reference_logp", 1, &batches));
    if (!local.ok()) break;
    const std::vector<float>& policy = *batches[0].columns.Find("policy_logp");
    const std::vector<float>& reference = *batches[0].columns.Find("reference_logp");
    for (const int32_t t : batches[0].trained) sum.Add(static_cast<double>(policy[t]) - reference[t]);
    ++scored;
  }
  TANREN_RETURN_IF_ERROR(AgreeStatus(*engine.mesh().world, "mismatched answers", local));
  Comm& data = *engine.mesh().data;
  data.AllReduce(Stream(), "mismatched answers", Buffer(&scored), 1, ReduceOp::kSum);
  data.AllReduce(Stream(), "mismatched answers", Buffer(sum.words()), ExactSum::kWords, ReduceOp::kSum);
  return scored > 0 ? std::max(0.0, sum.Round() / static_cast<double>(scored)) : 0;
}

absl::Status PreferenceStage::AddReference(Engine& engine, Source& source, const StepPlan* plan,
                                           std::vector<MicroBatch>* batches) {
  if (kto_) {
    if (plan != nullptr) {
      TANREN_ASSIGN_OR_RETURN(z0_, MismatchedKl(engine, source, *plan));
    }
    for (MicroBatch& batch : *batches) {
      batch.segment_columns.Get("z0", batch.segments(), static_cast<float>(z0_));
    }
  }
  if (!needs_reference_) return absl::OkStatus();
  return AddLogProbabilities(engine, "reference", "reference_logp", 1, batches);
}

absl::Status PreferenceStage::Begin(Engine& engine) {
  TANREN_RETURN_IF_ERROR(base_.Begin(engine));
  if (!starts_at_reference_) return absl::OkStatus();
  const std::string cursor = planner_->SaveState();
  TANREN_ASSIGN_OR_RETURN(const StepPlan plan, planner_->Next());
  TANREN_ASSIGN_OR_RETURN(std::vector<MicroBatch> batches,
                          LoadDealt(*examples_, plan, planner_options_.micro_batch_tokens, engine.mesh()));
  TANREN_RETURN_IF_ERROR(AddReference(engine, *examples_, &plan, &batches));
  TANREN_ASSIGN_OR_RETURN(const StepResult result, engine.Evaluate("policy", batches, *loss_));
  TANREN_RETURN_IF_ERROR(planner_->RestoreState(cursor));
  const double expected = StartLoss(*preference_, kto_ ? MetricOf(*loss_, result.metrics, "good") : 0);
  if (std::abs(result.loss - expected) <= kStartTolerance * std::max(1.0, expected)) return absl::OkStatus();
  return InvalidInput(
      "the loss of the first step is %.7f and not %.7f, as it is where policy and reference are the same: "
      "init.from and "
      "the reference differ; name the reference that is meant with init.reference",
      result.loss, expected);
}

absl::StatusOr<StageStep> PreferenceStage::Step(Engine& engine, int64_t, double learning_rate) {
  TANREN_ASSIGN_OR_RETURN(const StepPlan plan, planner_->Next());
  TANREN_ASSIGN_OR_RETURN(std::vector<MicroBatch> batches,
                          LoadDealt(*examples_, plan, planner_options_.micro_batch_tokens, engine.mesh()));
  TANREN_RETURN_IF_ERROR(AddReference(engine, *examples_, &plan, &batches));
  TANREN_ASSIGN_OR_RETURN(const StepResult result, engine.Train("policy", batches, *loss_, learning_rate));
  StageStep out;
  out.loss = result.loss;
  out.gradient_norm = result.gradient_norm;
  out.skipped = result.skipped;
  out.tokens = PlannedTokens(plan);
  for (size_t m = 0; m < result.metrics.size(); ++m) {
    out.metrics.push_back({loss_->metrics()[m], result.metrics[m]});
  }
  if (kto_) out.metrics.push_back({"z0", z0_});
  if (plan.oversize_units > 0)
    out.metrics.push_back({"oversize_units", static_cast<double>(plan.oversize_units)});
  return out;
}

absl::StatusOr<StageValidation> PreferenceStage::Validate(Engine& engine) {
  StageValidation validation;
  if (validation_) {
    validation_->Rewind();
    const auto prepare = [&](std::vector<MicroBatch>* batches) {
      return AddReference(engine, *validation_, nullptr, batches);
    };
    TANREN_ASSIGN_OR_RETURN(const MeasuredLoss measured, MeasureLoss(engine, "policy", *validation_,
                                                                     planner_options_, *loss_, 0, prepare));
    validation.metrics.push_back({"loss", measured.loss});
    for (size_t m = 0; m < measured.metrics.size(); ++m) {
      validation.metrics.push_back({loss_->metrics()[m], measured.metrics[m]});
    }
  }
  TANREN_RETURN_IF_ERROR(base_.Measure(engine, &validation));
  return validation;
}

std::map<std::string, std::string> PreferenceStage::SaveState() const {
  return {{"train", planner_->SaveState()}, {"forgetting", base_.SaveState()}};
}

absl::Status PreferenceStage::RestoreState(const std::map<std::string, std::string>& state) {
  const auto found = state.find("train");
  if (found == state.end()) return InvalidInput("the checkpoint has no data cursor of stage preference");
  const auto start = state.find("forgetting");
  if (start != state.end()) base_.RestoreState(start->second);
  return planner_->RestoreState(found->second);
}

void RegisterPreferenceStage() {
  RegisterStage("preference", [] { return std::make_unique<PreferenceStage>(); });
}

}  // namespace tanren
