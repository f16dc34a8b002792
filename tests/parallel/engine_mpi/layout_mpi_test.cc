// Every layout computes the same training run as one rank.
#include <algorithm>
#include <cmath>
#include <set>

#include "core/checkpoint/resume.h"
#include "core/checkpoint/save.h"
#include "core/loss/next_token.h"
#include "core/trainer/pieces.h"
#include "core/trainer/replica_check.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/parallel/engine_mpi/support.h"
#include "tests/parallel/engine_mpi/toy_losses.h"

namespace tanren {
namespace {

double Tolerance() { return TestRuntime().mesh().tensor->size() > 1 ? 1e-4 : 1e-5; }

class LayoutTest : public testing::TestWithParam<int> {
 protected:
  static ModelShape Shape() { return GetParam() == 0 ? Gpt2Shape() : Qwen3Shape(); }
};

// 16 micro-batches dealt to the data ranks, beside all 16 on one rank.
TEST_P(LayoutTest, TwentyStepsOfNextTokenMatchOneRank) {
  const EngineOptions options = MakeOptions({MakeModel("policy", Shape())});
  SoloMesh solo;
  const auto reference = MakeEngine(options, solo.mesh());
  const auto engine = MakeEngine(options, TestRuntime().mesh());
  const NextTokenLoss loss(NextTokenFunctor<false>{1e-3});
  double first = 0, last = 0;
  for (int step = 0; step < 20; ++step) {
    const auto batches = MakeStep(16, static_cast<int>(Shape().vocab_size), 100 + step);
    const auto expected = reference->Train("policy", batches, loss, 3e-3);
    const auto actual = engine->Train("policy", Deal(batches, engine->mesh()), loss, 3e-3);
    ASSERT_TRUE(expected.ok()) << expected.status();
    ASSERT_TRUE(actual.ok()) << actual.status();
    EXPECT_NEAR(actual->loss, expected->loss, Tolerance() * expected->loss) << "step " << step;
    EXPECT_NEAR(actual->gradient_norm, expected->gradient_norm, 10 * Tolerance() * expected->gradient_norm);
    EXPECT_EQ(actual->normalizers.trained_tokens, expected->normalizers.trained_tokens);
    if (step == 0) first = actual->loss;
    last = actual->loss;
  }
  EXPECT_LT(last, first);
}

INSTANTIATE_TEST_SUITE_P(Families, LayoutTest, testing::Values(0, 1));

// A policy with a sequence loss and a critic with a scalar head, trained in turn in one engine.
EngineOptions TwoModels() {
  ModelOptions policy = MakeModel("policy", Qwen3Shape());
  ModelOptions critic = MakeModel("critic", Gpt2Shape());
  critic.shape.scalar_head = true;
  critic.shape.vocabulary_head = false;
  ModelOptions both = MakeModel("both", Qwen3Shape());
  both.shape.scalar_head = true;
  return MakeOptions({policy, critic, both});
}

// Every step leaves the same bits on all ranks that hold the same weights; a rank where a bit flips is named.
TEST(Replicas, AreTheSameAndADifferentOneIsNamed) {
  const Mesh& mesh = TestRuntime().mesh();
  const auto engine = MakeEngine(TwoModels(), mesh);
  const NextTokenLoss loss;
  for (int step = 0; step < 3; ++step) {
    ASSERT_TRUE(engine->Train("policy", Deal(MakeStep(5, 61, 900 + step), mesh), loss, 1e-3).ok());
    const absl::Status same = CheckReplicas(*engine);
    EXPECT_TRUE(same.ok()) << same;
  }
  const int last = mesh.world->size() - 1;
  const WeightsDigest before = engine->DigestWeights("policy");
  if (mesh.world->rank() == last) engine->DamageWeightsForTest("policy", Engine::Damage::kBit);
  EXPECT_EQ(engine->DigestWeights("policy").own != before.own, mesh.world->rank() == last);
  const absl::Status found = CheckReplicas(*engine);
  if (last == 0) {
    EXPECT_TRUE(found.ok()) << found;  // there is nothing to compare with
    return;
  }
  EXPECT_TRUE(absl::IsInternal(found)) << found;
  EXPECT_THAT(std::string(found.message()),
              testing::HasSubstr("the weights of model policy are not the same"));
  EXPECT_THAT(std::string(found.message()), testing::HasSubstr(absl::StrCat("rank ", last, " on ")));
  if (last > 1 && mesh.tensor->size() == 1) {
    EXPECT_THAT(std::string(found.message()), testing::Not(testing::HasSubstr("rank 0 on ")));
  }
  // A step that is skipped changes nothing; the next update makes all copies the owners' again.
  const absl::Status healed = engine->Train("policy", Deal(MakeStep(5, 61, 950), mesh), loss, 1e-3).status();
  ASSERT_TRUE(healed.ok()) << healed;
  if (mesh.data->size() > 1) {
    const absl::Status same = CheckReplicas(*engine);
    EXPECT_TRUE(same.ok()) << same;
  }
}

struct Losses {
  std::vector<double> values;
};

void TrainTwoModels(Engine& engine, int begin, int end, bool deal, Losses* losses) {
  const SequenceLossOf<PairFunctor> pair;
  const SequenceLossOf<ScoreFunctor> score;
  const TokenLossOf<ActorCriticFunctor> actor_critic;
  for (int step = begin; step < end; ++step) {
    const auto all = MakeStep(5, 61, 500 + step % 7);
    const auto batches = deal ? Deal(all, engine.mesh()) : all;
    const auto a = engine.Train("policy", batches, pair, 1e-3);
    const auto b = engine.Train("critic", batches, score, 1e-3);
    const auto c = engine.Train("both", batches, actor_critic, 1e-3);
    ASSERT_TRUE(a.ok() && b.ok() && c.ok()) << a.status() << b.status() << c.status();
    for (const auto* result : {&*a, &*b, &*c}) losses->values.push_back(result->loss);
  }
}

TEST(TwoModels, FiftyStepsMatchOneRank) {
  SoloMesh solo;
  const auto reference = MakeEngine(TwoModels(), solo.mesh());
  const auto engine = MakeEngine(TwoModels(), TestRuntime().mesh());
  Losses expected, actual;
  TrainTwoModels(*reference, 0, 50, false, &expected);
  TrainTwoModels(*engine, 0, 50, true, &actual);
  ASSERT_EQ(expected.values.size(), actual.values.size());
  for (size_t i = 0; i < expected.values.size(); ++i) {
    EXPECT_NEAR(actual.values[i], expected.values[i],
                10 * Tolerance() * std::max(1.0, std::abs(expected.values[i])))
        << "loss " << i;
  }
  for (int model = 0; model < 3; ++model) {
    EXPECT_LT(actual.values[actual.values.size() - 3 + model], actual.values[model]) << "model " << model;
  }
}

std::vector<TensorPiece> AllPieces(Engine& engine, std::vector<std::unique_ptr<StateAccess>>* accesses) {
  std::vector<TensorPiece> pieces;
  for (const ModelOptions& model : engine.options().models) {
    accesses->push_back(engine.State(model.name));
    for (TensorPiece& piece : ToTensorPieces(accesses->back()->pieces())) pieces.push_back(std::move(piece));
  }
  return pieces;
}

TEST(TwoModels, ResumeIsBitForBitAndAnyLayoutLoads) {
  Comm& world = TestRuntime().world();
  const Mesh& mesh = TestRuntime().mesh();
  std::string directory = testing::TempDir() + "/two-models-" + std::to_string(getpid());
  directory = BroadcastString(world, "test directory", directory, 0);

  const auto undisturbed = MakeEngine(TwoModels(), mesh);
  Losses all;
  TrainTwoModels(*undisturbed, 0, 12, true, &all);
  {
    const auto lock = RunLock::AcquireForJob(world, directory, "test");
    ASSERT_TRUE(lock.ok()) << lock.status();
    std::vector<std::unique_ptr<StateAccess>> accesses;
    const std::vector<TensorPiece> pieces = AllPieces(*undisturbed, &accesses);
    SaveRequest request;
    request.run_dir = directory;
    request.run_id = "test";
    request.stage = "test";
    request.step = 12;
    request.mesh = mesh.shape;
    request.pieces = pieces;
    const auto saved = SaveCheckpoint(world, request);
    ASSERT_TRUE(saved.ok()) << saved.status();
  }
  TrainTwoModels(*undisturbed, 12, 24, true, &all);

  const auto load = [&](Engine& engine, Comm& group) {
    std::vector<std::unique_ptr<StateAccess>> accesses;
    LoadRequest request;
    request.run_dir = directory;
    const auto loaded = LoadCheckpoint(group, request, [&](const CheckpointReader&) {
      accesses.clear();
      return absl::StatusOr<std::vector<TensorPiece>>(AllPieces(engine, &accesses));
    });
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    ASSERT_NE(loaded->reader, nullptr);
    for (auto& access : accesses) access->Commit();
    for (const ModelOptions& model : engine.options().models) engine.set_updates(model.name, 12);
  };
  // The same layout: bit for bit.
  const auto resumed = MakeEngine(TwoModels(), mesh);
  load(*resumed, world);
  Losses rest;
  TrainTwoModels(*resumed, 12, 24, true, &rest);
  ASSERT_EQ(rest.values.size() * 2, all.values.size());
  for (size_t i = 0; i < rest.values.size(); ++i)
    EXPECT_EQ(rest.values[i], all.values[rest.values.size() + i]);

  // One rank: the same tensors, so the same losses within the layouts' tolerance.
  SoloMesh solo;
  const auto alone = MakeEngine(TwoModels(), solo.mesh());
  load(*alone, *solo.mesh().world);
  Losses again;
  TrainTwoModels(*alone, 12, 24, false, &again);
  for (size_t i = 0; i < again.values.size(); ++i) {
    EXPECT_NEAR(again.values[i], rest.values[i], 10 * Tolerance() * std::max(1.0, std::abs(rest.values[i])));
  }
}

TEST(Engine, OnPolicyRatioIsExactlyOne) {
  const EngineOptions options = MakeOptions({MakeModel("policy", Qwen3Shape())});
  const auto engine = MakeEngine(options, TestRuntime().mesh());
  std::vector<MicroBatch> batches = Deal(MakeStep(6, 67, 3), engine->mesh());
  for (MicroBatch& batch : batches) {
    const auto scored = engine->Score("policy", batch, kLogp, false, 1);
    ASSERT_TRUE(scored.ok()) << scored.status();
    std::vector<float>& old = batch.columns.Get("old_logp", batch.capacity);
    for (size_t i = 0; i < batch.trained.size(); ++i) old[batch.trained[i]] = scored->logp[i];
  }
  const auto result = engine->Train("policy", batches, TokenLossOf<RatioFunctor>(), 1e-3);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->metrics[0], 0);
  EXPECT_EQ(result->loss, result->normalizers.trained_tokens);
}

TEST(Engine, BucketSizeChangesNothing) {
  EngineOptions options = MakeOptions({MakeModel("policy", Gpt2Shape())});
  const auto small = MakeEngine(options, TestRuntime().mesh());
  options.bucket_bytes = 1 << 30;
  const auto large = MakeEngine(options, TestRuntime().mesh());
  ASSERT_GT(small->parameters("policy").buckets().size(), large->parameters("policy").buckets().size());
  for (int step = 0; step < 5; ++step) {
    const auto batches = Deal(MakeStep(4, 61, step), small->mesh());
    const auto a = small->Train("policy", batches, NextTokenLoss(), 1e-2);
    const auto b = large->Train("policy", batches, NextTokenLoss(), 1e-2);
    ASSERT_TRUE(a.ok() && b.ok());
    // The gradient norm's blocks follow the buckets' shards, which moves the clip by an ulp.
    EXPECT_NEAR(a->loss, b->loss, 1e-6 * a->loss);
  }
}

TEST(Engine, AnswersDoNotDependOnTheNumberOfDataRanks) {
  ModelOptions model = MakeModel("policy", Qwen3Shape());
  model.generates = true;
  EngineOptions options = MakeOptions({model});
  options.generation_tokens = 40;
  options.decode_slots = 3;
  options.prefill_tokens = 8;
  SoloMesh solo(TestRuntime().mesh().stream);  // the same device: the same bits
  const auto reference = MakeEngine(options, solo.mesh());
  const auto engine = MakeEngine(options, TestRuntime().mesh());
  std::mt19937 random(5);
  std::vector<GenerationRequest> requests(11);
  for (size_t i = 0; i < requests.size(); ++i) {
    const int length = 1 + static_cast<int>(random() % 20);
    for (int t = 0; t < length; ++t) requests[i].prompt.push_back(static_cast<int32_t>(random() % 67));
    requests[i].max_tokens = 1 + static_cast<int64_t>(random() % 20);
    requests[i].sampling.temperature = i % 3 == 0 ? 0.0f : 0.9f;
    requests[i].sampling.top_k = i % 2 ? 10 : 0;
    requests[i].sampling.seed = 11;
    requests[i].sampling.stream_id = i;
    requests[i].stop = {{5}, {7, 9}};
  }
  const auto expected = reference->Generate("policy", requests);
  const auto actual = engine->Generate("policy", requests);
  ASSERT_TRUE(expected.ok() && actual.ok()) << expected.status() << actual.status();
  const bool exact = engine->mesh().tensor->size() == 1;
  for (size_t i = 0; i < requests.size(); ++i) {
    ASSERT_EQ((*actual)[i].tokens, (*expected)[i].tokens) << "request " << i;
    EXPECT_EQ((*actual)[i].finish, (*expected)[i].finish);
    for (size_t t = 0; t < (*actual)[i].logp.size(); ++t) {
      // NEAR with 0 is equality.
      EXPECT_NEAR((*actual)[i].logp[t], (*expected)[i].logp[t], exact ? 0 : 1e-4)
          << "request " << i << " token " << t;
    }
  }
  // Alone in the engine, with other neighbours gone: the same bits.
  for (size_t i : {2, 7}) {
    const auto alone = engine->Generate("policy", {&requests[i], 1});
    ASSERT_TRUE(alone.ok());
    EXPECT_EQ((*alone)[0].tokens, (*actual)[i].tokens);
    EXPECT_EQ((*alone)[0].logp, (*actual)[i].logp);
  }
}

// Every second request discourages repetition. The others answer as without such neighbours, bit for bit, and
// every layout answers as one rank.
TEST(Engine, RepetitionIsDiscouragedTheSameAtEveryLayout) {
  ModelOptions model = MakeModel("policy", Gpt2Shape());
  model.generates = true;
  EngineOptions options = MakeOptions({model});
  options.generation_tokens = 40;
  options.decode_slots = 3;
  options.prefill_tokens = 8;
  SoloMesh solo(TestRuntime().mesh().stream);
  const auto reference = MakeEngine(options, solo.mesh());
  const auto engine = MakeEngine(options, TestRuntime().mesh());
  std::vector<GenerationRequest> plain(8);
  for (size_t i = 0; i < plain.size(); ++i) {
    plain[i].prompt = {static_cast<int32_t>(i), 2, 3, 2, 3};
    plain[i].max_tokens = 30;
    plain[i].sampling.temperature = i % 4 < 2 ? 0.0f : 0.7f;
    plain[i].sampling.seed = 4;
    plain[i].sampling.stream_id = i;
  }
  std::vector<GenerationRequest> requests = plain;
  for (size_t i = 0; i < requests.size(); i += 2) {
    requests[i].repetition = i % 4 == 0 ? RepetitionOptions{1.0f, 2} : RepetitionOptions{1.4f, 3};
  }
  const auto without = engine->Generate("policy", plain);
  const auto expected = reference->Generate("policy", requests);
  const auto actual = engine->Generate("policy", requests);
  ASSERT_TRUE(without.ok() && expected.ok() && actual.ok()) << actual.status();
  const bool exact = engine->mesh().tensor->size() == 1;
  for (size_t i = 0; i < requests.size(); ++i) {
    const GenerationResult& answer = (*actual)[i];
    EXPECT_EQ(answer.tokens, (*expected)[i].tokens) << "request " << i;
    for (size_t t = 0; t < answer.logp.size(); ++t) {
      EXPECT_NEAR(answer.logp[t], (*expected)[i].logp[t], exact ? 0 : 1e-4);
    }
    if (i % 2 != 0) {
      EXPECT_EQ(answer.tokens, (*without)[i].tokens);
      EXPECT_EQ(answer.logp, (*without)[i].logp);
      continue;
    }
    EXPECT_NE(answer.tokens, (*without)[i].tokens) << "request " << i << " has nothing to show";
    std::vector<int32_t> sequence = requests[i].prompt;
    sequence.insert(sequence.end(), answer.tokens.begin(), answer.tokens.end());
    const int n = requests[i].repetition.no_repeat_ngram;
    std::set<std::vector<int32_t>> seen;
    for (size_t end = n; end <= sequence.size(); ++end) {
      const bool is_new = seen.insert({sequence.begin() + end - n, sequence.begin() + end}).second;
      EXPECT_TRUE(is_new || end <= requests[i].prompt.size()) << "request " << i << " token " << end;
    }
  }
  // Log-probabilities are those that scoring gives the tokens, whatever they were drawn from.
  const GenerationResult& answer = (*actual)[2];
  Unit unit;
  unit.ids = requests[2].prompt;
  unit.ids.insert(unit.ids.end(), answer.tokens.begin(), answer.tokens.end() - 1);
  for (size_t t = 0; t < unit.ids.size(); ++t) {
    const bool trained = t + 1 >= requests[2].prompt.size();
    unit.targets.push_back(trained ? answer.tokens[t + 1 - requests[2].prompt.size()] : -1);
    unit.mask.push_back(trained);
  }
  unit.segment_lengths = {static_cast<int32_t>(unit.ids.size())};
  MicroBatch batch;
  ASSERT_TRUE(PackMicroBatch({unit}, 128, &batch).ok());
  const auto scored = engine->Score("policy", batch, kLogp, false, requests[2].sampling.temperature);
  ASSERT_TRUE(scored.ok());
  for (size_t t = 0; t < answer.logp.size(); ++t) EXPECT_NEAR(scored->logp[t], answer.logp[t], 1e-4) << t;
  requests[0].repetition.penalty = 0;
  EXPECT_EQ(engine->Generate("policy", requests).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(Engine, GenerationAgreesWithScoring) {
  ModelOptions model = MakeModel("policy", Gpt2Shape());
  model.generates = true;
  EngineOptions options = MakeOptions({model});
  options.generation_tokens = 48;
  const auto engine = MakeEngine(options, TestRuntime().mesh());
  GenerationRequest request;
  request.prompt = {3, 1, 4, 1, 5, 9, 2, 6};
  request.max_tokens = 30;
  request.sampling.seed = 1;
  const auto generated = engine->Generate("policy", {&request, 1});
  ASSERT_TRUE(generated.ok());
  const GenerationResult& answer = (*generated)[0];
  Unit unit;
  unit.ids = request.prompt;
  unit.ids.insert(unit.ids.end(), answer.tokens.begin(), answer.tokens.end() - 1);
  for (size_t t = 0; t < unit.ids.size(); ++t) {
    const bool trained = t + 1 >= request.prompt.size();
    unit.targets.push_back(trained ? answer.tokens[t + 1 - request.prompt.size()] : -1);
    unit.mask.push_back(trained);
  }
  unit.segment_lengths = {static_cast<int32_t>(unit.ids.size())};
  MicroBatch batch;
  ASSERT_TRUE(PackMicroBatch({unit}, 128, &batch).ok());
  const auto scored = engine->Score("policy", batch, kLogp, false, 1);
  ASSERT_TRUE(scored.ok());
  ASSERT_EQ(scored->logp.size(), answer.logp.size());
  for (size_t t = 0; t < answer.logp.size(); ++t) EXPECT_NEAR(scored->logp[t], answer.logp[t], 1e-4) << t;
}

int64_t BytesOf(const MemoryPlan& plan, const std::string& arena) {
  for (const MemoryPlan::Entry& entry : plan.arenas) {
    if (entry.arena == arena) return entry.bytes;
  }
  ADD_FAILURE() << "no arena " << arena;
  return 0;
}

// A policy that is trained by the scores of two frozen models of different families, which take turns.
EngineOptions WithFrozenModels(bool offload) {
  ModelOptions reference = MakeModel("reference", Qwen3Shape());
  ModelOptions reward = MakeModel("reward", Gpt2Shape());
  reward.shape.scalar_head = true;
  reward.shape.vocabulary_head = false;
  for (ModelOptions* frozen : {&reference, &reward}) {
    frozen->trainable = false;
    frozen->init_seed = 31;
  }
  EngineOptions options = MakeOptions({MakeModel("policy", Qwen3Shape()), reference, reward});
  options.offload_frozen = offload;
  return options;
}

// Statistics and losses in order; every step also writes a frozen model's state anew, once it is in use.
std::vector<double> TrainBesideFrozen(Engine& engine) {
  std::vector<double> seen;
  const auto see = [&](const std::vector<float>& values) {
    seen.insert(seen.end(), values.begin(), values.end());
  };
  for (int step = 0; step < 4; ++step) {
    std::vector<MicroBatch> batches = Deal(MakeStep(4, 61, 40 + step), engine.mesh());
    for (MicroBatch& batch : batches) {
      const auto reference = engine.Score("reference", batch, kLogp, false, 1);
      const auto reward = engine.Score("reward", batch, kValue, true, 1);
      EXPECT_TRUE(reference.ok() && reward.ok()) << reference.status() << reward.status();
      see(reference->logp);
      see(reward->segment_value);
      std::vector<float>& old = batch.columns.Get("old_logp", batch.capacity);
      for (size_t i = 0; i < batch.trained.size(); ++i) old[batch.trained[i]] = reference->logp[i];
    }
    const auto trained = engine.Train("policy", batches, TokenLossOf<RatioFunctor>(), 1e-3);
    const auto evaluated = engine.Evaluate("reward", batches, SequenceLossOf<ScoreFunctor>());
    EXPECT_TRUE(trained.ok() && evaluated.ok()) << trained.status() << evaluated.status();
    seen.insert(seen.end(), {trained->loss, trained->gradient_norm, evaluated->loss});
    const std::unique_ptr<StateAccess> state = engine.State("reward");
    for (const StatePiece& piece : state->pieces()) {
      for (int64_t i = piece.range_begin; i < piece.range_end; ++i) {
        float& value = piece.data.as<float>()[i - piece.range_begin];
        seen.push_back(value);
        value *= 1.25f;
      }
    }
    state->Commit();
  }
  return seen;
}

TEST(Engine, OffloadedModelsShareOneMemoryAndChangeNothing) {
  const Mesh& mesh = TestRuntime().mesh();
  const auto kept = MakeEngine(WithFrozenModels(false), mesh);
  const auto offloaded = MakeEngine(WithFrozenModels(true), mesh);
  const std::vector<double> expected = TrainBesideFrozen(*kept), actual = TrainBesideFrozen(*offloaded);
  ASSERT_GT(expected.size(), 1000u / mesh.world->size());
  EXPECT_EQ(actual, expected);

  // The device holds the larger of the two frozen models instead of both; the host holds both.
  const auto device_bytes = [&](const std::string& without) {
    EngineOptions options = WithFrozenModels(true);
    std::erase_if(options.models, [&](const ModelOptions& model) { return model.name == without; });
    const auto plan = PlanMemory(options, mesh);
    EXPECT_TRUE(plan.ok());
    return BytesOf(*plan, "shared frozen weights");
  };
  const int64_t reference = device_bytes("reward"), reward = device_bytes("reference");
  EXPECT_GT(reference, 0);
  EXPECT_GT(reward, 0);
  const MemoryPlan& plan = offloaded->plan();
  EXPECT_EQ(BytesOf(plan, "shared frozen weights"), std::max(reference, reward));
  EXPECT_EQ(BytesOf(kept->plan(), "shared frozen weights"), 0);
  EXPECT_EQ(BytesOf(kept->plan(), "weights") - BytesOf(plan, "weights"), reference + reward);
  EXPECT_GT(BytesOf(plan, "offloaded weights"), 0);
  EXPECT_EQ(BytesOf(kept->plan(), "offloaded weights"), 0);
  const bool beside_device = mesh.stream.device != Device::kCpu;
  EXPECT_EQ(plan.host_bytes, beside_device ? BytesOf(plan, "offloaded weights") : 0);
  EXPECT_EQ(kept->plan().host_bytes, 0);
  EXPECT_EQ(plan.total_bytes, kept->plan().total_bytes - reference - reward + std::max(reference, reward) +
                                  (beside_device ? 0 : BytesOf(plan, "offloaded weights")));
}

TEST(Engine, RefusesWhatCannotBeTrained) {
  ModelOptions frozen = MakeModel("reference", Gpt2Shape());
  frozen.trainable = false;
  const auto engine =
      MakeEngine(MakeOptions({MakeModel("policy", Gpt2Shape()), frozen}), TestRuntime().mesh());
  const auto batches = Deal(MakeStep(4, 61, 1), engine->mesh());
  EXPECT_EQ(engine->Train("reference", batches, NextTokenLoss(), 1e-3).status().code(),
            absl::StatusCode::kInvalidArgument);
  std::vector<MicroBatch> untrained = batches;
  for (MicroBatch& batch : untrained) {
    batch.trained.clear();
    batch.trained_segment.clear();
  }
  const auto none = engine->Train("policy", untrained, NextTokenLoss(), 1e-3);
  ASSERT_FALSE(none.ok());
  EXPECT_NE(none.status().message().find("no trained token"), absl::string_view::npos) << none.status();
  const auto column = engine->Train("policy", batches, TokenLossOf<RatioFunctor>(), 1e-3);
  ASSERT_FALSE(column.ok());
  EXPECT_NE(column.status().message().find("old_logp"), absl::string_view::npos) << column.status();
  const auto value = engine->Train("policy", batches, SequenceLossOf<ScoreFunctor>(), 1e-3);
  ASSERT_FALSE(value.ok());
  EXPECT_NE(value.status().message().find("scalar head"), absl::string_view::npos) << value.status();
}

}  // namespace
}  // namespace tanren
