#include <algorithm>
#include <deque>
#include <vector>

#include "core/base/status.h"
#include "kernels/device.h"
#include "kernels/reduce.h"
#include "parallel/engine/model.h"

namespace tanren {
namespace {

// This rank's real box of a parameter: the local box without padding.
void FillBox(const Parameter& parameter, StatePiece* piece) {
  piece->name = parameter.name;
  piece->shape = parameter.shape;
  piece->box_begin.assign(parameter.shape.size(), 0);
  piece->box_size = parameter.local_shape;
  if (parameter.shard_axis < 0) return;
  piece->box_begin[parameter.shard_axis] = parameter.begin;
  piece->box_size[parameter.shard_axis] = parameter.valid;
}

// `wanted` elements [begin, end) of the parameter's local order; false when none of them is real or ours.
bool FillRange(const Parameter& parameter, int64_t begin, int64_t end, StatePiece* piece) {
  if (!parameter.owner) return false;
  piece->range_begin = begin;
  piece->range_end = std::min(end, parameter.valid_count());
  return piece->range_begin < piece->range_end;
}

// The pieces of the optimizer's state on this rank; `place(role, state, owned)` gives the memory of each.
template <class Place>
std::vector<StatePiece> OptimizerPieces(const Model& model, const Place& place) {
  const ShardedAdamW& optimizer = *model.optimizer;
  std::vector<StatePiece> pieces;
  for (const ShardedAdamW::Owned& owned : optimizer.owned()) {
    StatePiece piece;
    piece.model = model.options.name;
    FillBox(*owned.parameter, &piece);
    const int64_t begin = owned.begin - owned.parameter->offset;
    if (!FillRange(*owned.parameter, begin, begin + owned.count, &piece)) continue;
    const auto add = [&](StatePiece::Role role, Buffer state) {
      piece.role = role;
      piece.data = place(role, state, owned);
      pieces.push_back(piece);
    };
    add(StatePiece::Role::kWeight, Buffer(optimizer.master(owned)));
    add(StatePiece::Role::kFirstMoment, optimizer.first_moment(owned));
    add(StatePiece::Role::kSecondMoment, optimizer.second_moment(owned));
  }
  return pieces;
}

class TrainableState final : public StateAccess {
 public:
  explicit TrainableState(Model& model) : model_(model) {
    pieces_ = OptimizerPieces(model, [&](StatePiece::Role, Buffer state, const ShardedAdamW::Owned& owned) {
      return OnHost(state, owned.count);
    });
  }

  std::span<const StatePiece> pieces() const override { return pieces_; }

  void Commit() override {
    SpreadReplicas();
    for (const HostCopy& copy : copies_) {
      kernels::CopyToDevice(model_.mesh.stream, copy.device, copy.bytes.data(),
                            static_cast<int64_t>(copy.bytes.size()));
    }
    model_.optimizer->PublishWeights();
    model_.WeightsChanged();
  }

 private:
  // The state on a GPU has a copy on the host, which is what is written to a checkpoint or read from one.
  struct HostCopy {
    void* device = nullptr;
    std::vector<char> bytes;
  };

  // On the CPU the state itself.
  Buffer OnHost(Buffer state, int64_t count) {
    const Stream& stream = model_.mesh.stream;
    if (stream.device == Device::kCpu) return state;
    const int64_t bytes = count * SizeOf(state.dtype);
    HostCopy& copy = copies_.emplace_back(HostCopy{state.data, std::vector<char>(bytes)});
    kernels::CopyToHost(stream, copy.bytes.data(), state.data, bytes);
    return Buffer(copy.bytes.data(), state.dtype);
  }

  // The host memory of a piece of state that OnHost() has seen, or a new copy of it: replicas that this rank
  // does not own.
  Buffer FindOnHost(Buffer state, int64_t count) {
    for (HostCopy& copy : copies_) {
      if (copy.device == state.data) return Buffer(copy.bytes.data(), state.dtype);
    }
    return OnHost(state, count);
  }

  // Parameters that several tensor ranks hold are read by their owner only; the others receive them here,
  // moments included.
  void SpreadReplicas();

