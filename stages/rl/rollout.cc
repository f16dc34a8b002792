#include "stages/rl/rollout.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/base/status.h"
#include "core/data/source.h"
#include "kernels/random.h"

namespace tanren {
namespace {

constexpr uint64_t kMagic = 0x31746c6c6f72ULL;  // "rollt1"

class Writer {
 public:
  void Number(int64_t value) { bytes_.append(reinterpret_cast<const char*>(&value), sizeof(value)); }
  void Text(const std::string& text) {
    Number(static_cast<int64_t>(text.size()));
    bytes_ += text;
  }
  template <class T>
  void Vector(const std::vector<T>& values) {
    Number(static_cast<int64_t>(values.size()));
    bytes_.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
  }
  std::string Take() { return std::move(bytes_); }

 private:
  std::string bytes_;
};

// Reads what Writer wrote; a length that the bytes do not hold makes everything after it empty and ok()
// false.
class Reader {
 public:
  explicit Reader(const std::string& bytes) : at_(bytes.data()), end_(bytes.data() + bytes.size()) {}
  bool ok() const { return ok_; }
  bool at_end() const { return at_ == end_; }
  int64_t Number() {
    int64_t value = 0;
    Copy(&value, sizeof(value));
    return value;
  }
  // A count of things of at least `bytes` each.
  int64_t Count(int64_t bytes) {
    const int64_t count = Number();
    if (count < 0 || count > (end_ - at_) / bytes) ok_ = false;
    return ok_ ? count : 0;
  }
  std::string Text() {
    std::string text(Count(1), '\0');
    Copy(text.data(), text.size());
    return text;
  }
  template <class T>
  std::vector<T> Vector() {
    std::vector<T> values(Count(sizeof(T)));
    Copy(values.data(), values.size() * sizeof(T));
    return values;
  }

 private:
  void Copy(void* out, size_t bytes) {
    if (!ok_ || static_cast<size_t>(end_ - at_) < bytes) {
      ok_ = false;
      return;
    }
    if (bytes > 0) std::memcpy(out, at_, bytes);
    at_ += bytes;
  }

  const char* at_;
  const char* end_;
  bool ok_ = true;
};

void Write(const Columns& columns, Writer* writer) {
  writer->Number(static_cast<int64_t>(columns.all().size()));
  for (const Columns::Column& column : columns.all()) {
    writer->Text(column.name);
    writer->Vector(column.values);
  }
}

void Read(Reader* reader, Columns* columns) {
  const int64_t count = reader->Count(16);
  for (int64_t i = 0; i < count && reader->ok(); ++i) {
    const std::string name = reader->Text();
    columns->Get(name, 0) = reader->Vector<float>();
  }
}

}  // namespace

absl::Status Rollout::Pack(int64_t capacity) {
  micro_batches.clear();
  int64_t used = capacity;
  for (size_t i = 0; i < answers.size(); ++i) {
    const int64_t tokens = answers[i].unit.tokens();
    if (tokens > capacity) {
      return InvalidInput(
          "an answer has %d tokens with its prompt, more than batch.micro_batch_tokens (%d); raise it or "
          "lower "
          "rollout.max_tokens",
          tokens, capacity);
    }
    if (used + tokens > capacity) {
      micro_batches.emplace_back();
      used = 0;
    }
    micro_batches.back().push_back(static_cast<int32_t>(i));
    used += tokens;
  }
  return absl::OkStatus();
}

absl::StatusOr<MicroBatch> Rollout::Make(int32_t index, int64_t capacity) const {
  std::vector<Unit> units;
  for (const int32_t i : micro_batches[index]) units.push_back(answers[i].unit);
  MicroBatch batch;
  TANREN_RETURN_IF_ERROR(PackMicroBatch(units, capacity, &batch));
  return batch;
}

std::string Rollout::SaveState() const {
  Writer writer;
  writer.Number(static_cast<int64_t>(kMagic));
  writer.Number(static_cast<int64_t>(answers.size()));
  for (const RolloutAnswer& answer : answers) {
    writer.Number(answer.group);
    writer.Number(answer.ended ? 1 : 0);
    writer.Number(answer.prompt_tokens);
    writer.Vector(answer.unit.ids);
    writer.Vector(answer.unit.targets);
    writer.Vector(answer.unit.mask);
    writer.Vector(answer.unit.segment_lengths);
    Write(answer.unit.columns, &writer);
    Write(answer.unit.segment_columns, &writer);
  }
  writer.Number(static_cast<int64_t>(micro_batches.size()));
  for (const std::vector<int32_t>& micro_batch : micro_batches) writer.Vector(micro_batch);
  return writer.Take();
}

absl::StatusOr<Rollout> Rollout::FromState(const std::string& state) {
  Reader reader(state);
  Rollout rollout;
  bool sound = reader.Number() == static_cast<int64_t>(kMagic);
  rollout.answers.resize(sound ? reader.Count(64) : 0);
  for (RolloutAnswer& answer : rollout.answers) {
    answer.group = reader.Number();
    answer.ended = reader.Number() == 1;
    answer.prompt_tokens = reader.Number();
    answer.unit.ids = reader.Vector<int32_t>();
    answer.unit.targets = reader.Vector<int32_t>();
    answer.unit.mask = reader.Vector<uint8_t>();
    answer.unit.segment_lengths = reader.Vector<int32_t>();
    Read(&reader, &answer.unit.columns);
    Read(&reader, &answer.unit.segment_columns);
  }
  rollout.micro_batches.resize(reader.Count(8));
  for (std::vector<int32_t>& micro_batch : rollout.micro_batches) {
    micro_batch = reader.Vector<int32_t>();
    for (const int32_t i : micro_batch) sound &= i >= 0 && i < static_cast<int32_t>(rollout.answers.size());
  }
  if (!sound || !reader.ok() || !reader.at_end()) {
    return InvalidInput("the saved rollout of %d bytes is damaged", state.size());
  }
  return rollout;
}

RolloutAnswer MakeAnswer(const std::vector<int32_t>& prompt, const std::vector<int32_t>& answer, bool ended,
                         int64_t group) {
  RolloutAnswer out;
  out.group = group;
  out.ended = ended;
  out.prompt_tokens = static_cast<int64_t>(prompt.size());
  Unit& unit = out.unit;
  unit.ids = prompt;
  unit.ids.insert(unit.ids.end(), answer.begin(), answer.end());
  unit.targets.assign(unit.ids.begin() + 1, unit.ids.end());
  unit.targets.push_back(-1);
  unit.mask.assign(unit.ids.size(), 0);
  std::fill(unit.mask.begin() + out.prompt_tokens - 1, unit.mask.end() - 1, 1);
  unit.segment_lengths = {static_cast<int32_t>(unit.ids.size())};
  return out;
}

std::vector<std::vector<int32_t>> DivideEpoch(int64_t micro_batches, int64_t count, uint64_t seed,
                                              uint64_t stream) {
  const int64_t groups = std::min(count, micro_batches);
  std::vector<std::vector<int32_t>> minibatches(groups);
  for (int64_t g = 0; g < groups; ++g) {
    // The same even division as of micro-batches over ranks.
    const DealtRange range = DealMicroBatches(micro_batches, static_cast<int>(g), static_cast<int>(groups));
    for (int64_t i = range.begin; i < range.end; ++i) {
      minibatches[g].push_back(static_cast<int32_t>(kernels::PermuteIndex(
          seed, stream, static_cast<uint64_t>(micro_batches), static_cast<uint64_t>(i))));
    }
  }
  return minibatches;
}

}  // namespace tanren
