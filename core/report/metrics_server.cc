#include "core/report/metrics_server.h"

#include <fcntl.h>
#include <httplib.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <cctype>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <map>
#include <mutex>
#include <set>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/activity/activity.h"
#include "core/base/status.h"
#include "nlohmann/json.hpp"

namespace tanren {
namespace {

using Clock = std::chrono::steady_clock;
using Pairs = std::vector<std::pair<std::string, std::string>>;

constexpr const char* kLoopback = "127.0.0.1";
constexpr int kServingThreads = 2;

// What only grows within one process.
bool IsCounter(const std::string& name) {
  static const std::set<std::string> counters = {"tokens", "skipped_steps", "loss_spikes", "rollbacks",
                                                 "skipped_data_steps"};
  return counters.contains(name);
}

std::string MetricName(const std::string& name) {
  std::string clean = "tanren_";
  for (const char c : name) clean += std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
  if (IsCounter(name)) clean += "_total";
  return clean;
}

std::string Number(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
  return absl::StrFormat("%.17g", value);
}

std::string LabelValue(const std::string& text) {
  std::string escaped;
  for (const char c : text) {
    if (c == '\\' || c == '"') escaped += '\\';
    if (c == '\n') {
      escaped += "\\n";
    } else {
      escaped += c;
    }
  }
  return escaped;
}

// Blocks all signals for the threads that are started in its scope: the job's own thread handles them.
class WithoutSignals {
 public:
  WithoutSignals() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~WithoutSignals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  WithoutSignals(const WithoutSignals&) = delete;
  WithoutSignals& operator=(const WithoutSignals&) = delete;

 private:
  sigset_t before_;
};

class Serving final : public MetricsServer {
 public:
  explicit Serving(const Options& options) : options_(options) {
    server_.new_task_queue = [] { return new httplib::ThreadPool(kServingThreads); };
    // Without the library's SO_REUSEPORT, by which two runs would share a port; and not for the commands that
    // a run starts, which would hold it when the run is gone.
    server_.set_socket_options([](int socket) {
      const int yes = 1;
      setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
      fcntl(socket, F_SETFD, FD_CLOEXEC);
    });
    server_.set_read_timeout(5);
    server_.set_write_timeout(5);
    server_.set_payload_max_length(1024);
    server_.Get("/metrics", [this](const httplib::Request&, httplib::Response& response) {
      response.set_content(Metrics(), "text/plain; version=0.0.4; charset=utf-8");
    });
    server_.Get("/health", [this](const httplib::Request&, httplib::Response& response) {
      bool stalled = false;
      response.set_content(Health(&stalled), "application/json");
      response.status = stalled ? 503 : 200;
    });
  }

  ~Serving() override {
    server_.stop();
    {
      const std::lock_guard lock(mutex_);
      ends_ = true;
    }
    changed_.notify_all();
    for (std::thread* thread : {&listener_, &watcher_}) {
      if (thread->joinable()) thread->join();
    }
  }

  absl::Status Listen() {
    if (options_.port == 0) {
      port_ = server_.bind_to_any_port(kLoopback);
      if (port_ < 0) return InvalidInput("log.metrics_port: no port of %s can be had", kLoopback);
    } else {
      port_ = options_.port;
      if (!server_.bind_to_port(kLoopback, port_)) {
        return InvalidInput(
            "log.metrics_port: port %d of %s is taken or not allowed; give another, or 0 for none", port_,
            kLoopback);
      }
    }
    const WithoutSignals without_signals;
    listener_ = std::thread([this] {
      server_.listen_after_bind();
      served_ = true;
    });
    watcher_ = std::thread([this] { WatchProgress(); });
    // stop() would pass a server by that has not begun to serve.
    while (!server_.is_running() && !served_) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return absl::OkStatus();
  }

  int port() const override { return port_; }

  void Update(const MetricsRecord& record) override {
    const std::lock_guard lock(mutex_);
    figures_["step"] = static_cast<double>(record.step());
    for (const auto& [name, value] : record.figures()) figures_[name] = value;
    figures_["updated_timestamp_seconds"] =
        std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  }

 private:
  double SecondsWithoutProgress() {
    const std::lock_guard lock(mutex_);
    return std::chrono::duration<double>(Clock::now() - progressed_at_).count();
  }

  std::string Metrics() {
    std::vector<std::pair<std::string, double>> figures;
    {
      const std::lock_guard lock(mutex_);
      figures.assign(figures_.begin(), figures_.end());
    }
    figures.emplace_back("seconds_without_progress", SecondsWithoutProgress());
    return PrometheusText(figures, options_.labels);
  }

  std::string Health(bool* stalled) {
    const double seconds = SecondsWithoutProgress();
    *stalled = seconds > options_.stall_seconds;
    const ActivityRecord activity = Activity::Own().Read();
    const nlohmann::ordered_json health = {{"status", *stalled ? "stalled" : "ok"},
                                           {"phase", NameOf(activity.phase)},
                                           {"step", activity.step},
                                           {"doing", activity.ToString()},
                                           {"seconds_without_progress", seconds}};
    return health.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  }

  void WatchProgress() {
    const auto interval = std::chrono::duration<double>(std::min(1.0, options_.stall_seconds / 4));
    std::unique_lock lock(mutex_);
    while (!ends_) {
      const uint64_t progress = Activity::Own().Read().progress;
      if (progress != progress_) progressed_at_ = Clock::now();
      progress_ = progress;
      changed_.wait_for(lock, interval, [this] { return ends_; });
    }
  }

  Options options_;
  httplib::Server server_;
  int port_ = 0;
  std::thread listener_, watcher_;
  std::atomic<bool> served_{false};  // the listener has ended

  std::mutex mutex_;  // guards all below
  std::condition_variable changed_;
  bool ends_ = false;
  std::map<std::string, double> figures_;
  uint64_t progress_ = 0;
  Clock::time_point progressed_at_ = Clock::now();
};

}  // namespace

std::string PrometheusText(const std::vector<std::pair<std::string, double>>& figures, const Pairs& labels) {
  std::string text =
      "# HELP tanren_run_info The run that these figures are of.\n# TYPE tanren_run_info gauge\n";
  std::string list;
  for (const auto& [name, value] : labels) {
    absl::StrAppend(&list, list.empty() ? "" : ",", name, "=\"", LabelValue(value), "\"");
  }
  absl::StrAppend(&text, "tanren_run_info{", list, "} 1\n");
  for (const auto& [name, value] : figures) {
    const std::string metric = MetricName(name);
    absl::StrAppend(&text, "# TYPE ", metric, IsCounter(name) ? " counter\n" : " gauge\n", metric, " ",
                    Number(value), "\n");
  }
  return text;
}

absl::StatusOr<std::unique_ptr<MetricsServer>> MetricsServer::Start(const Options& options) {
  // The library ignores SIGPIPE for the whole process. A run may be piped into `head`, and the threads here
  // block all signals.
  struct sigaction pipe = {};
  sigaction(SIGPIPE, nullptr, &pipe);
  auto server = std::make_unique<Serving>(options);
  sigaction(SIGPIPE, &pipe, nullptr);
  TANREN_RETURN_IF_ERROR(server->Listen());
  return server;
}

}  // namespace tanren
