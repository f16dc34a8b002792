// Manifest <-> protobuf. Only this file knows the generated classes.
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/wire_format_lite.h>

#include <functional>

#include "core/base/status.h"
#include "core/checkpoint/manifest.h"
#include "core/proto/manifest.pb.h"

namespace tanren {
namespace {

namespace pb = ::tanren::checkpoint;
using ::google::protobuf::internal::WireFormatLite;
using ::google::protobuf::io::CodedInputStream;

// Same order as FileRecord.Kind, TensorRecord.Role and kTypes as TensorRecord.Type.
constexpr DType kTypes[] = {DType::kF32, DType::kBF16, DType::kF16, DType::kF64,
                            DType::kI32, DType::kI64,  DType::kU8};

pb::TensorRecord::Type TypeRecord(DType dtype) {
  for (int i = 0; i < static_cast<int>(std::size(kTypes)); ++i) {
    if (kTypes[i] == dtype) return static_cast<pb::TensorRecord::Type>(i);
  }
  TANREN_CHECK(false);
}

// Calls visit(field, length of its value in bytes, offset of its value) for the fields of one message,
// without descending into or allocating anything. Groups, the only way to nest without a length, are refused.
absl::Status WalkFields(std::string_view bytes,
                        const std::function<absl::Status(int field, std::string_view value)>& visit) {
  CodedInputStream stream(reinterpret_cast<const uint8_t*>(bytes.data()), static_cast<int>(bytes.size()));
  for (;;) {
    const int start = stream.CurrentPosition();
    const uint32_t tag = stream.ReadTag();
    if (tag == 0) {
      if (stream.CurrentPosition() != start || start != static_cast<int>(bytes.size())) break;
      return absl::OkStatus();
    }
    int begin = stream.CurrentPosition();
    uint64_t varint = 0;
    bool ok = false;
    switch (WireFormatLite::GetTagWireType(tag)) {
      case WireFormatLite::WIRETYPE_VARINT:
        ok = stream.ReadVarint64(&varint);
        break;
      case WireFormatLite::WIRETYPE_FIXED64:
        ok = stream.Skip(8);
        break;
      case WireFormatLite::WIRETYPE_FIXED32:
        ok = stream.Skip(4);
        break;
      case WireFormatLite::WIRETYPE_LENGTH_DELIMITED:
        ok =
            stream.ReadVarint64(&varint) && varint <= bytes.size();  // ReadVarint32 would drop the upper half
        begin = stream.CurrentPosition();
        ok = ok && stream.Skip(static_cast<int>(varint));
        break;
      default:
        return InvalidInput("nested group at byte %d", start);
    }
    if (!ok) break;
    TANREN_RETURN_IF_ERROR(visit(WireFormatLite::GetTagFieldNumber(tag),
                                 bytes.substr(begin, static_cast<size_t>(stream.CurrentPosition() - begin))));
  }
  return InvalidInput("damaged encoding");
}

// How long one record may be, how short (an empty record costs a hundred times its bytes in memory), and how
// many.
struct Limit {
  int64_t min_bytes, max_bytes, max_count;
};
constexpr Limit kLimits[] = {
    {0, 0, 0},                                  // no field 0
    {0, 10, 1},                                 // schema_version
    {0, 256, 1},                                // run_id
    {0, 10, 1},                                 // step
    {0, 256, 1},                                // stage
    {0, 64, 1},                                 // mesh
    {8, 512, int64_t{1} << 17},                 // files
    {8, 2048, int64_t{1} << 18},                // tensors
    {16, kMaxManifestBytes, int64_t{1} << 21},  // chunks
    {3, kMaxManifestBytes, int64_t{1} << 16},   // state
    {0, 64, 1},                                 // config_sha256
    {0, 64, 1},                                 // tokenizer_sha256
    {0, 10, 1},                                 // block_bytes
};

absl::Status CheckChunkWire(std::string_view record) {
  return WalkFields(record, [](int field, std::string_view value) -> absl::Status {
    constexpr int kBlockSums = pb::ChunkRecord::kBlockCrc32CFieldNumber;
    if (field != kBlockSums && value.size() > 2048)
      return InvalidInput("chunk field %d of %d bytes", field, value.size());
    return absl::OkStatus();
  });
}

// Bounds what parsing can allocate before it is tried.
absl::Status CheckWire(std::string_view bytes) {
  int64_t count[std::size(kLimits)] = {};
  return WalkFields(bytes, [&](int field, std::string_view value) -> absl::Status {
    if (field < 1 || field >= static_cast<int>(std::size(kLimits)))
      return InvalidInput("unknown field %d", field);
    const Limit& limit = kLimits[field];
    const int64_t length = static_cast<int64_t>(value.size());
    if (length < limit.min_bytes || length > limit.max_bytes) {
      return InvalidInput("field %d of %d bytes, %d to %d are allowed", field, length, limit.min_bytes,
                          limit.max_bytes);
    }
    if (++count[field] > limit.max_count)
      return InvalidInput("field %d occurs more than %d times", field, limit.max_count);
    return field == pb::Manifest::kChunksFieldNumber ? CheckChunkWire(value) : absl::OkStatus();
  });
}

void EncodeFile(const FileInfo& file, pb::FileRecord* record) {
  record->set_name(file.name);
  record->set_kind(static_cast<pb::FileRecord::Kind>(file.kind));
  record->set_bytes(file.bytes);
  record->set_crc32c(file.crc32c);
  if (file.kind != FileKind::kShard) return;
  record->set_header_bytes(file.header_bytes);
  record->set_header_crc32c(file.header_crc32c);
}

void EncodeTensor(const TensorInfo& tensor, pb::TensorRecord* record) {
  record->set_model(tensor.model);
  record->set_name(tensor.name);
  record->set_role(static_cast<pb::TensorRecord::Role>(tensor.role));
  record->set_type(TypeRecord(tensor.dtype));
  record->mutable_shape()->Add(tensor.shape.begin(), tensor.shape.end());
}

void EncodeChunk(const ChunkInfo& chunk, pb::ChunkRecord* record) {
  record->set_tensor(chunk.tensor);
  record->set_file(chunk.file);
  record->mutable_offset()->Add(chunk.region.box.offset.begin(), chunk.region.box.offset.end());
  record->mutable_size()->Add(chunk.region.box.size.begin(), chunk.region.box.size.end());
  record->set_begin(chunk.region.begin);
  record->set_end(chunk.region.end);
  record->set_key(chunk.key);
  record->set_file_offset(chunk.file_offset);
  record->mutable_block_crc32c()->Add(chunk.block_crc32c.begin(), chunk.block_crc32c.end());
}

FileInfo DecodeFile(const pb::FileRecord& record) {
  return FileInfo{record.name(),         static_cast<FileKind>(record.kind()),
                  record.bytes(),        record.crc32c(),
                  record.header_bytes(), record.header_crc32c()};
}

TensorInfo DecodeTensor(const pb::TensorRecord& record) {
  return TensorInfo{record.model(),
                    record.name(),
                    static_cast<Role>(record.role()),
                    kTypes[record.type()],
                    {record.shape().begin(), record.shape().end()}};
}

ChunkInfo DecodeChunk(const pb::ChunkRecord& record) {
  ChunkInfo chunk;
  chunk.tensor = record.tensor();
  chunk.file = record.file();
  chunk.region.box.offset.assign(record.offset().begin(), record.offset().end());
  chunk.region.box.size.assign(record.size().begin(), record.size().end());
  chunk.region.begin = record.begin();
  chunk.region.end = record.end();
  chunk.key = record.key();
  chunk.file_offset = record.file_offset();
  chunk.block_crc32c.assign(record.block_crc32c().begin(), record.block_crc32c().end());
  return chunk;
}

template <class Record>
bool HasUnknown(const Record& record) {
  return !record.unknown_fields().empty();
}

// Unknown enum values land among the unknown fields too.
bool AnyUnknown(const pb::Manifest& message) {
  bool found = HasUnknown(message) || HasUnknown(message.mesh());
  for (const auto& record : message.files()) found = found || HasUnknown(record);
  for (const auto& record : message.tensors()) found = found || HasUnknown(record);
  for (const auto& record : message.chunks()) found = found || HasUnknown(record);
  for (const auto& record : message.state()) found = found || HasUnknown(record);
  return found;
}

}  // namespace

std::string EncodeManifest(const Manifest& manifest) {
  pb::Manifest message;
  message.set_schema_version(kManifestSchemaVersion);
  message.set_run_id(manifest.run_id);
  message.set_step(manifest.step);
  message.set_stage(manifest.stage);
  message.mutable_mesh()->set_pipe(manifest.mesh.pipe);
  message.mutable_mesh()->set_data(manifest.mesh.data);
  message.mutable_mesh()->set_context(manifest.mesh.context);
  message.mutable_mesh()->set_tensor(manifest.mesh.tensor);
  for (const FileInfo& file : manifest.files) EncodeFile(file, message.add_files());
  for (const TensorInfo& tensor : manifest.tensors) EncodeTensor(tensor, message.add_tensors());
  for (const ChunkInfo& chunk : manifest.chunks) EncodeChunk(chunk, message.add_chunks());
  for (const auto& [key, value] : manifest.state) {
    pb::StateRecord* record = message.add_state();
    record->set_key(key);
    record->set_value(value);
  }
  message.set_config_sha256(manifest.config_sha256);
  message.set_tokenizer_sha256(manifest.tokenizer_sha256);
  message.set_block_bytes(manifest.block_bytes);
  return message.SerializeAsString();
}

absl::StatusOr<Manifest> DecodeManifest(std::string_view bytes) {
  if (static_cast<int64_t>(bytes.size()) > kMaxManifestBytes) {
    return InvalidInput("manifest of %d bytes, at most %d are read", bytes.size(), kMaxManifestBytes);
  }
  TANREN_RETURN_IF_ERROR(At("manifest", CheckWire(bytes)));
  pb::Manifest message;
  CodedInputStream stream(reinterpret_cast<const uint8_t*>(bytes.data()), static_cast<int>(bytes.size()));
  stream.SetRecursionLimit(4);
  if (!message.ParseFromCodedStream(&stream) || !stream.ConsumedEntireMessage()) {
    return InvalidInput("manifest: damaged encoding or nested too deep");
  }
  if (message.schema_version() > kManifestSchemaVersion) {
    return absl::FailedPreconditionError(absl::StrCat("manifest: schema version ", message.schema_version(),
                                                      ", this Tanren reads up to ", kManifestSchemaVersion,
                                                      "; use the Tanren that wrote it, or a later one"));
  }
  if (message.schema_version() < 1) return InvalidInput("manifest: no schema version");
  if (AnyUnknown(message))
    return InvalidInput("manifest: a field or enum value that schema version 1 does not have");
  Manifest manifest;
  manifest.run_id = message.run_id();
  manifest.step = message.step();
  manifest.stage = message.stage();
  manifest.mesh = {message.mesh().pipe(), message.mesh().data(), message.mesh().context(),
                   message.mesh().tensor()};
  for (const auto& record : message.files()) manifest.files.push_back(DecodeFile(record));
  for (const auto& record : message.tensors()) manifest.tensors.push_back(DecodeTensor(record));
  for (const auto& record : message.chunks()) manifest.chunks.push_back(DecodeChunk(record));
  for (auto& record : *message.mutable_state()) {
    if (!manifest.state.emplace(record.key(), std::move(*record.mutable_value())).second) {
      return InvalidInput("manifest: state \"%s\" twice", absl::StrCat(record.key()));
    }
  }
  manifest.config_sha256 = message.config_sha256();
  manifest.tokenizer_sha256 = message.tokenizer_sha256();
  manifest.block_bytes = message.block_bytes();
  return manifest;
}

}  // namespace tanren
