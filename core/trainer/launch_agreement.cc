#include "core/trainer/launch_agreement.h"

#include <unistd.h>

#include <chrono>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <system_error>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "core/base/status.h"
#include "core/report/build_info.h"
#include "core/report/machine_info.h"
#include "google/protobuf/text_format.h"
#include "google/protobuf/util/message_differencer.h"

namespace tanren {
namespace {

namespace fs = std::filesystem;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::util::MessageDifferencer;

double SecondsSince1970() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

// Collects the keys at which two messages differ.
class KeyReporter final : public MessageDifferencer::Reporter {
 public:
  using Path = std::vector<MessageDifferencer::SpecificField>;

  // Only `first` has it.
  void ReportAdded(const Message&, const Message& first, const Path& path) override {
    Add(path, path.back().new_index, "not given", ValueIn(first, path, path.back().new_index));
  }
  // Only `own` has it.
  void ReportDeleted(const Message& own, const Message&, const Path& path) override {
    Add(path, path.back().index, ValueIn(own, path, path.back().index), "not given");
  }
  void ReportModified(const Message& own, const Message& first, const Path& path) override {
    const FieldDescriptor* field = path.back().field;  // of a section, its keys are told
    if (field != nullptr && field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) return;
    Add(path, path.back().index, ValueIn(own, path, path.back().index),
        ValueIn(first, path, path.back().new_index));
  }
  const std::vector<std::string>& keys() const { return keys_; }

 private:
  // The value at the end of the path, in the message that holds it; a section is not told in full.
  static std::string ValueIn(const Message& holder, const Path& path, int index) {
    const FieldDescriptor* field = path.back().field;
    if (field == nullptr || field->containing_type() != holder.GetDescriptor() ||
        field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      return "given";
    }
    std::string text;
    google::protobuf::TextFormat::PrintFieldValueToString(holder, field, field->is_repeated() ? index : -1,
                                                          &text);
    return text;
  }

  void Add(const Path& path, int last_index, const std::string& own, const std::string& first) {
    std::string key;
    for (size_t i = 0; i < path.size(); ++i) {
      const FieldDescriptor* field = path[i].field;
      if (field == nullptr) continue;
      absl::StrAppend(&key, key.empty() ? "" : ".", std::string(field->name()));
      const int index = i + 1 == path.size() ? last_index : path[i].index;
      if (field->is_repeated() && index >= 0) absl::StrAppend(&key, ".", index);
    }
    keys_.push_back(absl::StrCat(key, ": ", own, " and not ", first));
  }

