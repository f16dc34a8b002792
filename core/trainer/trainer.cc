#include "core/trainer/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <iterator>
#include <utility>

#include "absl/strings/numbers.h"
#include "core/activity/activity.h"
#include "core/base/status.h"
#include "core/checkpoint/resume.h"
#include "core/checkpoint/save.h"
#include "core/proto/config.pb.h"
#include "core/report/append_file.h"
#include "core/trainer/pieces.h"
#include "core/trainer/requests.h"
#include "core/trainer/setup.h"

namespace tanren {
namespace {

constexpr int64_t kMaxSkippedSteps = 10;  // in a row: the run has diverged

double Now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Multiply-adds of one token through the model, forward and backward: 6 a parameter of a product, and causal
// attention's 6 * layers * heads * head_dim * length (half of each key is masked).
double FlopsPerToken(const ModelShape& shape, int64_t sequence_length) {
  const double attention = 6.0 * shape.layers * shape.heads * shape.head_dim * sequence_length;
  return 6.0 * MatmulParameters(shape) + attention;
}

// Rank 0's view of the file system decides.
int64_t BroadcastInt(Comm& world, int64_t value) {
  world.Broadcast(Stream(), "rank 0's value", Buffer(&value), 1, 0);
  return value;
}

absl::StatusOr<double> NumberOf(const CheckpointReader& reader, const std::string& key) {
  TANREN_ASSIGN_OR_RETURN(const std::string text, reader.State(key));
  double value = 0;
  if (!absl::SimpleAtod(View(std::string_view(text)), &value)) {
    return InvalidInput("%s: state %s is not a number", reader.path(), key);
  }
  return value;
}

}  // namespace

Trainer::Trainer(const TrainerOptions& options)
    : options_(options),
      config_(*options.config),
      engine_(*options.engine),
      stage_(*options.stage),
      schedule_(ScheduleFromConfig(*options.config)) {}

Trainer::~Trainer() = default;

std::vector<TensorPiece> Trainer::Pieces(std::vector<std::unique_ptr<StateAccess>>* accesses) {
  std::vector<TensorPiece> pieces;
  for (const ModelOptions& model : engine_.options().models) {
    if (!model.saved) continue;
    accesses->push_back(engine_.State(model.name));
    std::vector<TensorPiece> more = ToTensorPieces(accesses->back()->pieces());
    std::move(more.begin(), more.end(), std::back_inserter(pieces));
  }
  return pieces;
}

absl::Status Trainer::Start() {
  const std::string& run_directory = config_.run_directory();
  TANREN_ASSIGN_OR_RETURN(lock_, RunLock::AcquireForJob(world(), run_directory, "tanren train"));
  run_id_ = BroadcastString(world(), "run id", RandomSuffix(), 0);
  absl::Status swept;
  if (lock_) swept = SweepLeftovers(*lock_).status();
  TANREN_RETURN_IF_ERROR(AgreeStatus(world(), "sweep", swept));
  absl::StatusOr<std::map<std::string, std::string>> files = TokenizerFilesOf(*options_.tokenizer);
  TANREN_RETURN_IF_ERROR(AgreeStatus(world(), "tokenizer files", files.status()));
  tokenizer_files_ = *std::move(files);
  TANREN_RETURN_IF_ERROR(AgreeStatus(world(), "sample prompts", SampleRequests().status()));
  TANREN_RETURN_IF_ERROR(Resume());
  RunLog::Options log;
  log.run_directory = run_directory;
  log.rank = world().rank();
  log.ranks = world().size();
  log.threads = options_.threads;
  log.steps = config_.train().steps();
  log.peak_flops_per_second = options_.peak_flops_per_second;
  log.resumed_step = step_;
  log.tensorboard = config_.log().tensorboard();
  log.command_line = options_.command_line;
  absl::StatusOr<std::unique_ptr<RunLog>> opened = RunLog::Open(log);
  TANREN_RETURN_IF_ERROR(AgreeStatus(world(), "run log", opened.status()));
  log_ = *std::move(opened);
  absl::Status written;
  if (world().rank() == 0) written = ReplaceSmallFile(run_directory + "/resolved.yaml", options_.config_text);
  return AgreeStatus(world(), "resolved config", written);
}

// The models that are filled from the checkpoint `from`: on a fresh start all of them, else those that are
// not saved. One model a pass, for several may be filled from the same tensors.
absl::Status Trainer::LoadInitialWeights(const std::string& from, bool fresh) {
  absl::StatusOr<std::string> step = from;
  if (world().rank() == 0) step = FindStep(from);
  TANREN_RETURN_IF_ERROR(AgreeStatus(world(), "choose checkpoint", step.status()));
  const std::string step_directory = BroadcastString(world(), "checkpoint", *step, 0);
  TANREN_ASSIGN_OR_RETURN(std::unique_ptr<CheckpointReader> reader,
                          CheckpointReader::Open(world(), step_directory));
  for (const ModelOptions& model : engine_.options().models) {
    if (model.init_from != from || (model.saved && !fresh)) continue;
    const std::string& source = model.init_model.empty() ? model.name : model.init_model;
    if (!model.saved) TANREN_RETURN_IF_ERROR(CheckSource(model, reader->Identity()));
    const std::unique_ptr<StateAccess> access = engine_.State(model.name);
    std::vector<TensorPiece> weights;
    for (TensorPiece& piece : ToTensorPieces(access->pieces())) {
      if (piece.role != Role::kWeight) continue;
      piece.model = source;
      weights.push_back(std::move(piece));
    }
    // Moments of the run that made the weights stay behind: this run starts its own.
    ReadOptions read;
    read.may_be_new = [&](const TensorInfo& tensor) {
      return std::ranges::count(model.new_tensors, tensor.name) > 0;
    };
    read.may_be_dropped = [&](const TensorInfo& tensor) {
      return tensor.role != Role::kWeight || tensor.model != source ||
             std::ranges::count(model.dropped_tensors, tensor.name) > 0;
    };
    TANREN_RETURN_IF_ERROR(
        At(absl::StrCat("weights of model ", model.name), reader->Read(world(), weights, read).status()));
    access->Commit();
  }
  return absl::OkStatus();
}

// A model that is read anew at every start must be the same one each time.
absl::Status Trainer::CheckSource(const ModelOptions& model, const std::string& identity) {
  const auto [known, is_new] = sources_.emplace(model.name, identity);
  if (is_new || known->second == identity) return absl::OkStatus();
  return InvalidInput(
      "%s is not the checkpoint that this run's model %s was read from (its manifest had the SHA-256 %s, now "
      "it is "
      "%s); restore it, or start a new run",
      model.init_from, model.name, known->second, identity);
}

absl::Status Trainer::LoadModels(bool fresh) {
  std::vector<std::string> done;
  for (const ModelOptions& model : engine_.options().models) {
    if (model.init_from.empty() || (model.saved && !fresh)) continue;
    if (std::ranges::count(done, model.init_from) > 0) continue;
    TANREN_RETURN_IF_ERROR(LoadInitialWeights(model.init_from, fresh));
    done.push_back(model.init_from);
  }
  return absl::OkStatus();
}

absl::Status Trainer::Resume() {
  const Doing loading(Phase::kLoad);
  LoadRequest request;
  request.run_dir = config_.run_directory();
  request.resume = options_.resume;
  std::vector<std::unique_ptr<StateAccess>> accesses;
  TANREN_ASSIGN_OR_RETURN(LoadResult loaded, LoadCheckpoint(world(), request, [&](const CheckpointReader&) {
                            accesses.clear();
                            return absl::StatusOr<std::vector<TensorPiece>>(Pieces(&accesses));
                          }));
  if (world().rank() == 0) {
    for (const std::string& warning : loaded.warnings) std::fprintf(stderr, "warning: %s\n", warning.c_str());
  }
  if (loaded.reader == nullptr) return LoadModels(/*fresh=*/true);
  fresh_ = false;
  TANREN_RETURN_IF_ERROR(AgreeStatus(world(), "resumed state", RestoreState(*loaded.reader)));
  for (auto& access : accesses) access->Commit();
  TANREN_RETURN_IF_ERROR(LoadModels(/*fresh=*/false));
  // A checkpoint of another run is not yet in this run's directory.
  std::error_code error;
  const std::filesystem::path home = std::filesystem::path(loaded.reader->path()).parent_path();
  if (std::filesystem::equivalent(home, config_.run_directory(), error)) saved_step_ = step_;
  saved_step_ = BroadcastInt(world(), saved_step_);
  TANREN_RETURN_IF_ERROR(AgreeStatus(world(), "newest step", CheckNewest()));
  const MeshShape& was = loaded.reader->manifest().mesh;
  if (world().rank() == 0) {
    std::printf("resumed %s at step %lld%s\n", loaded.reader->path().c_str(), static_cast<long long>(step_),
                was == engine_.mesh().shape ? ""
                                            : absl::StrCat(" (saved at ", was.ToString(), ", now ",
                                                           engine_.mesh().shape.ToString(), ")")
                                                  .c_str());
    std::fflush(stdout);
  }
  return absl::OkStatus();
}

// Going on from an older step of this very run would meet its later commits again, which nothing overwrites.
absl::Status Trainer::CheckNewest() const {
  if (lock_ == nullptr || saved_step_ != step_ || options_.resume == "auto") return absl::OkStatus();
  TANREN_ASSIGN_OR_RETURN(const std::vector<std::string> steps, ListSteps(lock_->run()));
  if (steps.empty() || ParseStepName(steps.front()) <= step_) return absl::OkStatus();
  return InvalidInput(
      "--resume: %s has a later step than %d, %s, which would not be overwritten; choose another "
      "run_directory for the "
      "new branch",
      config_.run_directory(), step_, steps.front());
}

absl::Status Trainer::RestoreState(const CheckpointReader& reader) {
  step_ = reader.manifest().step;
  run_id_ = reader.manifest().run_id;
  if (reader.manifest().stage != config_.stage()) {
    return InvalidInput(
        "%s was saved by stage %s and cannot be resumed by stage %s; start it from its weights with "
        "init.from",
        reader.path(), reader.manifest().stage, config_.stage());
  }
  TANREN_ASSIGN_OR_RETURN(tokens_, NumberOf(reader, "trainer.tokens"));
  for (const ModelOptions& model : engine_.options().models) {
    if (!model.trainable) continue;
    TANREN_ASSIGN_OR_RETURN(const double updates, NumberOf(reader, "updates." + model.name));
    engine_.set_updates(model.name, static_cast<int64_t>(updates));
  }
  std::map<std::string, std::string> stage_state;
  for (const auto& [key, value] : reader.state()) {
    if (key.rfind("stage.", 0) == 0) stage_state[key.substr(6)] = value;
    if (key.rfind("source.", 0) == 0) sources_[key.substr(7)] = value;
  }
  return stage_.RestoreState(stage_state);
}

std::map<std::string, std::string> Trainer::StateToSave() const {
  std::map<std::string, std::string> state;
  state["trainer.tokens"] = absl::StrFormat("%.0f", tokens_);
  for (const ModelOptions& model : engine_.options().models) {
    if (model.trainable) state["updates." + model.name] = std::to_string(engine_.updates(model.name));
  }
  for (const auto& [key, value] : stage_.SaveState()) state["stage." + key] = value;
  for (const auto& [model, identity] : sources_) state["source." + model] = identity;
  return state;
}

absl::Status Trainer::Save() {
  if (saved_step_ == step_) return absl::OkStatus();
  const Doing saving(Phase::kSave);
  std::vector<std::unique_ptr<StateAccess>> accesses;
  const std::vector<TensorPiece> pieces = Pieces(&accesses);
  SaveRequest request;
  request.run_dir = config_.run_directory();
  request.run_id = run_id_;
  request.stage = config_.stage();
  request.step = step_;
  request.mesh = engine_.mesh().shape;
  request.pieces = pieces;
  request.state = StateToSave();
  request.config_text = options_.config_text;
  request.tokenizer = tokenizer_files_;
  request.retention = {static_cast<int>(config_.checkpoint().keep()),
                       config_.checkpoint().keep_every_steps()};
  const double begin = Now();
  absl::StatusOr<SaveReport> report = SaveCheckpoint(world(), request);
  if (!report.ok()) {
    // The ranks agree on the failure, so all go on, or all give up.
    if (++failed_saves_in_a_row_ >= config_.checkpoint().max_failed_saves()) return report.status();
    log_->Warning(absl::StrCat("step ", step_, " was not saved (", failed_saves_in_a_row_,
                               " in a row): ", report.status().message()));
    return absl::OkStatus();
  }
  failed_saves_in_a_row_ = 0;
  saved_step_ = step_;
  for (const std::string& warning : report->warnings) log_->Warning(warning);
  log_->Info(
      absl::StrFormat("saved %s (%.1f MiB, %.2f s)", report->path, report->bytes / 1048576.0, Now() - begin));
  return absl::OkStatus();
}

absl::Status Trainer::TrainOneStep() {
  StepRecord record;
  record.learning_rate = LearningRate(schedule_, step_);
  const double begin = Now();
  {
    const DoingStep doing(step_ + 1);
    TANREN_ASSIGN_OR_RETURN(record.result, stage_.Step(engine_, step_, record.learning_rate));
  }
  record.step_seconds = Now() - begin;
  seconds_ += record.step_seconds;
  tokens_ += record.result.tokens;
  ++step_;
  skipped_in_a_row_ = record.result.skipped ? skipped_in_a_row_ + 1 : 0;
  if (record.result.skipped) {
    log_->Warning(absl::StrCat("step ", step_, ": the gradient is not finite (loss ", record.result.loss,
                               "); no weight was changed"));
  }
  if (skipped_in_a_row_ >= kMaxSkippedSteps) {
    return absl::InternalError(
        absl::StrCat(kMaxSkippedSteps, " steps in a row, up to step ", step_,
                     ", had gradients that are not finite; lower optimizer.learning_rate or "
                     "resume from an earlier checkpoint"));
  }
  TANREN_RETURN_IF_ERROR(Heed(record.result.warnings, record.result.stop));
  const int64_t steps = config_.train().steps();
  if (step_ % config_.train().log_interval() != 0 && step_ != steps && step_ != 1) return absl::OkStatus();
  record.step = step_;
  record.steps = steps;
  record.tokens_per_second = record.result.tokens / record.step_seconds;
  record.flops_per_second = record.tokens_per_second * FlopsPerToken(engine_.options().models[0].shape,
                                                                     config_.data().sequence_length());
  record.total_tokens = tokens_;
  record.total_seconds = seconds_;
  record.slow_ranks = std::exchange(slow_ranks_, {});
  log_->Step(record);
  return absl::OkStatus();
}

absl::Status Trainer::Validate() {
  if (validated_step_ == step_) return absl::OkStatus();
  const Doing validating(Phase::kValidation);
  TANREN_ASSIGN_OR_RETURN(const StageValidation validation, stage_.Validate(engine_));
  if (!validation.metrics.empty()) log_->Validation(step_, validation.metrics);
  validated_step_ = step_;
  return Heed(validation.warnings, validation.stop);
}

absl::Status Trainer::Heed(const std::vector<std::string>& warnings, const std::string& stop) {
  for (const std::string& warning : warnings) log_->Warning(absl::StrCat("step ", step_, ": ", warning));
  if (stop.empty() || !guard_stop_.empty()) return absl::OkStatus();
  guard_stop_ = absl::StrCat("step ", step_, ": ", stop);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<GenerationRequest>> Trainer::SampleRequests() const {
  const config::SamplesConfig& samples = config_.samples();
  std::vector<GenerationRequest> requests;
  if (samples.interval_steps() == 0) return requests;
  for (int i = 0; i < samples.prompts_size(); ++i) {
    kernels::SamplingParams sampling;
    sampling.temperature = static_cast<float>(samples.temperature());
    sampling.top_k = static_cast<int32_t>(samples.top_k());
    sampling.top_p = static_cast<float>(samples.top_p());
    sampling.seed = static_cast<uint64_t>(config_.seed());
    sampling.stream_id = static_cast<uint64_t>(step_) * samples.prompts_size() + i;
    absl::StatusOr<GenerationRequest> request =
        MakeRequest(*options_.tokenizer, engine_.options().generation_tokens, samples.prompts(i),
                    samples.max_tokens(), sampling);
    if (!request.ok()) return At(absl::StrCat("samples.prompts.", i), request.status());
    request->repetition.penalty = static_cast<float>(samples.repetition_penalty());
    request->repetition.no_repeat_ngram = static_cast<int32_t>(samples.no_repeat_ngram());
    requests.push_back(*std::move(request));
  }
  return requests;
}

absl::Status Trainer::Sample() {
  const Doing sampling(Phase::kSamples);
  TANREN_ASSIGN_OR_RETURN(const std::vector<GenerationRequest> requests, SampleRequests());
  TANREN_ASSIGN_OR_RETURN(const std::vector<GenerationResult> results,
                          engine_.Generate(engine_.options().models[0].name, requests));
  for (size_t i = 0; i < results.size(); ++i) {
    TANREN_ASSIGN_OR_RETURN(const std::string text, AnswerText(*options_.tokenizer, results[i]));
    log_->Sample(step_, config_.samples().prompts(static_cast<int>(i)), text, results[i].tokens);
  }
  return absl::OkStatus();
}

bool Trainer::StopAgreed() {
  int32_t stop = options_.stop_requested && options_.stop_requested() ? 1 : 0;
  const int64_t stop_after = config_.train().stop_after();
  if (stop_after > 0 && step_ >= stop_after) stop = 1;
  world().AllReduce(Stream(), "stop request", Buffer(&stop), 1, ReduceOp::kMax);
  return stop != 0;
}

void Trainer::HeedSlowRanks() {
  if (!options_.slow_ranks) return;
  for (SlowRank& slow : options_.slow_ranks()) {
    log_->Warning(absl::StrCat("step ", step_, ": ", slow.text));
    slow_ranks_.push_back(std::move(slow));
  }
}

absl::StatusOr<Trainer::Outcome> Trainer::Stop() {
  TANREN_RETURN_IF_ERROR(Save());
  if (saved_step_ != step_) return NotSaved();
  log_->Info(
      absl::StrCat("stopped at step ", step_, " of ", config_.train().steps(), "; run again to continue"));
  return Outcome::kStopped;
}

absl::Status Trainer::EndByGuard() {
  TANREN_RETURN_IF_ERROR(Save());
  const std::string saved = saved_step_ == step_ ? absl::StrCat("step ", step_, " is saved")
                                                 : std::string(View(NotSaved().message()));
  return absl::AbortedError(absl::StrCat("a guard ended the run, ", guard_stop_, " (", saved,
                                         "; guards.action: warn would only warn)"));
}

absl::Status Trainer::NotSaved() const {
  return absl::InternalError(
      absl::StrCat("step ", step_, " could not be saved; the newest commit is of step ", saved_step_));
}

absl::StatusOr<Trainer::Outcome> Trainer::Run() {
  TANREN_RETURN_IF_ERROR(Start());
  const int64_t steps = config_.train().steps();
  const auto due = [this](int64_t interval) { return interval > 0 && step_ % interval == 0; };
  if (fresh_) TANREN_RETURN_IF_ERROR(stage_.Begin(engine_));
  while (step_ < steps) {
    if (!guard_stop_.empty()) return EndByGuard();
    if (StopAgreed()) return Stop();
    HeedSlowRanks();
    TANREN_RETURN_IF_ERROR(TrainOneStep());
    // What was learned is safe before anything else is tried with it.
    if (due(config_.checkpoint().interval_steps())) TANREN_RETURN_IF_ERROR(Save());
    if (due(config_.validation().interval_steps())) TANREN_RETURN_IF_ERROR(Validate());
    if (due(config_.samples().interval_steps())) {
      const absl::Status sampled = Sample();
      if (!sampled.ok()) log_->Warning(absl::StrCat("step ", step_, ": no samples: ", sampled.message()));
    }
  }
  TANREN_RETURN_IF_ERROR(Save());
  if (saved_step_ != step_) return NotSaved();
  if (config_.validation().interval_steps() > 0) TANREN_RETURN_IF_ERROR(Validate());
  if (!guard_stop_.empty()) return EndByGuard();
  log_->Info(absl::StrFormat("finished: %d steps, %.0f tokens, %.1f s in steps", steps, tokens_, seconds_));
  return Outcome::kFinished;
}

}  // namespace tanren
