#include "parallel/watchdog/network.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <cmath>
#include <cstring>
#include <utility>

#include "absl/strings/str_join.h"
#include "core/base/clock.h"
#include "core/base/status.h"

namespace tanren {
namespace {

// True when the socket is ready before the deadline.
bool WaitFor(int socket, short events, double deadline) {
  while (true) {
    const double left = deadline - SteadySeconds();
    if (left <= 0) return false;
    pollfd entry{socket, events, 0};
    const int ready = poll(&entry, 1, static_cast<int>(std::ceil(1000 * left)));
    if (ready > 0) return true;
    if (ready < 0 && errno != EINTR) return false;
  }
}

// A message must not wait for more to come, and a dead host must not hold a connection for ever.
void Configure(int socket) {
  const int on = 1;
  setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  setsockopt(socket, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
}

std::string NumericAddress(const sockaddr* address) {
  char text[NI_MAXHOST] = "";
  const socklen_t bytes = address->sa_family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
  if (getnameinfo(address, bytes, text, sizeof(text), nullptr, 0, NI_NUMERICHOST) != 0) return "";
  return text;
}

bool IsLinkLocal(const sockaddr* address) {
  return address->sa_family == AF_INET6 &&
         IN6_IS_ADDR_LINKLOCAL(&reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr);
}

absl::Status SocketError(const char* what) {
  return absl::InternalError(absl::StrCat("watchdog: ", what, ": ", std::strerror(errno)));
}

}  // namespace

absl::StatusOr<std::vector<std::string>> OwnAddresses(const std::string& interface) {
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0) return SocketError("getifaddrs");
  std::vector<std::string> four, six, names;
  for (const ifaddrs* entry = list; entry != nullptr; entry = entry->ifa_next) {
    if (entry->ifa_addr == nullptr || (entry->ifa_flags & IFF_UP) == 0) continue;
    const int family = entry->ifa_addr->sa_family;
    if ((family != AF_INET && family != AF_INET6) || IsLinkLocal(entry->ifa_addr)) continue;
    if (names.empty() || names.back() != entry->ifa_name) names.push_back(entry->ifa_name);
    if (interface.empty() ? (entry->ifa_flags & IFF_LOOPBACK) != 0 : interface != entry->ifa_name) continue;
    const std::string address = NumericAddress(entry->ifa_addr);
    if (!address.empty()) (family == AF_INET ? four : six).push_back(address);
  }
  freeifaddrs(list);
  four.insert(four.end(), six.begin(), six.end());
  if (four.empty() && !interface.empty()) {
    return InvalidInput("watchdog.interface: no address on \"%s\"; rank 0 has %s", interface,
                        absl::StrJoin(names, ", "));
  }
  return four;
}

absl::StatusOr<Listener> Listen(bool loopback, int backlog) {
  Listener listener;
  sockaddr_storage own = {};
  socklen_t bytes = 0;
  // One IPv6 socket serves IPv4 too, where the system has IPv6.
  int fd = loopback ? -1 : socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd >= 0) {
    const int off = 0;
    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
    auto* address = reinterpret_cast<sockaddr_in6*>(&own);
    address->sin6_family = AF_INET6;
    address->sin6_addr = in6addr_any;
    bytes = sizeof(*address);
  } else {
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    auto* address = reinterpret_cast<sockaddr_in*>(&own);
    address->sin_family = AF_INET;
    address->sin_addr.s_addr = htonl(loopback ? INADDR_LOOPBACK : INADDR_ANY);
    bytes = sizeof(*address);
  }
  listener.socket = Descriptor(fd);
  if (fd < 0) return SocketError("socket");
  if (bind(fd, reinterpret_cast<const sockaddr*>(&own), bytes) != 0) return SocketError("bind");
  if (listen(fd, backlog) != 0) return SocketError("listen");
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&own), &bytes) != 0) return SocketError("getsockname");
  listener.port = ntohs(own.ss_family == AF_INET ? reinterpret_cast<sockaddr_in*>(&own)->sin_port
                                                 : reinterpret_cast<sockaddr_in6*>(&own)->sin6_port);
  return listener;
}

Descriptor Connect(const std::string& address, int port, double seconds) {
  addrinfo hints = {};
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (getaddrinfo(address.c_str(), std::to_string(port).c_str(), &hints, &found) != 0) return Descriptor();
  const double deadline = SteadySeconds() + seconds;
  Descriptor made(socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  bool connected = made.get() >= 0;
  if (connected && connect(made.get(), found->ai_addr, found->ai_addrlen) != 0) {
    int error = errno;
    if (error == EINPROGRESS && WaitFor(made.get(), POLLOUT, deadline)) {
      socklen_t bytes = sizeof(error);
      getsockopt(made.get(), SOL_SOCKET, SO_ERROR, &error, &bytes);
    }
    connected = error == 0;
  }
  freeaddrinfo(found);
  if (!connected) return Descriptor();
  Configure(made.get());
  return made;
}

Descriptor Accept(const Listener& listener, double seconds) {
  const double deadline = SteadySeconds() + seconds;
  while (WaitFor(listener.socket.get(), POLLIN, deadline)) {
    Descriptor made(accept4(listener.socket.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (made.get() < 0) continue;
    Configure(made.get());
    return made;
  }
  return Descriptor();
}

bool SendAll(int socket, const void* data, size_t bytes, double seconds) {
  const double deadline = SteadySeconds() + seconds;
  const char* at = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t sent = send(socket, at, bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent > 0) {
      at += sent;
      bytes -= sent;
    } else if ((errno != EAGAIN && errno != EINTR) || !WaitFor(socket, POLLOUT, deadline)) {
      return false;
    }
  }
  return true;
}

bool ReceiveAll(int socket, void* data, size_t bytes, double seconds) {
  const double deadline = SteadySeconds() + seconds;
  char* at = static_cast<char*>(data);
  while (bytes > 0) {
    if (!WaitFor(socket, POLLIN, deadline)) return false;
    const ssize_t got = recv(socket, at, bytes, MSG_DONTWAIT);
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) return false;
    if (got < 0) continue;
    at += got;
    bytes -= got;
  }
  return true;
}

Channel::Channel(Descriptor socket, size_t message_bytes)
    : socket_(std::move(socket)), message_bytes_(message_bytes) {}

bool Channel::Send(const void* message, size_t bytes) {
  while (true) {
    const ssize_t sent = send(socket_.get(), message, bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
    // A part of a message would put all that follow out of step.
    if (sent >= 0) return sent == static_cast<ssize_t>(bytes);
    if (errno == EINTR) continue;
    return errno == EAGAIN;
  }
}

bool Channel::Fill() {
  char buffer[16384];
  while (true) {
    const ssize_t got = recv(socket_.get(), buffer, sizeof(buffer), MSG_DONTWAIT);
    if (got > 0) {
      received_.append(buffer, got);
      continue;
    }
    if (got == 0) return false;
    if (errno == EINTR) continue;
    return errno == EAGAIN;
  }
}

bool Channel::Take(void* message) {
  if (received_.size() < message_bytes_) return false;
  std::memcpy(message, received_.data(), message_bytes_);
  received_.erase(0, message_bytes_);
  return true;
}

}  // namespace tanren
