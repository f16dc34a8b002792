#include "core/checkpoint/tools.h"

#include <string.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <set>

#include "core/base/status.h"

namespace tanren {
namespace {

constexpr int64_t kSliceBytes = kStagingBytes;

// An IEEE half as a double; the one place that needs it.
double HalfToDouble(uint16_t bits) {
  const int exponent = (bits >> 10) & 31, mantissa = bits & 1023;
  const double sign = bits & 0x8000 ? -1.0 : 1.0;
  if (exponent == 31) return mantissa ? std::nan("") : sign * INFINITY;
  return sign * (exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(mantissa + 1024, exponent - 25));
}

template <class T>
T Load(const char* from) {
  T value;
  memcpy(&value, from, sizeof(T));
  return value;
}

double ValueAt(DType dtype, const char* from) {
  switch (dtype) {
    case DType::kF32:
      return Load<float>(from);
    case DType::kF64:
      return Load<double>(from);
    case DType::kBF16:
      return static_cast<double>(static_cast<float>(Load<BFloat16>(from)));
    case DType::kF16:
      return HalfToDouble(Load<uint16_t>(from));
    case DType::kI32:
      return Load<int32_t>(from);
    case DType::kI64:
      return static_cast<double>(Load<int64_t>(from));
    case DType::kU8:
      return Load<uint8_t>(from);
  }
  return 0;
}

void CompareSlices(DType dtype, const std::vector<char>& a, const std::vector<char>& b,
                   Difference* difference) {
  if (memcmp(a.data(), b.data(), a.size()) == 0) return;
  const size_t step = static_cast<size_t>(SizeOf(dtype));
  for (size_t i = 0; i < a.size(); i += step) {
    if (memcmp(a.data() + i, b.data() + i, step) == 0) continue;
    ++difference->elements;
    const double gap = std::abs(ValueAt(dtype, a.data() + i) - ValueAt(dtype, b.data() + i));
    if (std::isnan(gap) || gap > difference->max_abs_difference) difference->max_abs_difference = gap;
  }
}

std::vector<TensorPiece> WholePieces(const std::vector<TensorInfo>& tensors) {
  std::vector<TensorPiece> pieces;
  for (const TensorInfo& t : tensors) {
    pieces.push_back(TensorPiece::Whole(t.model, t.name, t.role, t.dtype, t.shape, nullptr));
  }
  return pieces;
}

absl::StatusOr<Difference> DiffTensor(const CheckpointReader& a, const CheckpointReader& b,
                                      const TensorInfo& tensor, const Progress& progress) {
  Difference difference;
  difference.name = TensorKey(tensor);
  difference.has_values = true;
  TensorPiece part = WholePieces({tensor})[0];
  const int64_t elements = part.range_end, slice = kSliceBytes / SizeOf(tensor.dtype);
  std::vector<char> left, right;
  for (int64_t begin = 0; begin < elements; begin += slice) {
    part.range_begin = begin;
    part.range_end = std::min(begin + slice, elements);
    left.resize(static_cast<size_t>(part.bytes()));
    right.resize(left.size());
    part.data = left.data();
    TANREN_RETURN_IF_ERROR(a.ReadLocal({&part, 1}));
    part.data = right.data();
    TANREN_RETURN_IF_ERROR(b.ReadLocal({&part, 1}));
    CompareSlices(tensor.dtype, left, right, &difference);
    if (progress) progress(part.bytes());
  }
  difference.what = absl::StrCat(difference.elements, " of ", elements, " elements differ");
  return difference;
}

void DiffState(const CheckpointReader& a, const CheckpointReader& b, std::vector<Difference>* differences) {
  std::set<std::string> keys;
  for (const auto& [key, value] : a.state()) keys.insert(key);
  for (const auto& [key, value] : b.state()) keys.insert(key);
  for (const std::string& key : keys) {
    const auto left = a.state().find(key), right = b.state().find(key);
    Difference difference;
    difference.name = "state " + key;
    if (left == a.state().end()) {
      difference.what = "only in B";
    } else if (right == b.state().end()) {
      difference.what = "only in A";
    } else if (left->second != right->second) {
      difference.what =
          absl::StrCat(left->second.size(), " and ", right->second.size(), " bytes that differ");
    } else {
      continue;
    }
    differences->push_back(std::move(difference));
  }
}

std::string Describe(const TensorInfo& tensor) {
  return absl::StrCat(NameOf(tensor.dtype), " ", ShapeToString(tensor.shape));
}

}  // namespace

absl::StatusOr<std::vector<Difference>> DiffCheckpoints(const CheckpointReader& a, const CheckpointReader& b,
                                                        const Progress& progress) {
  std::vector<Difference> differences;
  for (const TensorInfo& tensor : a.tensors()) {
    const TensorInfo* other = b.Find(tensor.model, tensor.name, tensor.role);
    if (other != nullptr && *other == tensor) {
      TANREN_ASSIGN_OR_RETURN(Difference difference, DiffTensor(a, b, tensor, progress));
      if (difference.elements > 0) differences.push_back(std::move(difference));
      continue;
    }
    Difference difference;
    difference.name = TensorKey(tensor);
    difference.what =
        other == nullptr ? "only in A" : absl::StrCat(Describe(tensor), " and ", Describe(*other));
    differences.push_back(std::move(difference));
  }
  for (const TensorInfo& tensor : b.tensors()) {
    if (a.Find(tensor.model, tensor.name, tensor.role) != nullptr) continue;
    Difference difference;
    difference.name = TensorKey(tensor);
    difference.what = "only in B";
    differences.push_back(std::move(difference));
  }
  DiffState(a, b, &differences);
  return differences;
}

absl::StatusOr<SaveReport> ReshardCheckpoint(const CheckpointReader& reader, const std::string& out,
                                             int files, const Progress& progress) {
  std::string path = out;
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  const size_t slash = path.rfind('/');
  SaveRequest request;
  request.run_dir = slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
  request.directory_name = slash == std::string::npos ? path : path.substr(slash + 1);
  if (!IsPlainBasename(request.directory_name)) {
    return InvalidInput("--out %s: the last part must be of [A-Za-z0-9._-] and not begin with a dot", out);
  }
  if (files < 1 || files > 99999) return InvalidInput("--files %d: 1 to 99999", files);
  const int64_t named_step = ParseStepName(request.directory_name);
  if (named_step >= 0 && named_step != reader.manifest().step) {
    return InvalidInput("--out %s: the checkpoint is of step %d", out, reader.manifest().step);
  }
  request.run_id = reader.manifest().run_id;
  request.stage = reader.manifest().stage;
  request.step = reader.manifest().step;
  request.mesh = reader.manifest().mesh;
  const std::vector<TensorPiece> pieces = WholePieces(reader.tensors());
  request.pieces = pieces;
  request.state = reader.state();
  TANREN_ASSIGN_OR_RETURN(request.config_text, reader.ConfigText());
  TANREN_ASSIGN_OR_RETURN(request.tokenizer, reader.ReadTokenizer());
  request.shards_per_rank = files;
  std::error_code error;
  std::filesystem::create_directories(request.run_dir, error);
  if (error) return InvalidInput("--out %s: %s: %s", out, request.run_dir, error.message());
  request.produce = [&](const TensorPiece& part) {
    if (progress) progress(part.bytes());
    return reader.ReadLocal({&part, 1});
  };
  const std::unique_ptr<Comm> solo = MakeSoloComm("world");
  return SaveCheckpoint(*solo, request);
}

}  // namespace tanren
