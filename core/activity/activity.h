// What this process is doing right now, for whoever watches it: phase, step, collectives entered, progress.
//
// Written by the thread that runs the job, read by any other at any moment. Every field is an atomic of its
// own and there is no lock, so writing costs nanoseconds and never waits. A reader may catch a record half
// way between two collectives; a record that has not changed for seconds, the only kind that anything is
// concluded from, is consistent.
#ifndef TANREN_CORE_ACTIVITY_ACTIVITY_H_
#define TANREN_CORE_ACTIVITY_ACTIVITY_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <string>

namespace tanren {

// What the job as a whole is at.
enum class Phase : uint8_t { kStart, kLoad, kStep, kValidation, kSamples, kSave, kEnd };
// What this rank does for it.
enum class Work : uint8_t { kOther, kForward, kBackward, kUpdate, kRollout, kCommand };

const char* NameOf(Phase phase);
const char* NameOf(Work work);

inline constexpr int kMaxAxes = 4;

// The calls of one communicator. Plain bytes, like all of ActivityRecord: it travels between ranks.
struct AxisActivity {
  char axis[16] = {};        // "world", "data", "tensor"; "" for none
  char collective[48] = {};  // name of the last call, cut to fit
  uint64_t entered = 0;      // collectives so far
  int32_t group = 0;         // ranks with this axis and group exchange data with each other
  int32_t inside = 0;        // 1: the last call has not returned yet
};

struct ActivityRecord {
  uint64_t progress = 0;  // grows whenever something is done
  int64_t step = 0;       // the one under way in Phase::kStep, else the last one done; counted from 1
  Phase phase = Phase::kStart;
  Work work = Work::kOther;
  uint8_t unused[6] = {};
  int64_t timed_steps = 0;          // steps ended since the process started
  double compute_seconds = 0;       // spent in them outside collectives
  double longest_step_seconds = 0;  // of the last 16; 0: none has ended
  std::array<AxisActivity, kMaxAxes> axes;

  // The communicator whose call has not returned; -1: none.
  int InsideAxis() const;
  // "step 12, backward, after collective #881 'gradients' of axis data"
  std::string ToString() const;
};

// Told what begins and ends, at that moment and in the thread that does it: the seam by which tests end a
// process in the middle of something, and profilers show what a kernel is part of.
class ActivityObserver {
 public:
  enum class Kind : uint8_t { kPhase, kWork, kCollective };

  virtual ~ActivityObserver() = default;
  // `name` is that of the phase ("step"), the work ("backward") or the call ("gradients"); valid during the
  // call. What begins inside of something ends before it.
  virtual void Begins(Kind kind, const char* name) = 0;
  virtual void Ends() {}
};

class Activity {
 public:
  constexpr Activity() = default;
  Activity(const Activity&) = delete;
  Activity& operator=(const Activity&) = delete;

  // The one of this process.
  static Activity& Own();

  // From any thread.
  ActivityRecord Read() const;
  // Something was done, a micro-batch or a file: what does that for minutes must say so. From any thread.
  void Tick() {
    if (background_thread_ && phase_.load(std::memory_order_relaxed) != Phase::kSave) return;
    ticks_.fetch_add(1, std::memory_order_relaxed);
  }
  // The calling thread writes checkpoints beside the one that runs the job. Its ticks are no progress of the
  // job, except while the job waits for it.
  static void MarkBackgroundThread() { background_thread_ = true; }

  // All others from one thread. Two observers at most; borrowed. To remove one that is not there does
  // nothing.
  void AddObserver(ActivityObserver* observer);
  void RemoveObserver(ActivityObserver* observer);

  // A slot for the calls of one communicator; at most kMaxAxes.
  int AddAxis(const std::string& axis, int group);
  // A point-to-point call is not counted: its members' counts would differ.
  void Enter(int axis, const char* collective, bool counted = true);
  void Leave(int axis);

  // For the rest of the process's life, or until it is set again: observers are not told.
  void Set(Phase phase) { phase_.store(phase, std::memory_order_relaxed); }
  // What was before; to be handed to End when it has ended.
  Phase Begin(Phase phase);
  Work Begin(Work work);
  void End(Phase before);
  void End(Work before);
  // Steps are counted from 1.
  void BeginStep(int64_t step);
  void EndStep();

 private:
  void TellBegin(ActivityObserver::Kind kind, const char* name);
  void TellEnd();

  static constexpr int kRecentSteps = 16;
  static inline thread_local bool background_thread_ = false;
  static constexpr int kNameWords = sizeof(AxisActivity::collective) / sizeof(uint64_t);
  struct Axis {
    char axis[sizeof(AxisActivity::axis)] = {};  // written once, before `group` is published
    std::atomic<int32_t> group{-1};              // -1: a free slot
    std::atomic<int32_t> inside{0};
    std::atomic<uint64_t> entered{0};
    std::array<std::atomic<uint64_t>, kNameWords> collective{};
  };

  std::array<Axis, kMaxAxes> axes_{};
  std::atomic<uint64_t> ticks_{0};
  std::atomic<uint64_t> calls_{0};  // entered and left
  std::atomic<int64_t> step_{0};
  std::atomic<Phase> phase_{Phase::kStart};
  std::atomic<Work> work_{Work::kOther};
  std::atomic<int64_t> timed_steps_{0};
  std::atomic<double> compute_seconds_{0};
  std::atomic<double> longest_step_seconds_{0};

  // Of the writing thread.
  std::array<ActivityObserver*, 2> observers_{};
  double entered_seconds_ = 0;  // when the call was entered
  double inside_seconds_ = 0;   // in all calls so far
  double step_begin_ = 0, step_begin_inside_ = 0;
  std::array<double, kRecentSteps> recent_{};
};

// Says a phase, or a kind of work, until the end of the scope.
template <class Kind>
class Doing {
 public:
  explicit Doing(Kind kind) : before_(Activity::Own().Begin(kind)) { Activity::Own().Tick(); }
  ~Doing() {
    Activity::Own().End(before_);
    Activity::Own().Tick();
  }
  Doing(const Doing&) = delete;
  Doing& operator=(const Doing&) = delete;

 private:
  Kind before_;
};

class DoingStep {
 public:
  explicit DoingStep(int64_t step) { Activity::Own().BeginStep(step); }
  ~DoingStep() { Activity::Own().EndStep(); }
  DoingStep(const DoingStep&) = delete;
  DoingStep& operator=(const DoingStep&) = delete;
};

// A rank whose steps take longer than its peers' for a while, for the log.
struct SlowRank {
  int rank = 0;
  double ratio = 1;  // to the median rank
  std::string text;  // who, where, and the figures
};

}  // namespace tanren

#endif  // TANREN_CORE_ACTIVITY_ACTIVITY_H_
