#include "core/checkpoint/save.h"

#include <algorithm>
#include <memory>

#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "core/base/status.h"
#include "core/checkpoint/checksums.h"
#include "core/checkpoint/reader.h"

namespace tanren {
namespace {

// Room for the manifest, directories and small files beside the tensor data.
constexpr int64_t kSlackBytes = int64_t{4} << 20;

// What all ranks must agree on, one line each.
std::vector<std::string> RankFreeFacts(const SaveRequest& request) {
  std::string state;
  for (const auto& [key, value] : request.state) absl::StrAppend(&state, key, "=", Sha256Hex(value), "\n");
  return {absl::StrCat("step ", request.step),
          absl::StrCat("run directory ", Escaped(request.run_dir)),
          absl::StrCat("run id ", Escaped(request.run_id)),
          absl::StrCat("stage ", Escaped(request.stage)),
          absl::StrCat("mesh ", request.mesh.ToString()),
          absl::StrCat("config of SHA-256 ", Sha256Hex(request.config_text)),
          absl::StrCat("state of SHA-256 ", Sha256Hex(state)),
          absl::StrCat("tokenizer of SHA-256 ", TokenizerSha256(request.tokenizer))};
}

absl::Status CheckPieces(const SaveRequest& request) {
  if (request.shards_per_rank < 1)
    return InvalidInput("%d files per rank; at least 1", request.shards_per_rank);
  for (const TensorPiece& piece : request.pieces) {
    const TensorInfo info = piece.info();
    TANREN_RETURN_IF_ERROR(CheckTensorInfo(info));
    TANREN_RETURN_IF_ERROR(At(TensorKey(info), CheckRegion(piece.global_shape, piece.region())));
    if (piece.elements() > 0 && piece.data == nullptr && !request.produce) {
      return InvalidInput("%s: no data", TensorKey(info));
    }
  }
  return absl::OkStatus();
}

// The pieces in `groups` lists of like total size: each, largest first, goes to the smallest list so far.
std::vector<std::vector<int>> Spread(absl::Span<const TensorPiece> pieces, std::vector<int> members,
                                     int groups) {
  std::vector<std::vector<int>> lists(static_cast<size_t>(groups));
  std::vector<int64_t> bytes(lists.size(), 0);
  std::stable_sort(members.begin(), members.end(),
                   [&](int a, int b) { return pieces[a].bytes() > pieces[b].bytes(); });
  for (int p : members) {
    const size_t smallest = static_cast<size_t>(std::min_element(bytes.begin(), bytes.end()) - bytes.begin());
    lists[smallest].push_back(p);
    bytes[smallest] += pieces[p].bytes();
  }
  return lists;
}

}  // namespace

absl::Status CheckpointSave::PlanShards(int rank) {
  TANREN_RETURN_IF_ERROR(CheckPieces(request_));
  std::map<std::string, int> tensor_index;
  std::vector<int> members[2];  // weights; all else
  for (int p = 0; p < static_cast<int>(request_.pieces.size()); ++p) {
    const TensorPiece& piece = request_.pieces[p];
    const auto [entry, added] =
        tensor_index.try_emplace(TensorKey(piece.info()), static_cast<int>(part_.tensors.size()));
    if (added) part_.tensors.push_back(piece.info());
    if (!(part_.tensors[entry->second] == piece.info())) {
      return InvalidInput("%s: two pieces disagree on shape or element type", entry->first);
    }
    tensor_of_piece_.push_back(entry->second);
    if (piece.elements() > 0) members[piece.role == Role::kWeight ? 0 : 1].push_back(p);
  }
  const char* const prefixes[] = {"model", "optimizer"};
  for (int kind = 0; kind < 2; ++kind) {
    const std::vector<std::vector<int>> groups =
        Spread(request_.pieces, members[kind], request_.shards_per_rank);
    for (int g = 0; g < static_cast<int>(groups.size()); ++g) {
      if (groups[g].empty()) continue;
      const int number = rank * request_.shards_per_rank + g;
      TANREN_RETURN_IF_ERROR(PlanShard(static_cast<int>(part_.files.size()), groups[g],
                                       absl::StrFormat("%s-%05d.safetensors", prefixes[kind], number)));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckpointSave::PlanShard(int index, const std::vector<int>& pieces, const std::string& name) {
  Shard shard;
  shard.name = name;
  shard.pieces = pieces;
  std::vector<SafetensorsSpec> specs;
  for (int p : pieces) {
    const TensorPiece& piece = request_.pieces[p];
    specs.push_back({ChunkKey(piece.info(), piece.region()), piece.dtype, ChunkShape(piece.region())});
  }
  TANREN_ASSIGN_OR_RETURN(shard.plan, PlanSafetensors(specs, {{"format", "tanren"}}));
  part_.files.push_back({name, FileKind::kShard, shard.plan.file_bytes, 0,
                         static_cast<int64_t>(shard.plan.header.size()), Crc32c(shard.plan.header)});
  for (size_t i = 0; i < pieces.size(); ++i) {
    shard.chunks.push_back(static_cast<int>(part_.chunks.size()));
    part_.chunks.push_back({tensor_of_piece_[pieces[i]],
                            index,
                            request_.pieces[pieces[i]].region(),
                            specs[i].name,
                            shard.plan.offsets[i],
                            {}});
  }
  shards_.push_back(std::move(shard));
  return absl::OkStatus();
}

absl::Status CheckpointSave::AgreeOnRequest(Comm& world) {
  const std::vector<std::string> all =
      AllGatherStrings(world, "save_agree", absl::StrJoin(RankFreeFacts(request_), "\n"));
  const std::vector<std::string> first = absl::StrSplit(all[0], '\n');
  for (int r = 1; r < world.size(); ++r) {
    const std::vector<std::string> other = absl::StrSplit(all[r], '\n');
    for (size_t i = 0; i < first.size(); ++i) {
      if (i < other.size() && first[i] == other[i]) continue;
      return absl::InternalError(absl::StrCat("save: ranks disagree: rank 0 has ", first[i], ", rank ", r,
                                              " has ", i < other.size() ? other[i] : "nothing"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckpointSave::CheckExisting(Comm& world) {
  int32_t exists = 0;
  absl::Status status;
  if (rank_ == 0) {
    const absl::StatusOr<bool> has = run_.Has(name_);
    status = has.status();
    exists = has.ok() && *has ? 1 : 0;
  }
  TANREN_RETURN_IF_ERROR(AgreeStatus(world, "save_exists", status));
  world.Broadcast(Stream{}, "save_exists", &exists, 1, 0);
  if (exists == 0) return absl::OkStatus();
  // What stands there is compared as tensors and state, so that another layout or config is no difference.
  OpenOptions options;
  options.verify_data = true;
  absl::StatusOr<std::unique_ptr<CheckpointReader>> reader =
      CheckpointReader::Open(world, run_.PathOf(name_), options);
  status = reader.status();
  if (status.ok()) status = (*reader)->Compare(world, request_.pieces, request_.produce);
  if (status.ok() &&
      ((*reader)->state() != request_.state || (*reader)->manifest().stage != request_.stage)) {
    status = absl::AlreadyExistsError("other state");
  }
  if (status.ok()) {
    already_committed_ = true;
  } else if (absl::IsDataLoss(status)) {
    replaces_damaged_ = true;
  } else {
    return absl::Status(status.code(), absl::StrCat(run_.PathOf(name_),
                                                    " is already committed,"
                                                    " with other contents, and is not replaced: ",
                                                    status.message()));
  }
  return absl::OkStatus();
}

absl::Status CheckpointSave::PrepareDirectory(Comm& world) {
  int64_t bytes = 0;
  for (const FileInfo& file : part_.files) bytes += file.bytes;
  world.AllReduce(Stream{}, "save_bytes", &bytes, 1, ReduceOp::kSum);
  absl::Status status;
  if (rank_ == 0) {
    const absl::StatusOr<int64_t> available = run_.FreeBytes();
    status = available.status();
    const int64_t needed = bytes + kSlackBytes;
    if (status.ok() && *available < needed) {
      status = absl::ResourceExhaustedError(absl::StrFormat(
          "%s: the checkpoint needs %d bytes, %d are free; free some space or lower the retention",
          run_.path(), needed, *available));
    }
    if (status.ok()) {
      temporary_name_ = absl::StrCat(name_, ".tmp-", RandomSuffix());
      status = run_.CreateChild(temporary_name_).status();
    }
  }
  TANREN_RETURN_IF_ERROR(AgreeStatus(world, "save_directory", status));
  temporary_name_ = BroadcastString(world, "save_directory_name", temporary_name_, 0);
  absl::StatusOr<Directory> opened = run_.OpenChild(temporary_name_);
  if (opened.ok()) temporary_ = *std::move(opened);
  status = AgreeStatus(world, "save_directory_open",
                       At("is the run directory shared by all nodes?", opened.status()));
  if (!status.ok()) Abandon(&status);
  return status;
}

absl::StatusOr<CheckpointSave> CheckpointSave::Begin(Comm& world, const SaveRequest& request) {
  CheckpointSave save(request);
  save.rank_ = world.rank();
  save.name_ = request.directory_name.empty() ? StepName(request.step) : request.directory_name;
  save.faults_ = request.faults != nullptr ? request.faults : &SaveFaults::FromEnvironment();
  save.faults_->set_rank(world.rank());
  absl::Status status = save.PlanShards(world.rank());
  absl::StatusOr<Directory> run = Directory::Open(request.run_dir);
  if (status.ok()) status = run.status();
  TANREN_RETURN_IF_ERROR(AgreeStatus(world, "save_pieces", status));
  save.run_ = *std::move(run);
  TANREN_RETURN_IF_ERROR(save.AgreeOnRequest(world));
  SaveReport& report = save.report_;
  report.path = save.run_.PathOf(save.name_);
  for (const TensorPiece& piece : request.pieces) report.bytes += piece.bytes();
  world.AllReduce(Stream{}, "save_tensor_bytes", &report.bytes, 1, ReduceOp::kSum);
  TANREN_RETURN_IF_ERROR(save.CheckExisting(world));
  report.already_committed = save.already_committed_;
  if (!save.already_committed_) TANREN_RETURN_IF_ERROR(save.PrepareDirectory(world));
  return save;
}

absl::Status CheckpointSave::AppendBlocks(const char* data, int64_t bytes, NewFile* file, FileInfo* info,
                                          ChunkInfo* chunk) {
  for (int64_t begin = 0; begin < bytes; begin += part_.block_bytes) {
    const int64_t count = std::min(part_.block_bytes, bytes - begin);
    chunk->block_crc32c.push_back(Crc32c(data + begin, count));
    info->crc32c = Crc32cCombine(info->crc32c, chunk->block_crc32c.back(), count);
    TANREN_RETURN_IF_ERROR(file->Append(data + begin, count));
  }
  return absl::OkStatus();
}

absl::Status CheckpointSave::AppendPiece(const TensorPiece& piece, NewFile* file, FileInfo* info,
                                         ChunkInfo* chunk) {
  if (piece.data != nullptr) {
    return AppendBlocks(static_cast<const char*>(piece.data), piece.bytes(), file, info, chunk);
  }
  static_assert(kStagingBytes % kChecksumBlockBytes == 0);
  staging_.resize(kStagingBytes);
  const int64_t slice = kStagingBytes / SizeOf(piece.dtype);
  for (int64_t begin = piece.range_begin; begin < piece.range_end; begin += slice) {
    TensorPiece part = piece;
    part.range_begin = begin;
    part.range_end = std::min(begin + slice, piece.range_end);
    part.data = staging_.data();
    TANREN_RETURN_IF_ERROR(request_.produce(part));
    TANREN_RETURN_IF_ERROR(AppendBlocks(staging_.data(), part.bytes(), file, info, chunk));
  }
  return absl::OkStatus();
}

absl::Status CheckpointSave::WriteShard(int shard_index) {
  const Shard& shard = shards_[shard_index];
  FileInfo& info = part_.files[shard_index];
  TANREN_ASSIGN_OR_RETURN(NewFile file,
                          NewFile::Create(temporary_, shard.name, shard.plan.file_bytes, faults_));
  TANREN_RETURN_IF_ERROR(
      file.Append(shard.plan.header.data(), static_cast<int64_t>(shard.plan.header.size())));
  info.crc32c = info.header_crc32c;
  for (int spec : shard.plan.order) {
    TANREN_RETURN_IF_ERROR(
        AppendPiece(request_.pieces[shard.pieces[spec]], &file, &info, &part_.chunks[shard.chunks[spec]]));
  }
  return file.Finish();
}

absl::Status CheckpointSave::WriteSmall(const std::string& name, FileKind kind, std::string_view contents) {
  const Directory* directory = &temporary_;
  Directory tokenizer;
  if (kind == FileKind::kTokenizer) {
    TANREN_ASSIGN_OR_RETURN(tokenizer, temporary_.OpenChild("tokenizer"));
    directory = &tokenizer;
  }
  part_.files.push_back({name, kind, static_cast<int64_t>(contents.size()), Crc32c(contents), 0, 0});
  return WriteSmallFile(*directory, name, contents, faults_);
}

absl::Status CheckpointSave::WriteShards() {
  if (already_committed_) return absl::OkStatus();
  for (int s = 0; s < static_cast<int>(shards_.size()); ++s) TANREN_RETURN_IF_ERROR(WriteShard(s));
  if (rank_ == 0) {
    TANREN_RETURN_IF_ERROR(WriteSmall("resolved.yaml", FileKind::kConfig, request_.config_text));
    if (!request_.tokenizer.empty()) {
      TANREN_ASSIGN_OR_RETURN(const Directory tokenizer, temporary_.CreateChild("tokenizer"));
      for (const auto& [name, contents] : request_.tokenizer) {
        if (!IsPlainBasename(name) || static_cast<int64_t>(contents.size()) > kMaxTokenizerFileBytes) {
          return InvalidInput("tokenizer file \"%s\": not a plain basename, or too large", Escaped(name));
        }
        TANREN_RETURN_IF_ERROR(WriteSmall(name, FileKind::kTokenizer, contents));
      }
      TANREN_RETURN_IF_ERROR(tokenizer.Sync());
    }
  }
  return temporary_.Sync();
}

absl::Status CheckpointSave::Gather(Comm& world, const absl::Status& written) {
  absl::Status status = AgreeStatus(world, "save_written", written);
  if (!status.ok()) {
    Abandon(&status);
    return status;
  }
  if (!already_committed_) parts_ = AllGatherStrings(world, "save_parts", EncodeManifest(part_));
  return absl::OkStatus();
}

absl::StatusOr<SaveReport> CheckpointSave::End(Comm& world, absl::Status published) {
  // Also: no rank goes on, and perhaps ends, while rank 0 still prunes.
  absl::Status status = AgreeStatus(world, "save_commit", published);
  if (status.ok()) return report_;
  Abandon(&status);
  return status;
}

absl::StatusOr<SaveReport> CheckpointSave::Commit(Comm& world, const absl::Status& written) {
  TANREN_RETURN_IF_ERROR(Gather(world, written));
  return End(world, Publish());
}

absl::StatusOr<SaveReport> SaveCheckpoint(Comm& world, const SaveRequest& request) {
  TANREN_ASSIGN_OR_RETURN(CheckpointSave save, CheckpointSave::Begin(world, request));
  return save.Commit(world, save.WriteShards());
}

}  // namespace tanren