  std::vector<std::string> keys_;
};

// "ranks 0 to 3, 8": consecutive numbers as a range.
std::string Numbers(const std::vector<int>& ranks) {
  std::string text = ranks.size() == 1 ? "rank " : "ranks ";
  for (size_t i = 0; i < ranks.size();) {
    size_t end = i + 1;
    while (end < ranks.size() && ranks[end] == ranks[end - 1] + 1) ++end;
    absl::StrAppend(&text, i == 0 ? "" : ", ", ranks[i]);
    if (end - i > 1) absl::StrAppend(&text, end - i > 2 ? " to " : ", ", ranks[end - 1]);
    i = end;
  }
  return text;
}

}  // namespace

absl::Status AgreeBuild(Comm& world) {
  const std::string own = absl::StrCat(ThisBuild().version, " ", ThisBuild().build_id);
  const std::string first = BroadcastString(world, "build", own, 0);
  return AgreeStatus(
      world, "build",
      own == first
          ? absl::OkStatus()
          : InvalidInput("on %s another build of tanren runs (%s) than on rank 0 (%s); start every rank from "
                         "one copy, or copy the same binary to every node",
                         HostName(), own, first));
}

std::string DifferentKeys(const config::Config& own, const config::Config& first) {
  constexpr size_t kMost = 4;
  KeyReporter reporter;
  MessageDifferencer differencer;
  differencer.ReportDifferencesTo(&reporter);
  if (differencer.Compare(own, first)) return "";
  std::vector<std::string> keys = reporter.keys();
  const size_t all = keys.size();
  if (all > kMost) keys.resize(kMost);
  return absl::StrCat(absl::StrJoin(keys, "; "),
                      all > kMost ? absl::StrCat("; and ", all - kMost, " more") : "");
}

absl::Status AgreeConfig(Comm& world, const config::Config& config) {
  config::Config first;
  absl::Status status;
  if (!first.ParseFromString(BroadcastString(world, "configuration", config.SerializeAsString(), 0))) {
    status = absl::InternalError("rank 0's configuration can't be read");
  } else if (const std::string keys = DifferentKeys(config, first); !keys.empty()) {
    status = InvalidInput(
        "on %s another configuration was read than on rank 0: %s; give every rank the same file and "
        "overrides",
        HostName(), keys);
  }
  return AgreeStatus(world, "configuration", status);
}

absl::Status AgreeDirectory(Comm& world, const std::string& directory, double patience_seconds) {
  if (world.size() == 1) return absl::OkStatus();
  std::string mark;
  absl::Status status;
  if (world.rank() == 0) {
    mark = absl::StrFormat(".seen-by-rank-0-%d-%.0f", getpid(), SecondsSince1970() * 1e6);
    std::error_code error;
    fs::create_directories(directory, error);
    std::ofstream file(fs::path(directory) / mark);
    if (error) {
      status = InvalidInput("run_directory: %s can't be made: %s", directory, error.message());
    } else if (!file) {
      status = InvalidInput("run_directory: nothing can be written to %s", directory);
    }
  }
  TANREN_RETURN_IF_ERROR(AgreeStatus(world, "run_directory", status));
  mark = BroadcastString(world, "run_directory", mark, 0);
  const fs::path path = fs::path(directory) / mark;
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::duration<double>(patience_seconds);
  std::error_code ignored;
  while (!fs::exists(path, ignored) && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  if (!fs::exists(path, ignored)) {
    status = InvalidInput(
        "run_directory: on %s, %s doesn't show what rank 0 wrote there: put it on a file system that "
        "all nodes share, and give its whole path",
        HostName(), fs::absolute(directory, ignored).string());
  }
  status = AgreeStatus(world, "run_directory", status);
  if (world.rank() == 0) fs::remove(path, ignored);
  return status;
}

std::vector<RankPlace> GatherPlaces(Comm& world, const std::string& device) {
  world.Barrier("clock");
  const double clock = SecondsSince1970();
  const std::string own = absl::StrFormat("%s\n%d\n%.6f\n%s", HostName(), getpid(), clock, device);
  std::vector<RankPlace> places;
  for (const std::string& text : AllGatherStrings(world, "places", own)) {
    const std::vector<std::string> parts = absl::StrSplit(text, absl::MaxSplits('\n', 3));
    places.push_back(
        {parts[0], std::atoi(parts[1].c_str()), parts[3], std::strtod(parts[2].c_str(), nullptr)});
  }
  return places;
}

std::string RankTable(const std::vector<RankPlace>& places, const MeshShape& shape) {
  constexpr size_t kMostLines = 64;
  std::string table;
  if (places.size() <= kMostLines) {
    for (size_t rank = 0; rank < places.size(); ++rank) {
      const RankPlace& place = places[rank];
      absl::StrAppendFormat(&table, "rank %-4d data %-3d tensor %-3d %s, process %d, %s\n", rank,
                            rank / static_cast<size_t>(shape.tensor),
                            rank % static_cast<size_t>(shape.tensor), place.host, place.pid, place.device);
    }
    return table;
  }
  std::map<std::string, std::vector<int>> hosts;
  std::vector<std::string> order;
  for (size_t rank = 0; rank < places.size(); ++rank) {
    std::vector<int>& ranks = hosts[places[rank].host];
    if (ranks.empty()) order.push_back(places[rank].host);
    ranks.push_back(static_cast<int>(rank));
  }
  for (const std::string& host : order) {
    absl::StrAppend(&table, host, ": ", Numbers(hosts[host]), ", ", places[hosts[host].front()].device, "\n");
  }
  return table;
}

std::vector<std::string> PlaceWarnings(const std::vector<RankPlace>& places, double most_seconds) {
  std::vector<std::string> warnings;
  std::map<std::string, bool> told;
  for (const RankPlace& place : places) {
    const double ahead = place.clock - places[0].clock;
    if (std::abs(ahead) <= most_seconds || told[place.host]) continue;
    told[place.host] = true;
    warnings.push_back(
        absl::StrFormat("the clock of %s is %.1f s %s that of %s, rank 0's: times in logs and reports and "
                        "the age of locks are off; set "
                        "both by NTP",
                        place.host, std::abs(ahead), ahead > 0 ? "ahead of" : "behind", places[0].host));
  }
  std::map<std::pair<std::string, std::string>, std::vector<int>> devices;
  for (size_t rank = 0; rank < places.size(); ++rank) {
    if (places[rank].device.rfind("GPU", 0) != 0) continue;
    devices[{places[rank].host, places[rank].device}].push_back(static_cast<int>(rank));
  }
  for (const auto& [where, ranks] : devices) {
    if (ranks.size() == 1) continue;
    warnings.push_back(
        absl::StrCat(Numbers(ranks), " on ", where.first, " share one device (", where.second,
                     "): their collectives go through host memory; start one rank for each GPU"));
  }
  return warnings;
}

}  // namespace tanren