  Model& model_;
  std::deque<HostCopy> copies_;
  std::vector<StatePiece> pieces_;
};

void TrainableState::SpreadReplicas() {
  Comm& tensor = *model_.mesh.tensor;
  if (tensor.size() == 1) return;
  ShardedAdamW& optimizer = *model_.optimizer;
  const int64_t copies = std::max<int64_t>(1, tensor.size() / model_.options.shape.kv_heads);
  std::vector<char> gathered;
  // Tensor ranks of one data rank own the same flat ranges, because their local shapes are equal.
  for (const ShardedAdamW::Owned& owned : optimizer.owned()) {
    const Parameter& parameter = *owned.parameter;
    if (parameter.sync == TensorSync::kNone) continue;
    for (const Buffer& state :
         {Buffer(optimizer.master(owned)), optimizer.first_moment(owned), optimizer.second_moment(owned)}) {
      const Buffer data = FindOnHost(state, owned.count);
      if (parameter.sync != TensorSync::kSubgroup) {
        tensor.Broadcast(Stream(), "replicated state", data, owned.count, 0);
        continue;
      }
      const int64_t bytes = owned.count * SizeOf(data.dtype);
      gathered.resize(bytes * tensor.size());
      tensor.AllGather(Stream(), "key/value state", data, Buffer(gathered.data(), data.dtype), owned.count);
      const int64_t source = tensor.rank() / copies * copies;
      std::copy_n(gathered.begin() + source * bytes, bytes, data.as<char>());
    }
  }
}

// Complete on return, for the run stands still meanwhile: with all threads on the CPU.
void CopyToSnapshot(const Stream& stream, Buffer state, int64_t count, Buffer snapshot) {
  if (stream.device == Device::kCpu) {
    kernels::Cast(stream, count, state, snapshot);
  } else {
    kernels::CopyToHost(stream, snapshot.data, state.data, count * SizeOf(state.dtype));
  }
}

// What a checkpoint is written from while the model trains on.
class TrainableSnapshot final : public StateAccess {
 public:
  explicit TrainableSnapshot(Model& model) {
    pieces_ =
        OptimizerPieces(model, [&](StatePiece::Role role, Buffer state, const ShardedAdamW::Owned& owned) {
          const Buffer whole = role == StatePiece::Role::kWeight        ? model.snapshot.master
                               : role == StatePiece::Role::kFirstMoment ? model.snapshot.first_moment
                                                                        : model.snapshot.second_moment;
          const Buffer snapshot = whole.At(owned.shard_begin);
          CopyToSnapshot(model.mesh.stream, state, owned.count, snapshot);
          return snapshot;
        });
  }

  std::span<const StatePiece> pieces() const override { return pieces_; }
  void Commit() override { TANREN_CHECK_MSG(false, "a snapshot is only read"); }

 private:
  std::vector<StatePiece> pieces_;
};

// A frozen model keeps no fp32 copy: its pieces are whole local boxes in temporary memory, dealt over the
// data axis parameter by parameter.
class FrozenState final : public StateAccess {
 public:
  explicit FrozenState(Model& model) : model_(model) {
    const std::vector<Parameter>& all = model.parameters.all();
    values_.resize(all.size());
    pieces_.reserve(all.size());
    for (size_t i = 0; i < all.size(); ++i) {
      if (static_cast<int>(i % model.mesh.data->size()) != model.mesh.data->rank()) continue;
      StatePiece piece;
      piece.model = model.options.name;
      FillBox(all[i], &piece);
      if (!FillRange(all[i], 0, all[i].count, &piece)) continue;
      values_[i].resize(all[i].count);
      model.ReadWeights(all[i], values_[i].data());
      piece.data = Buffer(values_[i].data());
      pieces_.push_back(piece);
    }
  }

  std::span<const StatePiece> pieces() const override { return pieces_; }

  void Commit() override {
    const std::vector<Parameter>& all = model_.parameters.all();
    Comm& tensor = *model_.mesh.tensor;
    const int64_t copies = std::max<int64_t>(1, tensor.size() / model_.options.shape.kv_heads);
    std::vector<float> gathered;
    for (size_t i = 0; i < all.size(); ++i) {
      const Parameter& parameter = all[i];
      values_[i].resize(parameter.count);
      Buffer values(values_[i].data());
      const int reader = static_cast<int>(i % model_.mesh.data->size());
      if (tensor.size() > 1 && model_.mesh.data->rank() == reader) {
        if (parameter.sync == TensorSync::kSum || parameter.sync == TensorSync::kComplete) {
          tensor.Broadcast(Stream(), "replicated state", values, parameter.count, 0);
        } else if (parameter.sync == TensorSync::kSubgroup) {
          gathered.resize(parameter.count * tensor.size());
          tensor.AllGather(Stream(), "key/value state", values, Buffer(gathered.data()), parameter.count);
          std::copy_n(gathered.begin() + tensor.rank() / copies * copies * parameter.count, parameter.count,
                      values_[i].data());
        }
      }
      model_.mesh.data->Broadcast(Stream(), "frozen weights", values, parameter.count, reader);
      model_.WriteWeights(parameter, values_[i].data());
      std::vector<float>().swap(values_[i]);  // the pieces are spent
    }
    pieces_.clear();
    model_.WeightsChanged();
  }

 private:
  Model& model_;
  std::vector<std::vector<float>> values_;
  std::vector<StatePiece> pieces_;
};

}  // namespace

std::unique_ptr<StateAccess> AccessState(Model& model) {
  if (model.optimizer) return std::make_unique<TrainableState>(model);
  return std::make_unique<FrozenState>(model);
}

std::unique_ptr<StateAccess> SnapshotState(Model& model) {
  if (model.optimizer && model.snapshot.master.data != nullptr) {
    return std::make_unique<TrainableSnapshot>(model);
  }
  return AccessState(model);
}

}  // namespace tanren
