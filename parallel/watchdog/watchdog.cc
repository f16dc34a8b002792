#include "parallel/watchdog/watchdog.h"

#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <random>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "core/base/clock.h"
#include "core/base/status.h"
#include "parallel/watchdog/messages.h"
#include "parallel/watchdog/monitor.h"
#include "parallel/watchdog/network.h"
#include "parallel/watchdog/watch_thread.h"

namespace tanren {
namespace {

constexpr double kConnectSeconds = 3;  // for one address
// For all ranks together; a rank has tried every address by then, or there are too many.
constexpr double kGatherSeconds = 30;
constexpr double kHelloSeconds = 3;     // that a caller may take to say hello
constexpr double kWelcomeSeconds = 10;  // that a rank waits for its turn to be greeted

std::atomic<Watchdog*> current{nullptr};

// Where rank 0 is to be found: "token token port address address ...".
struct Meeting {
  uint64_t token[2] = {};
  int port = 0;
  std::vector<std::string> addresses;

  std::string ToString() const {
    return absl::StrCat(token[0], " ", token[1], " ", port, " ", absl::StrJoin(addresses, " "));
  }
  static Meeting Parse(const std::string& text) {
    std::vector<std::string> words = absl::StrSplit(text, ' ', absl::SkipEmpty());
    Meeting meeting;
    TANREN_CHECK(words.size() >= 3 && absl::SimpleAtoi(words[0], &meeting.token[0]) &&
                 absl::SimpleAtoi(words[1], &meeting.token[1]) && absl::SimpleAtoi(words[2], &meeting.port));
    meeting.addresses.assign(words.begin() + 3, words.end());
    return meeting;
  }
};

Hello MakeHello(const Meeting& meeting, int rank) {
  Hello hello;
  std::ranges::copy(meeting.token, hello.token);
  hello.rank = rank;
  hello.identity = ProcessIdentity::Own();
  return hello;
}

bool Knows(const Meeting& meeting, const Hello& hello) {
  return std::ranges::equal(meeting.token, hello.token);
}

// A connection a rank; many systems allow 1,024 unless asked for more.
void AllowConnections(int ranks) {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = std::min<rlim_t>(limit.rlim_max, limit.rlim_cur + ranks);
  setrlimit(RLIMIT_NOFILE, &limit);
}

bool OnOneMachine(Comm& world) {
  const ProcessIdentity own = ProcessIdentity::Own();
  // Network namespaces may differ where PID namespaces do.
  const std::vector<std::string> boots = AllGatherStrings(world, "watchdog machines", own.boot);
  return !boots[0].empty() && std::ranges::all_of(boots, [&](const std::string& b) { return b == boots[0]; });
}

// Rank 0 waits until every rank has said hello, and greets each.
absl::StatusOr<std::vector<Channel>> Gather(const Meeting& meeting, const Listener& listener, int size,
                                            std::vector<ProcessIdentity>* identities) {
  std::vector<Channel> channels(size);
  const Hello own = MakeHello(meeting, 0);
  (*identities)[0] = own.identity;
  const double deadline = SteadySeconds() + kGatherSeconds;
  for (int missing = size - 1; missing > 0;) {
    Descriptor socket = Accept(listener, deadline - SteadySeconds());
    if (socket.get() < 0) break;
    Hello hello;
    // Whoever does not know the token is turned away.
    if (!ReceiveAll(socket.get(), &hello, sizeof(hello), kHelloSeconds) || !Knows(meeting, hello)) continue;
    if (hello.rank <= 0 || hello.rank >= size || channels[hello.rank].open()) continue;
    if (!SendAll(socket.get(), &own, sizeof(own), kHelloSeconds)) continue;
    (*identities)[hello.rank] = hello.identity;
    channels[hello.rank] = Channel(std::move(socket), sizeof(Beat));
    --missing;
  }
  std::vector<int> missing;
  for (int rank = 1; rank < size; ++rank) {
    if (!channels[rank].open()) missing.push_back(rank);
  }
  if (missing.empty()) return channels;
  const size_t count = missing.size();
  if (count > 8) missing.resize(8);
  return InvalidInput(
      "watchdog: %d of %d ranks (%s%s) cannot reach rank 0 on %s at %s, port %d; name a network that all "
      "nodes share "
      "in watchdog.interface, or set watchdog.enabled: false",
      count, size, absl::StrJoin(missing, ", "), count > 8 ? ", ..." : "", own.identity.host,
      absl::StrJoin(meeting.addresses, ", "), meeting.port);
}

// The other ranks try each address. What answers may be a stranger: addresses of container networks are the
// same on every host.
Channel Join(const Meeting& meeting, int rank, ProcessIdentity* rank_0) {
  const Hello own = MakeHello(meeting, rank);
  for (const std::string& address : meeting.addresses) {
    Descriptor socket = Connect(address, meeting.port, kConnectSeconds);
    Hello hello;
    if (socket.get() < 0 || !SendAll(socket.get(), &own, sizeof(own), kHelloSeconds)) continue;
    if (!ReceiveAll(socket.get(), &hello, sizeof(hello), kWelcomeSeconds) || !Knows(meeting, hello)) continue;
    *rank_0 = hello.identity;
    return Channel(std::move(socket), sizeof(Order));
  }
  return Channel();
}

// Rank 0 opens its port before the others hear of it.
absl::Status Open(Comm& world, const WatchdogOptions& options, bool one_machine, Meeting* meeting,
                  Listener* listener) {
  absl::Status opened;
  if (world.rank() == 0) {
    std::random_device random;
    for (uint64_t& half : meeting->token) half = uint64_t{random()} << 32 | random();
    meeting->addresses = {"127.0.0.1"};
    if (!one_machine) {
      absl::StatusOr<std::vector<std::string>> addresses = OwnAddresses(options.interface);
      opened = addresses.status();
      if (addresses.ok()) meeting->addresses = *std::move(addresses);
    }
    absl::StatusOr<Listener> made = Listen(one_machine, world.size());
    opened.Update(made.status());
    if (made.ok()) {
      meeting->port = made->port;
      *listener = *std::move(made);
    }
  }
  TANREN_RETURN_IF_ERROR(AgreeStatus(world, "watchdog port", opened));
  *meeting = Meeting::Parse(BroadcastString(world, "watchdog address", meeting->ToString(), 0));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Watchdog>> Watchdog::Start(Comm& world, const WatchdogOptions& options) {
  if (world.size() == 1 || !options.enabled) return nullptr;
  Meeting meeting;
  Listener listener;
  TANREN_RETURN_IF_ERROR(Open(world, options, OnOneMachine(world), &meeting, &listener));
  std::vector<ProcessIdentity> identities(world.size());
  absl::StatusOr<std::vector<Channel>> gathered;
  Channel joined;
  if (world.rank() == 0) {
    AllowConnections(world.size());
    gathered = Gather(meeting, listener, world.size(), &identities);
  } else {
    joined = Join(meeting, world.rank(), &identities[0]);
  }
  // Rank 0 knows who is missing, and says it.
  TANREN_RETURN_IF_ERROR(
      AgreeStatus(world, "watchdog", world.rank() == 0 ? gathered.status() : absl::OkStatus()));
  std::unique_ptr<Watchdog> made =
      world.rank() == 0
          ? MakeMonitor(options.limits, *std::move(gathered), identities)
          : MakeReporter(options.limits, std::move(joined), world.rank(), world.size(), identities[0]);
  current.store(made.get(), std::memory_order_release);
  return made;
}

Watchdog::~Watchdog() { current.store(nullptr, std::memory_order_release); }

void AnnounceEndToWatchdog() {
  if (Watchdog* watchdog = current.load(std::memory_order_acquire)) watchdog->AnnounceEnd();
}

}  // namespace tanren
