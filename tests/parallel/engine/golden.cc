// Reads the golden files that tests/core/hugging_face/golden/make_golden.py writes.
#include "tests/parallel/engine/golden.h"

#include <fstream>
#include <nlohmann/json.hpp>

#include "core/base/status.h"
#include "parallel/engine/mesh_engine.h"
#include "tests/test_device.h"

namespace tanren {

std::string GoldenDirectory(const std::string& family) {
  return std::string(TANREN_SOURCE_DIR "/tests/core/hugging_face/golden/") + family;
}

namespace {

std::vector<double> ReadLogits(const std::string& path) {
  const absl::StatusOr<SafetensorsFile> file = SafetensorsFile::Open(path);
  TANREN_CHECK_MSG(file.ok(), file.status().ToString());
  const SafetensorsEntry& entry = file->entries()[0];
  std::vector<double> values(static_cast<size_t>(entry.bytes() / 8));
  TANREN_CHECK(entry.dtype == DType::kF64 && file->Read(entry.name, values.data(), entry.bytes()).ok());
  return values;
}

}  // namespace

Golden ReadGolden(const std::string& family) {
  Golden golden;
  golden.directory = GoldenDirectory(family);
  const nlohmann::json file = nlohmann::json::parse(std::ifstream(golden.directory + "/golden.json"));
  golden.capacity = file["capacity"];
  golden.z_loss = file["z_loss"];
  for (const auto& batch : file["batches"]) {
    golden.units.emplace_back();
    for (const auto& segment : batch) {
      Unit unit;
      unit.ids = segment["ids"].get<std::vector<int32_t>>();
      unit.targets = segment["targets"].get<std::vector<int32_t>>();
      unit.mask = segment["mask"].get<std::vector<uint8_t>>();
      unit.segment_lengths = {static_cast<int32_t>(unit.ids.size())};
      golden.units.back().push_back(unit);
    }
  }
  golden.loss = file["loss"];
  golden.cross_entropy = file["cross_entropy"];
  golden.steps = file["steps"];
  golden.warmup = file["warmup"];
  golden.peak = file["peak"];
  golden.final_fraction = file["final"];
  golden.decay = file["decay"];
  golden.clip = file["clip"];
  golden.losses = file["losses"].get<std::vector<double>>();
  golden.norms = file["norms"].get<std::vector<double>>();
  golden.prompts = file["prompts"].get<std::vector<std::vector<int32_t>>>();
  golden.answers = file["answers"].get<std::vector<std::vector<int32_t>>>();
  golden.logits = ReadLogits(golden.directory + "/logits.safetensors");
  return golden;
}

std::vector<MicroBatch> Golden::Pack() const {
  std::vector<MicroBatch> batches(units.size());
  for (size_t b = 0; b < units.size(); ++b) {
    const absl::Status status = PackMicroBatch(units[b], capacity, &batches[b]);
    TANREN_CHECK_MSG(status.ok(), status.ToString());
  }
  return batches;
}

std::unique_ptr<HfModel> OpenModel(const std::string& directory) {
  absl::StatusOr<std::unique_ptr<HfModel>> model = HfModel::Open(directory);
  TANREN_CHECK_MSG(model.ok(), model.status().ToString());
  return *std::move(model);
}

SoloEngine MakeSoloEngine(const HfModel& model, const Golden& golden, Recompute recompute) {
  SoloEngine solo;
  solo.world = MakeSoloComm("world");
  solo.data = MakeSoloComm("data");
  solo.tensor = MakeSoloComm("tensor");
  Mesh mesh;
  mesh.stream = TestDeviceStream();
  mesh.world = solo.world.get();
  mesh.data = solo.data.get();
  mesh.tensor = solo.tensor.get();
  EngineOptions options;
  ModelOptions policy;
  policy.shape = model.shape();
  policy.generates = true;
  policy.recompute = recompute;
  policy.optimizer.weight_decay = golden.decay;
  policy.optimizer.clip_norm = golden.clip;
  options.models = {policy};
  options.micro_batch_tokens = golden.capacity;
  options.head_chunk_tokens = 128;
  options.decode_slots = 2;
  options.prefill_tokens = 8;
  options.generation_tokens = 40;
  absl::StatusOr<std::unique_ptr<Engine>> engine = MakeMeshEngine(options, mesh, 0);
  TANREN_CHECK_MSG(engine.ok(), engine.status().ToString());
  solo.engine = *std::move(engine);
  const std::unique_ptr<StateAccess> state = solo.engine->State("policy");
  const absl::Status filled = FillPieces(model, state->pieces());
  TANREN_CHECK_MSG(filled.ok(), filled.ToString());
  state->Commit();
  return solo;
}

}  // namespace tanren
