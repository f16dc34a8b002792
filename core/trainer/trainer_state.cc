// What a run starts from, what it saves, and how it goes back.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <iterator>
#include <set>
#include <utility>

#include "absl/strings/numbers.h"
#include "core/activity/activity.h"
#include "core/base/status.h"
#include "core/checkpoint/resume.h"
#include "core/checkpoint/save.h"
#include "core/config/config.h"
#include "core/model_config/shape_config.h"
#include "core/proto/config.pb.h"
#include "core/report/append_file.h"
#include "core/trainer/pieces.h"
#include "core/trainer/replica_check.h"
#include "core/trainer/setup.h"
#include "core/trainer/trainer.h"

namespace tanren {
namespace {

// Rank 0's view of the file system decides.
int64_t BroadcastInt(Comm& world, int64_t value) {
  world.Broadcast(Stream(), "rank 0's value", Buffer(&value), 1, 0);
  return value;
}

absl::StatusOr<double> NumberOf(const CheckpointReader& reader, const std::string& key) {
  TANREN_ASSIGN_OR_RETURN(const std::string text, reader.State(key));
  double value = 0;
  if (!absl::SimpleAtod(View(std::string_view(text)), &value)) {
    return InvalidInput("state %s is not a number", key);
  }
  return value;
}

// The weights of another run must mean here what they meant there: the same tokens, and the same arithmetic.
// Tensors of the right names and sizes alone would load into a model that computes something else.
absl::Status CheckMeaning(const config::Config& config, const Tokenizer& tokenizer, const ModelOptions& model,
                          const CheckpointReader& reader) {
  TANREN_ASSIGN_OR_RETURN(const std::unique_ptr<Tokenizer> its, LoadTokenizer(reader.tokenizer_dir()));
  TANREN_RETURN_IF_ERROR(CheckSameTokenizer(reader.path(), *its, tokenizer));
  TANREN_ASSIGN_OR_RETURN(const std::string text, reader.ConfigText());
  TANREN_ASSIGN_OR_RETURN(const config::Config source,
                          config::LoadSavedConfig(text, reader.path() + "/resolved.yaml"));
  TANREN_ASSIGN_OR_RETURN(const ModelShape shape, ShapeFromConfig(source.model(), its->vocab_size()));
  for (const ShapeDifference& difference : ShapeDifferences(model.shape, shape)) {
    if (std::ranges::count(config.init().differs(), difference.key) > 0) continue;
    return InvalidInput(
        "model.%s is %s here, and %s in the model that %s holds: its weights would compute something else; "
        "take that value, or, if it is meant, name the key in init.differs",
        difference.key, difference.own, difference.other, reader.path());
  }
  return absl::OkStatus();
}

}  // namespace

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
  log.metrics_port = static_cast<int>(config_.log().metrics_port());
  log.stall_seconds = config_.watchdog().quiet_seconds();
  log.stage = config_.stage();
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
    const absl::Status same = CheckMeaning(config_, *options_.tokenizer, model, *reader);
    TANREN_RETURN_IF_ERROR(
        At(absl::StrCat("weights of model ", model.name), AgreeStatus(world(), "model", same)));
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

absl::StatusOr<std::unique_ptr<CheckpointReader>> Trainer::LoadState(const std::string& resume) {
  LoadRequest request;
  request.run_dir = config_.run_directory();
  request.resume = resume;
  request.read.may_be_converted = [](const TensorInfo& stored) {
    return stored.role == Role::kFirstMoment || stored.role == Role::kSecondMoment;
  };
  std::vector<std::unique_ptr<StateAccess>> accesses;
  TANREN_ASSIGN_OR_RETURN(LoadResult loaded, LoadCheckpoint(world(), request, [&](const CheckpointReader&) {
                            accesses.clear();
                            return absl::StatusOr<std::vector<TensorPiece>>(Pieces(&accesses));
                          }));
  if (world().rank() == 0) {
    for (const std::string& warning : loaded.warnings) std::fprintf(stderr, "warning: %s\n", warning.c_str());
  }
  if (loaded.reader == nullptr) return nullptr;
  if (world().rank() == 0 && !loaded.report.converted_tensors.empty()) {
    std::printf("moments of %s were stored in another type and are %s (optimizer.moments)\n",
                loaded.reader->path().c_str(),
                config_.optimizer().moments() == config::OptimizerConfig::bf16
                    ? "rounded from float32 to bfloat16"
                    : "converted from bfloat16 to float32");
    std::fflush(stdout);
  }
  TANREN_RETURN_IF_ERROR(
      AgreeStatus(world(), "resumed state", At(loaded.reader->path(), RestoreState(*loaded.reader))));
  for (auto& access : accesses) access->Commit();
  return std::move(loaded.reader);
}

absl::Status Trainer::Resume() {
  const Doing loading(Phase::kLoad);
  TANREN_ASSIGN_OR_RETURN(const std::unique_ptr<CheckpointReader> reader, LoadState(options_.resume));
  if (reader == nullptr) return LoadModels(/*fresh=*/true);
  fresh_ = false;
  TANREN_RETURN_IF_ERROR(LoadModels(/*fresh=*/false));
  // A checkpoint of another run is not yet in this run's directory.
  std::error_code error;
  const std::filesystem::path home = std::filesystem::path(reader->path()).parent_path();
  if (std::filesystem::equivalent(home, config_.run_directory(), error)) saved_step_ = step_;
  saved_step_ = BroadcastInt(world(), saved_step_);
  TANREN_RETURN_IF_ERROR(AgreeStatus(world(), "newest step", CheckNewest()));
  const MeshShape& was = reader->manifest().mesh;
  if (world().rank() == 0) {
    std::printf("resumed %s at step %lld%s\n", reader->path().c_str(), static_cast<long long>(step_),
                was == engine_.mesh().shape ? ""
                                            : absl::StrCat(" (saved at ", was.ToString(), ", now ",
                                                           engine_.mesh().shape.ToString(), ")")
                                                  .c_str());
    std::fflush(stdout);
  }
  return absl::OkStatus();
}

absl::Status Trainer::RollBack() {
  TANREN_RETURN_IF_ERROR(FinishSave());  // it may be the one to go back to
  const int64_t from = step_;
  const std::string what =
      absl::StrFormat("%d steps in a row, up to step %d, went wrong (%s)", config_.faults().patience(), from,
                      config_.faults().spike_action() == config::FaultConfig::rollback
                          ? "gradients that are not finite, or spikes of the loss"
                          : "gradients that are not finite");
  constexpr const char* kWaysOut =
      "lower optimizer.learning_rate, look at the data, or resume from an earlier checkpoint";
  if (config_.faults().max_rollbacks() == 0) {
    return absl::InternalError(absl::StrFormat("%s; %s (faults.max_rollbacks is 0)", what, kWaysOut));
  }
  if (saved_step_ < 0) {
    return absl::InternalError(
        absl::StrFormat("%s, and the run has no checkpoint yet to go back to; %s", what, kWaysOut));
  }
  if (rollbacks_in_a_row_ == config_.faults().max_rollbacks()) {
    return absl::InternalError(
        absl::StrFormat("%s, after the run went back to step %d %d times, each time past more data "
                        "(faults.max_rollbacks); %s",
                        what, saved_step_, rollbacks_in_a_row_, kWaysOut));
  }
  const Doing loading(Phase::kLoad);
  FaultCounts counts = faults_.counts();
  TANREN_ASSIGN_OR_RETURN(const std::unique_ptr<CheckpointReader> reader, LoadState("auto"));
  if (reader == nullptr) {
    return absl::InternalError(
        absl::StrFormat("%s, and %s has no checkpoint any more", what, config_.run_directory()));
  }
  saved_step_ = validated_step_ = step_;
  compared_step_ = -1;
  save_is_due_ = false;
  went_back_ = true;
  ++rollbacks_in_a_row_;
  steps_to_skip_ += from - step_;
  ++counts.rollbacks;
  counts.skipped_data_steps += from - step_;
  faults_.counts() = counts;
  faults_.ForgetRow();
  absl::Status skipped = stage_.SkipSteps(steps_to_skip_);
  if (!skipped.ok()) skipped = At(absl::StrCat(what, "; ", kWaysOut), skipped);
  TANREN_RETURN_IF_ERROR(AgreeStatus(world(), "skip data", skipped));
  TANREN_RETURN_IF_ERROR(AgreeStatus(world(), "run log", log_->Rewind(step_)));
  log_->Warning(
      absl::StrFormat("%s: back to step %d, and past the data of %d steps", what, step_, steps_to_skip_));
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
        "was saved by stage %s and cannot be resumed by stage %s; start it from its weights with init.from",
        reader.manifest().stage, config_.stage());
  }
  TANREN_ASSIGN_OR_RETURN(tokens_, NumberOf(reader, "trainer.tokens"));
  const auto faults = reader.state().find("trainer.faults");  // older checkpoints have none
  TANREN_RETURN_IF_ERROR(faults_.RestoreState(faults == reader.state().end() ? "" : faults->second));
  std::set<std::string> known = {"trainer.tokens", "trainer.faults"};
  for (const ModelOptions& model : engine_.options().models) {
    if (!model.trainable) continue;
    known.insert({"updates." + model.name, "gradient_ranges." + model.name});
    TANREN_ASSIGN_OR_RETURN(const double updates, NumberOf(reader, "updates." + model.name));
    engine_.set_updates(model.name, static_cast<int64_t>(updates));
    const auto ranges = reader.state().find("gradient_ranges." + model.name);
    TANREN_RETURN_IF_ERROR(
        engine_.set_gradient_ranges(model.name, ranges == reader.state().end() ? "" : ranges->second));
  }
  std::map<std::string, std::string> stage_state;
  for (const auto& [key, value] : reader.state()) {
    if (key.starts_with("stage.")) {
      stage_state[key.substr(6)] = value;
    } else if (key.starts_with("source.")) {
      sources_[key.substr(7)] = value;
    } else if (!known.contains(key)) {
      return InvalidInput("state \"%s\" is none that this program knows; a newer one may have written it",
                          Escaped(key));
    }
  }
  return stage_.RestoreState(stage_state);
}

}  // namespace tanren
