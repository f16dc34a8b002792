#include "core/checkpoint/reader.h"

#include <string.h>

#include <algorithm>
#include <optional>

#include "core/base/status.h"
#include "core/checkpoint/checksums.h"
#include "core/checkpoint/gather.h"
#include "core/checkpoint/run_directory.h"
#include "core/checkpoint/safetensors.h"
#include "kernels/reduce.h"

namespace tanren {
namespace {

// Whatever is wrong with the bytes of a checkpoint is damage; errors of the machine keep their code.
// A later schema is no damage.
absl::Status AsDamage(const std::string& place, const absl::Status& status) {
  if (status.code() == absl::StatusCode::kUnimplemented) return At(place, status);
  if (status.code() != absl::StatusCode::kInvalidArgument) return status;
  return absl::DataLossError(absl::StrCat(place, ": ", status.message()));
}

// COMMIT and the manifest as they are on disk, with advice where the path is not a checkpoint at all.
absl::Status ReadCommit(const Directory& directory, std::string* commit, std::string* manifest) {
  const std::string name = directory.path().substr(directory.path().rfind('/') + 1);
  if (name.find(".tmp-") != std::string::npos) {
    return InvalidInput("%s is the leftover of an interrupted save and is never loaded", directory.path());
  }
  TANREN_ASSIGN_OR_RETURN(const bool has_commit, directory.Has("COMMIT"));
  if (!has_commit) {
    TANREN_ASSIGN_OR_RETURN(const std::vector<std::string> steps, ListSteps(directory));
    if (!steps.empty()) {
      return InvalidInput("%s is a run directory; name a checkpoint in it, such as %s", directory.path(),
                          directory.PathOf(steps.front()));
    }
  }
  TANREN_ASSIGN_OR_RETURN(*commit, ReadSmallFile(directory, "COMMIT", 65));
  TANREN_ASSIGN_OR_RETURN(*manifest, ReadSmallFile(directory, "manifest.pb", kMaxManifestBytes));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<CheckpointReader>> CheckpointReader::Open(Comm& world,
                                                                         const std::string& step_dir,
                                                                         const OpenOptions& options) {
  std::unique_ptr<CheckpointReader> reader(new CheckpointReader());
  absl::StatusOr<Directory> directory = Directory::OpenReal(step_dir);
  TANREN_RETURN_IF_ERROR(AgreeStatus(world, "checkpoint_directory", directory.status()));
  reader->directory_ = *std::move(directory);

  // Rank 0 reads, so that all ranks judge the same bytes.
  std::string bytes, commit;
  absl::Status status;
  if (world.rank() == 0) status = ReadCommit(reader->directory_, &commit, &bytes);
  TANREN_RETURN_IF_ERROR(AgreeStatus(world, "checkpoint_commit", status));
  commit = BroadcastString(world, "checkpoint_commit_text", commit, 0);
  bytes = BroadcastString(world, "checkpoint_manifest", bytes, 0);
  TANREN_RETURN_IF_ERROR(AgreeStatus(world, "checkpoint_manifest_valid",
                                     AsDamage(reader->path(), reader->LoadManifest(bytes, commit))));

  for (int f = world.rank(); status.ok() && f < static_cast<int>(reader->manifest_.files.size());
       f += world.size()) {
    status = AsDamage(reader->path(), reader->CheckFile(f, options));
  }
  TANREN_RETURN_IF_ERROR(AgreeStatus(world, "checkpoint_files", status));
  // After the files: of a damaged one, its name says more than the hash of them all.
  if (world.rank() == 0) status = AsDamage(reader->path(), reader->CheckHashes());
  TANREN_RETURN_IF_ERROR(AgreeStatus(world, "checkpoint_hashes", status));
  return reader;
}

absl::Status CheckpointReader::LoadManifest(const std::string& bytes, const std::string& commit) {
  const std::string sum = Sha256Hex(bytes);
  if (commit != sum + "\n") {
    return InvalidInput("COMMIT \"%s\" is not the SHA-256 of manifest.pb, %s", Escaped(commit), sum);
  }
  identity_ = sum;
  TANREN_ASSIGN_OR_RETURN(manifest_, DecodeManifest(bytes));
  TANREN_RETURN_IF_ERROR(ValidateManifest(manifest_));
  const std::string name = path().substr(path().rfind('/') + 1);
  if (const int64_t step = ParseStepName(name); step >= 0 && step != manifest_.step) {
    return InvalidInput("the manifest is of step %d: the directory was renamed or swapped", manifest_.step);
  }
  for (size_t t = 0; t < manifest_.tensors.size(); ++t) {
    tensor_index_[TensorKey(manifest_.tensors[t])] = static_cast<int>(t);
  }
  chunks_of_tensor_.resize(manifest_.tensors.size());
  chunks_of_file_.resize(manifest_.files.size());
  for (int c = 0; c < static_cast<int>(manifest_.chunks.size()); ++c) {
    chunks_of_tensor_[manifest_.chunks[c].tensor].push_back(c);
    chunks_of_file_[manifest_.chunks[c].file].push_back(c);
  }
  for (std::vector<int>& chunks : chunks_of_file_) {
    std::sort(chunks.begin(), chunks.end(), [&](int a, int b) {
      return manifest_.chunks[a].file_offset < manifest_.chunks[b].file_offset;
    });
  }
  return absl::OkStatus();
}

absl::Status CheckpointReader::CheckFile(int file, const OpenOptions& options) const {
  const FileInfo& info = manifest_.files[file];
  std::optional<Directory> folder;
  if (info.kind == FileKind::kTokenizer) {
    TANREN_ASSIGN_OR_RETURN(folder, directory_.OpenChild("tokenizer"));
  }
  TANREN_ASSIGN_OR_RETURN(const ReadableFile opened,
                          ReadableFile::Open(folder ? *folder : directory_, info.name));
  if (opened.bytes() != info.bytes) {
    return absl::DataLossError(
        absl::StrCat(opened.path(), ": ", opened.bytes(), " bytes, ", info.bytes, " were written"));
  }
  if (info.kind != FileKind::kShard) return CheckWhole(info, opened);
  TANREN_RETURN_IF_ERROR(At(opened.path(), CheckShardHeader(file, opened)));
  return options.verify_data ? VerifyShardData(file, opened, options) : absl::OkStatus();
}

absl::Status CheckpointReader::CheckShardHeader(int file, const ReadableFile& opened) const {
  const FileInfo& info = manifest_.files[file];
  std::string prefix(static_cast<size_t>(info.header_bytes),
                     '\0');  // at most the file's true size, checked before
  TANREN_RETURN_IF_ERROR(opened.ReadAt(0, prefix.data(), info.header_bytes));
  if (const uint32_t crc = Crc32c(prefix); crc != info.header_crc32c) {
    return InvalidInput("header is damaged: CRC32C %08x, written as %08x", crc, info.header_crc32c);
  }
  TANREN_ASSIGN_OR_RETURN(const SafetensorsHeader header, ParseSafetensors(prefix, info.bytes));
  const std::vector<int>& chunks = chunks_of_file_[file];
  if (header.data_offset != info.header_bytes || header.entries.size() != chunks.size()) {
    return InvalidInput("header has %d tensors and %d bytes, the manifest says %d and %d",
                        header.entries.size(), header.data_offset, chunks.size(), info.header_bytes);
  }
  for (size_t i = 0; i < chunks.size(); ++i) {
    const SafetensorsEntry& entry = header.entries[i];
    const ChunkInfo& chunk = manifest_.chunks[chunks[i]];
    if (entry.name != chunk.key || entry.dtype != manifest_.tensors[chunk.tensor].dtype ||
        entry.shape != ChunkShape(chunk.region) || header.data_offset + entry.begin != chunk.file_offset) {
      return InvalidInput("entry \"%s\" is not the manifest's chunk %s", Escaped(entry.name), chunk.key);
    }
  }
  return absl::OkStatus();
}

absl::Status CheckpointReader::VerifyShardData(int file, const ReadableFile& opened,
                                               const OpenOptions& options) const {
  const FileInfo& info = manifest_.files[file];
  std::vector<char> block(static_cast<size_t>(manifest_.block_bytes));
  uint32_t crc = info.header_crc32c;
  for (int c : chunks_of_file_[file]) {
    const ChunkInfo& chunk = manifest_.chunks[c];
    const int64_t chunk_bytes = manifest_.ChunkBytes(chunk);
    for (int64_t b = 0; b * manifest_.block_bytes < chunk_bytes; ++b) {
      const int64_t begin = b * manifest_.block_bytes;
      const int64_t bytes = std::min(manifest_.block_bytes, chunk_bytes - begin);
      TANREN_RETURN_IF_ERROR(opened.ReadAt(chunk.file_offset + begin, block.data(), bytes));
      TANREN_RETURN_IF_ERROR(
          CheckBlock(opened, chunk, b, manifest_.block_bytes, bytes, Crc32c(block.data(), bytes)));
      crc = Crc32cCombine(crc, chunk.block_crc32c[b], bytes);
      if (options.on_verified) options.on_verified(bytes);
    }
  }
  if (crc == info.crc32c) return absl::OkStatus();
  return absl::DataLossError(absl::StrFormat("%s: CRC32C of the whole file is %08x, the manifest says %08x",
                                             opened.path(), crc, info.crc32c));
}

absl::Status CheckpointReader::CheckWhole(const FileInfo& info, const ReadableFile& opened) const {
  std::vector<char> block(
      static_cast<size_t>(std::min(kChecksumBlockBytes, std::max<int64_t>(1, info.bytes))));
  uint32_t crc = 0;
  for (int64_t begin = 0; begin < info.bytes; begin += static_cast<int64_t>(block.size())) {
    const int64_t bytes = std::min(static_cast<int64_t>(block.size()), info.bytes - begin);
    TANREN_RETURN_IF_ERROR(opened.ReadAt(begin, block.data(), bytes));
    crc = Crc32c(block.data(), bytes, crc);
  }
  if (crc == info.crc32c) return absl::OkStatus();
  return absl::DataLossError(
      absl::StrFormat("%s is damaged: CRC32C %08x, written as %08x", opened.path(), crc, info.crc32c));
}

absl::Status CheckpointReader::CheckHashes() const {
  TANREN_ASSIGN_OR_RETURN(const std::string config, ConfigText());
  if (const std::string sum = Sha256Hex(config); sum != manifest_.config_sha256) {
    return InvalidInput("resolved.yaml has SHA-256 %s, the manifest says \"%s\"", sum,
                        Escaped(manifest_.config_sha256));
  }
  TANREN_ASSIGN_OR_RETURN(const TokenizerFiles tokenizer, ReadTokenizer());
  if (const std::string sum = TokenizerSha256(tokenizer); sum != manifest_.tokenizer_sha256) {
    return InvalidInput("tokenizer/ has hash \"%s\", the manifest says \"%s\"", sum,
                        Escaped(manifest_.tokenizer_sha256));
  }
  return absl::OkStatus();
}

absl::StatusOr<TokenizerFiles> CheckpointReader::ReadTokenizer() const {
  TokenizerFiles files;
  for (const FileInfo& info : manifest_.files) {
    if (info.kind != FileKind::kTokenizer) continue;
    TANREN_ASSIGN_OR_RETURN(const Directory folder, directory_.OpenChild("tokenizer"));
    TANREN_ASSIGN_OR_RETURN(files[info.name], ReadSmallFile(folder, info.name, kMaxTokenizerFileBytes));
  }
  return files;
}

absl::StatusOr<std::string> CheckpointReader::State(const std::string& key) const {
  const auto found = manifest_.state.find(key);
  if (found == manifest_.state.end()) return InvalidInput("%s: no state \"%s\"", path(), key);
  return found->second;
}

int CheckpointReader::IndexOf(const TensorInfo& tensor) const {
  const auto found = tensor_index_.find(TensorKey(tensor));
  return found == tensor_index_.end() ? -1 : found->second;
}

const TensorInfo* CheckpointReader::Find(const std::string& model, const std::string& name, Role role) const {
  const int index = IndexOf(TensorInfo{model, name, role, DType::kF32, {}});
  return index < 0 ? nullptr : &manifest_.tensors[index];
}

absl::StatusOr<std::string> CheckpointReader::ConfigText() const {
  constexpr int64_t kMaxConfigBytes = int64_t{16} << 20;
  return ReadSmallFile(directory_, "resolved.yaml", kMaxConfigBytes);
}

bool CheckpointReader::Converts(const TensorPiece& piece, const ReadOptions& options) const {
  const auto is_float = [](DType dtype) { return dtype == DType::kF32 || dtype == DType::kBF16; };
  const int index = IndexOf(piece.info());
  if (index < 0 || !options.may_be_converted) return false;
  const TensorInfo& stored = manifest_.tensors[index];
  return stored.dtype != piece.dtype && is_float(stored.dtype) && is_float(piece.dtype) &&
         options.may_be_converted(stored);
}

absl::Status CheckpointReader::CheckPiece(const TensorPiece& piece, const ReadOptions& options) const {
  const TensorInfo info = piece.info();
  TANREN_RETURN_IF_ERROR(CheckTensorInfo(info));
  TANREN_RETURN_IF_ERROR(At(TensorKey(info), CheckRegion(piece.global_shape, piece.region())));
  const int index = IndexOf(info);
  if (index < 0) return absl::OkStatus();
  const TensorInfo& stored = manifest_.tensors[index];
  if (stored.shape != info.shape || (stored.dtype != info.dtype && !Converts(piece, options))) {
    return InvalidInput("%s: %s is %s %s in the checkpoint, %s %s in this run", path(), TensorKey(info),
                        NameOf(stored.dtype), ShapeToString(stored.shape), NameOf(info.dtype),
                        ShapeToString(info.shape));
  }
  return absl::OkStatus();
}

std::vector<int32_t> CheckpointReader::WantedByAnyRank(Comm& world,
                                                       absl::Span<const TensorPiece> pieces) const {
  std::vector<int32_t> wanted(manifest_.tensors.size(), 0);
  for (const TensorPiece& piece : pieces) {
    if (const int index = IndexOf(piece.info()); index >= 0) wanted[index] = 1;
  }
  world.AllReduce(Stream{}, "checkpoint_wanted", wanted.data(), static_cast<int64_t>(wanted.size()),
                  ReduceOp::kMax);
  return wanted;
}

absl::StatusOr<ReadReport> CheckpointReader::Read(Comm& world, absl::Span<const TensorPiece> wanted,
                                                  const ReadOptions& options) {
  ReadReport report;
  absl::Status status;
  std::vector<TensorPiece> as_stored, converted;
  for (const TensorPiece& piece : wanted) {
    if (status.ok()) status = CheckPiece(piece, options);
    if (!status.ok()) break;
    const TensorInfo info = piece.info();
    if (Converts(piece, options)) {
      converted.push_back(piece);
      report.converted_tensors.push_back(TensorKey(info));
    } else if (IndexOf(info) >= 0) {
      as_stored.push_back(piece);
    } else if (options.may_be_new && options.may_be_new(info)) {
      report.new_tensors.push_back(TensorKey(info));
    } else {
      status = InvalidInput("%s: no tensor %s, which this run needs and does not declare as new", path(),
                            TensorKey(info));
    }
  }
  const std::vector<int32_t> wanted_by_any = WantedByAnyRank(world, wanted);
  for (size_t t = 0; t < wanted_by_any.size(); ++t) {
    const TensorInfo& info = manifest_.tensors[t];
    if (wanted_by_any[t]) continue;
    report.dropped_tensors.push_back(TensorKey(info));
    if (status.ok() && !(options.may_be_dropped && options.may_be_dropped(info))) {
      status = InvalidInput("%s: tensor %s is not in this run's model, and is not declared as dropped",
                            path(), TensorKey(info));
    }
  }
  // Names and shapes are settled on all ranks before any rank moves data.
  TANREN_RETURN_IF_ERROR(AgreeStatus(world, "checkpoint_tensors", status));
  status = ReadLocal(as_stored);
  for (const TensorPiece& piece : converted) {
    if (status.ok()) status = ReadConverted(piece);
  }
  TANREN_RETURN_IF_ERROR(AgreeStatus(world, "checkpoint_read", status));
  for (std::vector<std::string>* names : {&report.new_tensors, &report.converted_tensors}) {
    std::sort(names->begin(), names->end());
    names->erase(std::unique(names->begin(), names->end()), names->end());
  }
  for (const std::vector<TensorPiece>* pieces : {&as_stored, &converted}) {
    for (const TensorPiece& piece : *pieces) report.bytes += piece.bytes();
  }
  return report;
}

absl::Status CheckpointReader::ReadLocal(absl::Span<const TensorPiece> wanted) const {
  std::map<int, std::vector<GatherTarget>> targets_of_chunk;
  for (const TensorPiece& piece : wanted) {
    TANREN_RETURN_IF_ERROR(CheckPiece(piece));
    const int index = IndexOf(piece.info());
    if (index < 0) return InvalidInput("%s: no tensor %s", path(), TensorKey(piece.info()));
    if (piece.elements() == 0) continue;
    for (int c : chunks_of_tensor_[index]) {
      SharedRuns shared(manifest_.chunks[c].region, piece.region());
      if (shared.cursors().empty()) continue;
      targets_of_chunk[c].push_back({std::move(shared.cursors()), static_cast<char*>(piece.data)});
    }
  }
  ChunkGatherer gatherer(manifest_);
  for (int f = 0; f < static_cast<int>(chunks_of_file_.size()); ++f) {
    std::optional<ReadableFile> opened;
    for (int c : chunks_of_file_[f]) {
      const auto found = targets_of_chunk.find(c);
      if (found == targets_of_chunk.end()) continue;
      if (!opened) {
        TANREN_ASSIGN_OR_RETURN(opened, ReadableFile::Open(directory_, manifest_.files[f].name));
      }
      TANREN_RETURN_IF_ERROR(gatherer.Gather(*opened, manifest_.chunks[c], &found->second));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckpointReader::ReadConverted(const TensorPiece& piece) const {
  const DType from = manifest_.tensors[IndexOf(piece.info())].dtype;
  const int64_t slice = kStagingBytes / SizeOf(from);
  std::vector<char> stored(static_cast<size_t>(std::min(slice, piece.elements()) * SizeOf(from)));
  for (int64_t begin = piece.range_begin; begin < piece.range_end; begin += slice) {
    TensorPiece part = piece;
    part.range_begin = begin;
    part.range_end = std::min(begin + slice, piece.range_end);
    part.dtype = from;
    part.data = stored.data();
    TANREN_RETURN_IF_ERROR(ReadLocal({&part, 1}));
    char* const to = static_cast<char*>(piece.data) + (begin - piece.range_begin) * SizeOf(piece.dtype);
    kernels::Cast(Stream(), part.elements(), ConstBuffer(stored.data(), from), Buffer(to, piece.dtype));
  }
  return absl::OkStatus();
}

absl::Status CheckpointReader::CompareLocal(absl::Span<const TensorPiece> pieces,
                                            const ProducePart& produce) const {
  std::vector<char> stored, produced;
  for (const TensorPiece& piece : pieces) {
    const int64_t element_bytes = SizeOf(piece.dtype), slice = kStagingBytes / element_bytes;
    for (int64_t begin = piece.range_begin; begin < piece.range_end; begin += slice) {
      TensorPiece part = piece;
      part.range_begin = begin;
      part.range_end = std::min(begin + slice, piece.range_end);
      const char* held = static_cast<const char*>(piece.data);
      if (held != nullptr) {
        held += (begin - piece.range_begin) * element_bytes;
      } else {
        produced.resize(static_cast<size_t>(part.bytes()));
        part.data = produced.data();
        held = produced.data();
        TANREN_RETURN_IF_ERROR(produce(part));
      }
      stored.resize(static_cast<size_t>(part.bytes()));
      part.data = stored.data();
      TANREN_RETURN_IF_ERROR(ReadLocal({&part, 1}));
      if (memcmp(held, stored.data(), stored.size()) != 0) {
        return absl::AlreadyExistsError(
            absl::StrCat(path(), " holds other values of ", TensorKey(piece.info())));
      }
    }
  }
  return absl::OkStatus();
}

absl::Status CheckpointReader::Compare(Comm& world, absl::Span<const TensorPiece> pieces,
                                       const ProducePart& produce) const {
  absl::Status status;
  for (const TensorPiece& piece : pieces) {
    if (!status.ok()) break;
    const int index = IndexOf(piece.info());
    if (index < 0 || !(manifest_.tensors[index] == piece.info())) {
      status =
          absl::AlreadyExistsError(absl::StrCat(path(), " has no tensor like ", TensorKey(piece.info())));
    }
  }
  const std::vector<int32_t> wanted = WantedByAnyRank(world, pieces);
  for (size_t t = 0; status.ok() && t < wanted.size(); ++t) {
    if (wanted[t]) continue;
    status =
        absl::AlreadyExistsError(absl::StrCat(path(), " also has tensor ", TensorKey(manifest_.tensors[t])));
  }
  if (status.ok()) status = CompareLocal(pieces, produce);
  return AgreeStatus(world, "checkpoint_compare", status);
}

}  // namespace tanren
