// Saving a checkpoint: the old one or the new one survives any failure, never neither.
//
// The protocol (docs/checkpoint_format.md): agree on the step and on everything that is rank-free; check the
// free space; every rank writes its shards into a temporary directory, checksums taken from memory before the
// write, and syncs them; all agree; rank 0 proves the coverage, writes the manifest, then COMMIT; rename
// without replacing; sync; LATEST; retention. Where any rank fails before the rename, all abandon the save
// and the temporary directory goes; the caller may train on.
#ifndef TANREN_CORE_CHECKPOINT_SAVE_H_
#define TANREN_CORE_CHECKPOINT_SAVE_H_

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/checkpoint/file_system.h"
#include "core/checkpoint/piece.h"
#include "core/checkpoint/run_directory.h"
#include "core/checkpoint/safetensors.h"
#include "core/comm/comm.h"

namespace tanren {

// All but `pieces` is rank-free: the same on every rank, which is checked.
struct SaveRequest {
  std::string run_dir;  // shared by all ranks; the job holds its lock
  std::string run_id;
  std::string stage;
  int64_t step = 0;
  MeshShape mesh;
  // What this rank writes. Over all ranks each element of each tensor exactly once: of replicas, one owner
  // lists it. The memory must not change until the save has ended.
  absl::Span<const TensorPiece> pieces;
  std::map<std::string, std::string>
      state;                 // "rng", "data_cursor", "scheduler", a source's or stage's own ...
  std::string config_text;   // becomes resolved.yaml
  TokenizerFiles tokenizer;  // becomes tokenizer/
  Retention retention;
  // Instead of `data` (null): writes elements [part.range_begin, part.range_end) of a piece to part.data. For
  // tensors that are not in host memory; the staging buffer holds kStagingBytes.
  ProducePart produce;
  int shards_per_rank = 1;  // pairs of files; pieces are spread so that the files are of like size
  std::string
      directory_name;  // empty: step-XXXXXXXX, LATEST and retention; else that name, and neither of them
  SaveFaults* faults = nullptr;  // null: those of TANREN_FAULT
};

struct SaveReport {
  std::string path;                   // of the committed checkpoint
  int64_t bytes = 0;                  // tensor data, all ranks
  bool already_committed = false;     // the step was committed before with the same tensors and state
  std::vector<std::string> removed;   // by retention; rank 0
  std::vector<std::string> warnings;  // what failed after the commit (LATEST, retention); rank 0
};

// One save in parts, so that a thread of its own can do those that take long: WriteShards and Publish, which
// do not communicate. The main threads call the others.
class CheckpointSave {
 public:
  // Collective. Agrees, checks, and makes the temporary directory. Refuses a step that is committed with
  // other contents (AlreadyExists); one with the same tensors and state makes the save a no-op.
  static absl::StatusOr<CheckpointSave> Begin(Comm& world, const SaveRequest& request);

  // This rank's shards, written, checksummed and synced. No communication.
  absl::Status WriteShards();

  // Collective; `written` is the result of WriteShards on this rank. Abandons the save where a rank failed.
  absl::Status Gather(Comm& world, const absl::Status& written);

  // On rank 0 the manifest, COMMIT, the rename, LATEST and the retention; nothing on other ranks. No
  // communication.
  absl::Status Publish();

  // Collective; `published` is the result of Publish on this rank.
  absl::StatusOr<SaveReport> End(Comm& world, absl::Status published);

  // The last three in a row.
  absl::StatusOr<SaveReport> Commit(Comm& world, const absl::Status& written);

 private:
  struct Shard {
    std::string name;
    SafetensorsPlan plan;
    std::vector<int> pieces;  // by spec: index into request_.pieces
    std::vector<int> chunks;  // by spec: index into part_.chunks
  };

  explicit CheckpointSave(const SaveRequest& request) : request_(request) {}

  absl::Status PlanShards(int rank);
  absl::Status AgreeOnRequest(Comm& world);
  // Sets already_committed_, or moves a damaged directory out of the way at the time of the rename.
  absl::Status CheckExisting(Comm& world);
  absl::Status PrepareDirectory(Comm& world);
  absl::Status PlanShard(int index, const std::vector<int>& pieces, const std::string& name);
  absl::Status WriteShard(int shard);
  absl::Status AppendPiece(const TensorPiece& piece, NewFile* file, FileInfo* info, ChunkInfo* chunk);
  absl::Status AppendBlocks(const char* data, int64_t bytes, NewFile* file, FileInfo* info, ChunkInfo* chunk);
  absl::Status WriteSmall(const std::string& name, FileKind kind, std::string_view contents);
  absl::Status MergeParts(const std::vector<std::string>& parts, Manifest* manifest);
  absl::Status CheckSizes(const Manifest& manifest);
  // Both on rank 0 only.
  absl::Status PublishManifest();
  absl::Status PublishDirectory();
  void Abandon(absl::Status* status);
  void AfterCommit();

  SaveRequest request_;
  SaveFaults* faults_ = nullptr;
  int rank_ = 0;
  Directory run_, temporary_;
  std::string name_, temporary_name_;
  std::vector<char> staging_;
  std::vector<int> tensor_of_piece_;
  std::vector<Shard> shards_;
  Manifest part_;                   // this rank's files, tensors and chunks
  std::vector<std::string> parts_;  // those of all ranks, once gathered
  SaveReport report_;
  bool already_committed_ = false, replaces_damaged_ = false, renamed_ = false;
};

// The three parts in a row. On an error nothing was committed (but see the error's text where only the sync
// of the run directory failed) and the ranks agree on it.
absl::StatusOr<SaveReport> SaveCheckpoint(Comm& world, const SaveRequest& request);

}  // namespace tanren

#endif  // TANREN_CORE_CHECKPOINT_SAVE_H_
