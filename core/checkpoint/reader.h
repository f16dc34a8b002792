// Reading a checkpoint, at any layout.
#ifndef TANREN_CORE_CHECKPOINT_READER_H_
#define TANREN_CORE_CHECKPOINT_READER_H_

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/checkpoint/file_system.h"
#include "core/checkpoint/manifest.h"
#include "core/checkpoint/piece.h"
#include "core/comm/comm.h"

namespace tanren {

struct OpenOptions {
  // Checksums of all data too, not only of what Read touches. Ranks share the files among themselves.
  bool verify_data = false;
  // Called on this rank after each block of data that it verified.
  std::function<void(int64_t bytes)> on_verified;
};

// Which differences between a checkpoint and what the run wants are meant. Unset: none.
struct ReadOptions {
  std::function<bool(const TensorInfo&)> may_be_new;      // wanted, absent: the pieces stay as they are
  std::function<bool(const TensorInfo&)> may_be_dropped;  // present, wanted by no rank
  // Stored in fp32 and wanted in bf16, which rounds to nearest, or the other way round, which is exact.
  std::function<bool(const TensorInfo& stored)> may_be_converted;
};

struct ReadReport {
  std::vector<std::string> new_tensors;  // keys, see TensorKey
  std::vector<std::string> dropped_tensors;
  std::vector<std::string> converted_tensors;  // among this rank's pieces
  int64_t bytes = 0;                           // that this rank received
};

class CheckpointReader {
 public:
  // Opens one step directory. Collective. On OK, on every rank: COMMIT is the manifest's SHA-256; the
  // manifest is valid, so every element of every tensor lies in exactly one chunk; every file is a regular
  // file of its recorded size; every shard's header has its recorded checksum and says what the manifest
  // says; and with verify_data all data has its recorded checksums. DataLoss, the same on all ranks, names
  // the first damage; NotFound when there is no such directory; FailedPrecondition when a later Tanren wrote
  // it.
  static absl::StatusOr<std::unique_ptr<CheckpointReader>> Open(Comm& world, const std::string& step_dir,
                                                                const OpenOptions& options = {});

  const std::string& path() const { return directory_.path(); }
  const Manifest& manifest() const { return manifest_; }
  // SHA-256 of the manifest, which holds the checksums of all data: equal for equal checkpoints only.
  const std::string& Identity() const { return identity_; }
  const std::map<std::string, std::string>& state() const { return manifest_.state; }
  // InvalidArgument when the run saved no such state.
  absl::StatusOr<std::string> State(const std::string& key) const;
  const std::vector<TensorInfo>& tensors() const { return manifest_.tensors; }
  // nullptr when there is none.
  const TensorInfo* Find(const std::string& model, const std::string& name, Role role) const;
  absl::StatusOr<std::string> ConfigText() const;
  // The files of tokenizer/; tokenizer_dir() is where they lie.
  absl::StatusOr<TokenizerFiles> ReadTokenizer() const;
  std::string tokenizer_dir() const { return directory_.PathOf("tokenizer"); }

  // Fills the wanted pieces, whatever boxes and ranges the writer had. Collective; ranks may want different
  // pieces, the same elements, or nothing. Every block that is touched is checked against its checksum:
  // DataLoss names the damage. A tensor that differs in shape or element type, is wanted but absent, or is
  // present but wanted by no rank is InvalidArgument unless the options say so. After an error the contents
  // of the pieces are undefined.
  absl::StatusOr<ReadReport> Read(Comm& world, absl::Span<const TensorPiece> wanted,
                                  const ReadOptions& options = {});

  // The same for one process's pieces, all of which must be present. No communication.
  absl::Status ReadLocal(absl::Span<const TensorPiece> wanted) const;

  // OK when the tensors are exactly those in the pieces of all ranks, with these bits. Collective. `produce`
  // gives the elements of pieces without data. Otherwise AlreadyExists names the first difference (DataLoss,
  // damage).
  absl::Status Compare(Comm& world, absl::Span<const TensorPiece> pieces, const ProducePart& produce) const;

 private:
  CheckpointReader() = default;
  absl::Status LoadManifest(const std::string& bytes, const std::string& commit);
  absl::Status CheckFile(int file, const OpenOptions& options) const;
  absl::Status CheckShardHeader(int file, const ReadableFile& opened) const;
  absl::Status VerifyShardData(int file, const ReadableFile& opened, const OpenOptions& options) const;
  absl::Status CheckWhole(const FileInfo& info, const ReadableFile& opened) const;
  absl::Status CheckHashes() const;
  // Indices of the tensors that any rank's pieces name.
  std::vector<int32_t> WantedByAnyRank(Comm& world, absl::Span<const TensorPiece> pieces) const;
  absl::Status CheckPiece(const TensorPiece& piece, const ReadOptions& options = {}) const;
  // Stored in another element type than the piece's, which the options allow.
  bool Converts(const TensorPiece& piece, const ReadOptions& options) const;
  // ReadLocal() of a piece that is converted, a part at a time.
  absl::Status ReadConverted(const TensorPiece& piece) const;
  absl::Status CompareLocal(absl::Span<const TensorPiece> pieces, const ProducePart& produce) const;
  int IndexOf(const TensorInfo& tensor) const;

  Directory directory_;
  std::string identity_;
  Manifest manifest_;
  std::map<std::string, int> tensor_index_;         // by TensorKey
  std::vector<std::vector<int>> chunks_of_tensor_;  // ascending
  std::vector<std::vector<int>> chunks_of_file_;    // by position
};

}  // namespace tanren

#endif  // TANREN_CORE_CHECKPOINT_READER_H_
