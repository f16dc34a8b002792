#include "parallel/watchdog/judge.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <map>
#include <utility>

#include "core/base/status.h"

namespace tanren {
namespace {

using Group = std::pair<std::string, int32_t>;  // axis and group

constexpr size_t kMaxNamed = 8;

bool Watched(const RankView& view) { return !view.left && !view.lost; }

// The entry of `group` in a rank's record, or none.
const AxisActivity* Find(const RankView& view, const Group& group) {
  for (const AxisActivity& axis : view.record.axes) {
    if (axis.axis[0] != '\0' && axis.group == group.second && group.first == axis.axis) return &axis;
  }
  return nullptr;
}

// The most collectives that a member of each group has entered.
std::map<Group, uint64_t> Furthest(std::span<const RankView> ranks) {
  std::map<Group, uint64_t> furthest;
  for (const RankView& view : ranks) {
    for (const AxisActivity& axis : view.record.axes) {
      if (axis.axis[0] == '\0') continue;
      uint64_t& most = furthest[{axis.axis, axis.group}];
      most = std::max(most, axis.entered);
    }
  }
  return furthest;
}

bool IsBehind(const RankView& view, const std::map<Group, uint64_t>& furthest) {
  return std::ranges::any_of(view.record.axes, [&](const AxisActivity& axis) {
    return axis.axis[0] != '\0' && axis.entered < furthest.at({axis.axis, axis.group});
  });
}

// The longest time beyond its limit that a rank of `chosen` has been without progress decides what is said.
WatchVerdict Make(WatchVerdict::Kind kind, std::vector<int> chosen, std::span<const RankView> ranks,
                  const std::vector<double>& stall_limits, double now) {
  WatchVerdict verdict{kind, std::move(chosen)};
  for (const int rank : verdict.ranks) {
    verdict.seconds = std::max(verdict.seconds, now - ranks[rank].progressed);
    verdict.limit = std::max(verdict.limit, stall_limits[rank]);
  }
  return verdict;
}

// Takes away from `waiting` whoever waits for a rank that is not in it, until nobody does: what is left waits
// for itself.
std::vector<int> Ring(std::span<const RankView> ranks, std::vector<int> waiting) {
  bool changed = true;
  while (changed) {
    changed = false;
    std::vector<bool> in(ranks.size(), false);
    for (const int rank : waiting) in[rank] = true;
    const auto waits_for_others = [&](int rank) {
      const AxisActivity& call = ranks[rank].record.axes[ranks[rank].record.InsideAxis()];
      for (size_t other = 0; other < ranks.size(); ++other) {
        const AxisActivity* theirs = Find(ranks[other], {call.axis, call.group});
        if (theirs == nullptr || in[other] || !Watched(ranks[other])) continue;
        // Not there yet, or there and still at work in it.
        if (theirs->entered < call.entered || (theirs->entered == call.entered && theirs->inside))
          return true;
      }
      return false;
    };
    const size_t before = waiting.size();
    std::erase_if(waiting, waits_for_others);
    changed = waiting.size() != before;
  }
  return waiting;
}

std::optional<WatchVerdict> JudgeProgress(std::span<const RankView> ranks, const WatchLimits& limits,
                                          double now) {
  double longest_step = 0;
  for (const RankView& view : ranks) longest_step = std::max(longest_step, view.record.longest_step_seconds);
  std::vector<double> stall_limits(ranks.size());
  std::vector<int> outside, waiting;
  for (size_t rank = 0; rank < ranks.size(); ++rank) {
    const RankView& view = ranks[rank];
    stall_limits[rank] = StallLimit(view, longest_step, limits);
    if (!Watched(view) || now - view.progressed < stall_limits[rank]) continue;
    (view.record.InsideAxis() < 0 ? outside : waiting).push_back(static_cast<int>(rank));
  }
  if (!outside.empty()) {
    const std::map<Group, uint64_t> furthest = Furthest(ranks);
    std::vector<int> behind;
    std::ranges::copy_if(outside, std::back_inserter(behind),
                         [&](int rank) { return IsBehind(ranks[rank], furthest); });
    return Make(WatchVerdict::Kind::kStuck, behind.empty() ? outside : behind, ranks, stall_limits, now);
  }
  if (waiting.empty()) return std::nullopt;
  std::vector<int> ring = Ring(ranks, std::move(waiting));
  if (ring.empty()) return std::nullopt;
  return Make(WatchVerdict::Kind::kDiverged, std::move(ring), ranks, stall_limits, now);
}

// "0-2, 5"
std::string Numbers(const std::vector<int>& ranks) {
  std::string text;
  for (size_t i = 0; i < ranks.size();) {
    size_t end = i;
    while (end + 1 < ranks.size() && ranks[end + 1] == ranks[end] + 1) ++end;
    absl::StrAppend(&text, i > 0 ? ", " : "", ranks[i]);
    if (end > i) absl::StrAppend(&text, "-", ranks[end]);
    i = end + 1;
  }
  return text;
}

// The ranks that are in a collective, by collective; those of `except` are left out.
std::string Waiting(std::span<const RankView> ranks, const std::vector<int>& except) {
  std::map<std::string, std::vector<int>> calls;
  for (size_t rank = 0; rank < ranks.size(); ++rank) {
    const int axis = ranks[rank].record.InsideAxis();
    if (axis < 0 || !Watched(ranks[rank]) || std::ranges::count(except, static_cast<int>(rank)) > 0) continue;
    const AxisActivity& call = ranks[rank].record.axes[axis];
    calls[absl::StrCat("#", call.entered, " '", call.collective, "' of axis ", call.axis)].push_back(
        static_cast<int>(rank));
  }
  std::string text;
  for (const auto& [call, members] : calls) {
    absl::StrAppend(&text, "; rank", members.size() > 1 ? "s " : " ", Numbers(members), " ",
                    members.size() > 1 ? "wait" : "waits", " in ", call);
  }
  return text;
}

std::string Reason(const WatchVerdict& verdict, const RankView& view) {
  switch (verdict.kind) {
    case WatchVerdict::Kind::kLost:
      return " has gone without a goodbye";
    case WatchVerdict::Kind::kSilent: {
      const std::string why = WhyNotRunning(view.identity);
      return absl::StrFormat(" has sent nothing for %.1f s (limit %.1f s)%s%s", verdict.seconds,
                             verdict.limit, why.empty() ? "" : ": ", why);
    }
    case WatchVerdict::Kind::kStuck:
      return absl::StrFormat(" is stuck: no progress for %.1f s (limit %.1f s)", verdict.seconds,
                             verdict.limit);
    case WatchVerdict::Kind::kDiverged:
      return "";
  }
  return "";
}

}  // namespace

void Hear(const ActivityRecord& record, double now, RankView& view) {
  if (record.progress != view.record.progress) view.progressed = now;
  view.heard = now;
  view.record = record;
}

void Forgive(double seconds, std::span<RankView> ranks) {
  for (RankView& view : ranks) {
    view.heard += seconds;
    view.progressed += seconds;
  }
}

double StallLimit(const RankView& view, double longest_step, const WatchLimits& limits) {
  if (view.record.work == Work::kCommand) return std::numeric_limits<double>::infinity();
  const double normal = std::max(limits.stall_seconds, limits.step_factor * longest_step);
  const Phase phase = view.record.phase;
  const bool paced = phase == Phase::kStep || phase == Phase::kValidation || phase == Phase::kSamples;
  return paced && longest_step > 0 ? normal : std::max(normal, limits.quiet_seconds);
}

std::optional<WatchVerdict> JudgeAlive(std::span<const RankView> ranks, const WatchLimits& limits,
                                       double now) {
  WatchVerdict lost{WatchVerdict::Kind::kLost}, silent{WatchVerdict::Kind::kSilent};
  for (size_t rank = 0; rank < ranks.size(); ++rank) {
    const RankView& view = ranks[rank];
    if (view.left) continue;
    if (view.lost) {
      lost.ranks.push_back(static_cast<int>(rank));
    } else if (now - view.heard >= limits.silence_seconds) {
      silent.ranks.push_back(static_cast<int>(rank));
      silent.seconds = std::max(silent.seconds, now - view.heard);
    }
  }
  if (!lost.ranks.empty()) return lost;
  silent.limit = limits.silence_seconds;
  if (!silent.ranks.empty()) return silent;
  return std::nullopt;
}

std::optional<WatchVerdict> Judge(std::span<const RankView> ranks, const WatchLimits& limits, double now) {
  std::optional<WatchVerdict> verdict = JudgeAlive(ranks, limits, now);
  return verdict.has_value() ? verdict : JudgeProgress(ranks, limits, now);
}

std::string Who(int rank, std::span<const RankView> ranks) {
  const ProcessIdentity& identity = ranks[rank].identity;
  return absl::StrFormat("rank %d of %d on %s (pid %d)", rank, ranks.size(), identity.host, identity.pid);
}

std::string Describe(const WatchVerdict& verdict, std::span<const RankView> ranks) {
  std::string text;
  if (verdict.kind == WatchVerdict::Kind::kDiverged) {
    text = absl::StrFormat(
        "ranks wait for each other, no progress for %.1f s (limit %.1f s): ", verdict.seconds, verdict.limit);
  }
  for (size_t i = 0; i < verdict.ranks.size(); ++i) {
    if (i > 0) absl::StrAppend(&text, "; ");
    if (i == kMaxNamed) {
      absl::StrAppend(&text, "and ", verdict.ranks.size() - i, " more");
      break;
    }
    const RankView& view = ranks[verdict.ranks[i]];
    absl::StrAppend(&text, Who(verdict.ranks[i], ranks), Reason(verdict, view));
    if (verdict.kind != WatchVerdict::Kind::kDiverged) absl::StrAppend(&text, ", last seen in");
    absl::StrAppend(&text, " ", view.record.ToString());
  }
  if (verdict.kind == WatchVerdict::Kind::kDiverged) {
    return text + "; some of them left the common order of collectives, or the network lost a message";
  }
  return text + Waiting(ranks, verdict.ranks);
}

}  // namespace tanren
