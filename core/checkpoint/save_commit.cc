// Rank 0's half of a save: from the ranks' parts to a published checkpoint.
#include <algorithm>
#include <map>
#include <tuple>

#include "core/base/status.h"
#include "core/checkpoint/checksums.h"
#include "core/checkpoint/save.h"

namespace tanren {
namespace {

// The order of records in a manifest depends on the contents only.
void SortManifest(Manifest* manifest) {
  std::vector<int> file_order(manifest->files.size()), tensor_order(manifest->tensors.size());
  for (size_t i = 0; i < file_order.size(); ++i) file_order[i] = static_cast<int>(i);
  for (size_t i = 0; i < tensor_order.size(); ++i) tensor_order[i] = static_cast<int>(i);
  std::sort(file_order.begin(), file_order.end(), [&](int a, int b) {
    const FileInfo &left = manifest->files[a], &right = manifest->files[b];
    return std::tie(left.kind, left.name) < std::tie(right.kind, right.name);
  });
  std::sort(tensor_order.begin(), tensor_order.end(), [&](int a, int b) {
    const TensorInfo &left = manifest->tensors[a], &right = manifest->tensors[b];
    return std::tie(left.model, left.name, left.role) < std::tie(right.model, right.name, right.role);
  });
  Manifest sorted = *manifest;
  std::vector<int> new_file(file_order.size()), new_tensor(tensor_order.size());
  for (size_t i = 0; i < file_order.size(); ++i) {
    sorted.files[i] = manifest->files[file_order[i]];
    new_file[file_order[i]] = static_cast<int>(i);
  }
  for (size_t i = 0; i < tensor_order.size(); ++i) {
    sorted.tensors[i] = manifest->tensors[tensor_order[i]];
    new_tensor[tensor_order[i]] = static_cast<int>(i);
  }
  for (ChunkInfo& chunk : sorted.chunks) {
    chunk.file = new_file[chunk.file];
    chunk.tensor = new_tensor[chunk.tensor];
  }
  std::sort(sorted.chunks.begin(), sorted.chunks.end(), [](const ChunkInfo& a, const ChunkInfo& b) {
    return std::tie(a.tensor, a.region.box.offset, a.region.begin, a.file) <
           std::tie(b.tensor, b.region.box.offset, b.region.begin, b.file);
  });
  *manifest = std::move(sorted);
}

}  // namespace

absl::Status CheckpointSave::MergeParts(const std::vector<std::string>& parts, Manifest* manifest) {
  manifest->run_id = request_.run_id;
  manifest->step = request_.step;
  manifest->stage = request_.stage;
  manifest->mesh = request_.mesh;
  manifest->state = request_.state;
  manifest->config_sha256 = Sha256Hex(request_.config_text);
  manifest->tokenizer_sha256 = TokenizerSha256(request_.tokenizer);
  std::map<std::string, int> index;
  for (size_t r = 0; r < parts.size(); ++r) {
    TANREN_ASSIGN_OR_RETURN(Manifest part, DecodeManifest(parts[r]));
    std::vector<int> tensor_of_part;
    for (TensorInfo& tensor : part.tensors) {
      const auto [entry, added] =
          index.try_emplace(TensorKey(tensor), static_cast<int>(manifest->tensors.size()));
      if (added) manifest->tensors.push_back(tensor);
      if (!(manifest->tensors[entry->second] == tensor)) {
        return absl::InternalError(absl::StrCat("rank ", r, " has another shape or element type of ",
                                                entry->first, " than a rank before it"));
      }
      tensor_of_part.push_back(entry->second);
    }
    const int first_file = static_cast<int>(manifest->files.size());
    for (FileInfo& file : part.files) manifest->files.push_back(std::move(file));
    for (ChunkInfo& chunk : part.chunks) {
      chunk.tensor = tensor_of_part[chunk.tensor];
      chunk.file += first_file;
      manifest->chunks.push_back(std::move(chunk));
    }
  }
  SortManifest(manifest);
  return absl::OkStatus();
}

absl::Status CheckpointSave::CheckSizes(const Manifest& manifest) {
  for (const FileInfo& file : manifest.files) {
    if (file.kind != FileKind::kShard) continue;
    TANREN_ASSIGN_OR_RETURN(const ReadableFile opened, ReadableFile::Open(temporary_, file.name));
    if (opened.bytes() != file.bytes) {
      return absl::DataLossError(absl::StrCat(opened.path(), ": ", opened.bytes(), " bytes after the sync, ",
                                              file.bytes, " written"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckpointSave::Publish() {
  if (rank_ != 0 || already_committed_) return absl::OkStatus();
  TANREN_RETURN_IF_ERROR(PublishManifest());
  TANREN_RETURN_IF_ERROR(PublishDirectory());
  if (request_.directory_name.empty()) AfterCommit();
  return absl::OkStatus();
}

absl::Status CheckpointSave::PublishManifest() {
  Manifest manifest;
  TANREN_RETURN_IF_ERROR(MergeParts(parts_, &manifest));
  TANREN_RETURN_IF_ERROR(At("save", ValidateManifest(manifest)));
  TANREN_RETURN_IF_ERROR(CheckSizes(manifest));
  const std::string bytes = EncodeManifest(manifest);
  // A manifest that a reader would refuse must not be committed.
  TANREN_RETURN_IF_ERROR(At("save", DecodeManifest(bytes).status()));
  TANREN_RETURN_IF_ERROR(faults_->Point("manifest", temporary_.PathOf("manifest.pb")));
  TANREN_RETURN_IF_ERROR(WriteSmallFile(temporary_, "manifest.pb", bytes, nullptr));
  TANREN_RETURN_IF_ERROR(temporary_.Sync());
  TANREN_RETURN_IF_ERROR(faults_->Point("commit", temporary_.PathOf("COMMIT")));
  TANREN_RETURN_IF_ERROR(WriteSmallFile(temporary_, "COMMIT", Sha256Hex(bytes) + "\n", nullptr));
  return temporary_.Sync();
}

absl::Status CheckpointSave::PublishDirectory() {
  TANREN_RETURN_IF_ERROR(faults_->Point("rename", run_.PathOf(temporary_name_)));
  if (replaces_damaged_) {
    TANREN_RETURN_IF_ERROR(run_.Rename(name_, absl::StrCat(name_, ".damaged-", RandomSuffix())));
  }
  TANREN_RETURN_IF_ERROR(run_.Rename(temporary_name_, name_));
  renamed_ = true;
  absl::Status status = faults_->Point("parent", run_.path());
  if (status.ok()) status = run_.Sync();
  if (status.ok()) return status;
  return absl::Status(
      status.code(),
      absl::StrCat(name_, " is complete, but may not survive a power cut: ", status.message()));
}

void CheckpointSave::Abandon(absl::Status* status) {
  if (rank_ != 0 || renamed_ || temporary_name_.empty()) return;
  absl::Status removed = run_.Remove(temporary_name_);
  if (removed.ok()) removed = run_.Sync();
  if (removed.ok()) return;
  *status = absl::Status(
      status->code(),
      absl::StrCat(status->message(), "; and the unfinished save stays behind: ", removed.message()));
}

void CheckpointSave::AfterCommit() {
  const std::string temporary = absl::StrCat("LATEST.tmp-", RandomSuffix());
  absl::Status latest = faults_->Point("latest", run_.PathOf("LATEST"));
  if (latest.ok()) latest = WriteSmallFile(run_, temporary, name_ + "\n", nullptr);
  if (latest.ok()) latest = run_.Replace(temporary, "LATEST");
  if (latest.ok()) latest = run_.Sync();
  if (!latest.ok()) report_.warnings.push_back(absl::StrCat("LATEST was not updated: ", latest.message()));
  absl::StatusOr<std::vector<std::string>> removed = ApplyRetention(run_, request_.retention, faults_);
  if (removed.ok()) {
    report_.removed = *std::move(removed);
  } else {
    report_.warnings.push_back(
        absl::StrCat("old checkpoints were not removed: ", removed.status().message()));
  }
}

}  // namespace tanren
