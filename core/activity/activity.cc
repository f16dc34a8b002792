#include "core/activity/activity.h"

#include <algorithm>
#include <cstring>

#include "core/base/clock.h"
#include "core/base/status.h"

namespace tanren {
namespace {

// Only one thread writes, so a plain load and store is enough, and cheaper than a read-modify-write.
template <class T>
void Add(std::atomic<T>& value, T amount) {
  value.store(value.load(std::memory_order_relaxed) + amount, std::memory_order_relaxed);
}

constinit Activity own;

}  // namespace

const char* NameOf(Phase phase) {
  switch (phase) {
    case Phase::kStart:
      return "start";
    case Phase::kLoad:
      return "load";
    case Phase::kStep:
      return "step";
    case Phase::kValidation:
      return "validation";
    case Phase::kSamples:
      return "samples";
    case Phase::kSave:
      return "save";
    case Phase::kEnd:
      return "end";
  }
  return "?";
}

const char* NameOf(Work work) {
  switch (work) {
    case Work::kOther:
      return "";
    case Work::kForward:
      return "forward";
    case Work::kBackward:
      return "backward";
    case Work::kUpdate:
      return "optimizer";
    case Work::kRollout:
      return "rollout";
    case Work::kCommand:
      return "external command";
  }
  return "?";
}

int ActivityRecord::InsideAxis() const {
  for (int i = 0; i < kMaxAxes; ++i) {
    if (axes[i].inside != 0) return i;
  }
  return -1;
}

std::string ActivityRecord::ToString() const {
  std::string text = NameOf(phase);
  if (phase == Phase::kStep) absl::StrAppend(&text, " ", step);
  if (phase != Phase::kStep && step > 0) absl::StrAppend(&text, " after step ", step);
  if (work != Work::kOther) absl::StrAppend(&text, ", ", NameOf(work));
  const int inside = InsideAxis();
  bool any = false;
  for (int i = 0; i < kMaxAxes; ++i) {
    const AxisActivity& axis = axes[i];
    if (axis.entered == 0 || (inside >= 0 && i != inside)) continue;
    absl::StrAppend(&text,
                    any           ? " and "
                    : inside >= 0 ? ", inside collective "
                                  : ", after collective ",
                    "#", axis.entered, " '", axis.collective, "' of axis ", axis.axis);
    any = true;
  }
  return text;
}

Activity& Activity::Own() { return own; }

ActivityRecord Activity::Read() const {
  ActivityRecord record;
  record.progress = calls_.load(std::memory_order_acquire) + ticks_.load(std::memory_order_relaxed);
  record.step = step_.load(std::memory_order_relaxed);
  record.phase = phase_.load(std::memory_order_relaxed);
  record.work = work_.load(std::memory_order_relaxed);
  record.timed_steps = timed_steps_.load(std::memory_order_acquire);
  record.compute_seconds = compute_seconds_.load(std::memory_order_relaxed);
  record.longest_step_seconds = longest_step_seconds_.load(std::memory_order_relaxed);
  for (int i = 0; i < kMaxAxes; ++i) {
    const Axis& from = axes_[i];
    AxisActivity& to = record.axes[i];
    to.group = from.group.load(std::memory_order_acquire);
    if (to.group < 0) continue;
    std::memcpy(to.axis, from.axis, sizeof(to.axis));
    to.inside = from.inside.load(std::memory_order_relaxed);
    to.entered = from.entered.load(std::memory_order_relaxed);
    for (int w = 0; w < kNameWords; ++w) {
      const uint64_t word = from.collective[w].load(std::memory_order_relaxed);
      std::memcpy(to.collective + w * sizeof(word), &word, sizeof(word));
    }
    // Two halves of different names may lack the end between them.
    to.collective[sizeof(to.collective) - 1] = '\0';
  }
  return record;
}

int Activity::AddAxis(const std::string& axis, int group) {
  for (int i = 0; i < kMaxAxes; ++i) {
    if (axes_[i].group.load(std::memory_order_relaxed) >= 0) continue;
    std::strncpy(axes_[i].axis, axis.c_str(), sizeof(axes_[i].axis) - 1);
    axes_[i].group.store(group, std::memory_order_release);
    return i;
  }
  TANREN_CHECK_MSG(false, "axis '", axis, "' is one communicator more than ", kMaxAxes);
  return -1;
}

void Activity::Enter(int axis, const char* collective, bool counted) {
  Axis& own_axis = axes_[axis];
  uint64_t words[kNameWords] = {};
  std::memcpy(words, collective, strnlen(collective, sizeof(words) - 1));
  for (int w = 0; w < kNameWords; ++w) own_axis.collective[w].store(words[w], std::memory_order_relaxed);
  if (counted) Add(own_axis.entered, uint64_t{1});
  own_axis.inside.store(1, std::memory_order_relaxed);
  entered_seconds_ = SteadySeconds();
  calls_.store(calls_.load(std::memory_order_relaxed) + 1, std::memory_order_release);
  TellBegin(ActivityObserver::Kind::kCollective, collective);
}

void Activity::Leave(int axis) {
  TellEnd();
  inside_seconds_ += SteadySeconds() - entered_seconds_;
  axes_[axis].inside.store(0, std::memory_order_relaxed);
  calls_.store(calls_.load(std::memory_order_relaxed) + 1, std::memory_order_release);
}

Phase Activity::Begin(Phase phase) {
  const Phase before = phase_.load(std::memory_order_relaxed);
  phase_.store(phase, std::memory_order_relaxed);
  TellBegin(ActivityObserver::Kind::kPhase, NameOf(phase));
  return before;
}

Work Activity::Begin(Work work) {
  const Work before = work_.load(std::memory_order_relaxed);
  work_.store(work, std::memory_order_relaxed);
  TellBegin(ActivityObserver::Kind::kWork, NameOf(work));
  return before;
}

void Activity::End(Phase before) {
  TellEnd();
  phase_.store(before, std::memory_order_relaxed);
}

void Activity::End(Work before) {
  TellEnd();
  work_.store(before, std::memory_order_relaxed);
}

void Activity::AddObserver(ActivityObserver* observer) {
  for (ActivityObserver*& one : observers_) {
    if (one != nullptr) continue;
    one = observer;
    return;
  }
  TANREN_CHECK_MSG(false, "one observer more than ", observers_.size());
}

void Activity::RemoveObserver(ActivityObserver* observer) {
  for (ActivityObserver*& one : observers_) {
    if (one == observer) one = nullptr;
  }
}

void Activity::TellBegin(ActivityObserver::Kind kind, const char* name) {
  for (ActivityObserver* const one : observers_) {
    if (one != nullptr) one->Begins(kind, name);
  }
}

void Activity::TellEnd() {
  for (ActivityObserver* const one : observers_) {
    if (one != nullptr) one->Ends();
  }
}

void Activity::BeginStep(int64_t step) {
  step_.store(step, std::memory_order_relaxed);
  Begin(Phase::kStep);
  Tick();
  step_begin_ = SteadySeconds();
  step_begin_inside_ = inside_seconds_;
}

void Activity::EndStep() {
  TellEnd();
  const double seconds = SteadySeconds() - step_begin_;
  const double inside = inside_seconds_ - step_begin_inside_;
  const int64_t number = timed_steps_.load(std::memory_order_relaxed);
  recent_[number % kRecentSteps] = seconds;
  longest_step_seconds_.store(*std::max_element(recent_.begin(), recent_.end()), std::memory_order_relaxed);
  Add(compute_seconds_, std::max(seconds - inside, 0.0));
  // After the seconds: a reader that sees the step has its seconds.
  timed_steps_.store(number + 1, std::memory_order_release);
  // What comes between steps is short, or a phase of its own.
  Tick();
}

}  // namespace tanren
