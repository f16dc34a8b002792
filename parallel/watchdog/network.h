// TCP between the ranks' watchdogs.
#ifndef TANREN_PARALLEL_WATCHDOG_NETWORK_H_
#define TANREN_PARALLEL_WATCHDOG_NETWORK_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/checkpoint/file_system.h"

namespace tanren {

// The numeric addresses, IPv4 first, by which other hosts may reach this one: of every interface that is up
// but loopback, or of `interface` only. InvalidArgument when that one is not there, with those that are.
absl::StatusOr<std::vector<std::string>> OwnAddresses(const std::string& interface);

struct Listener {
  Descriptor socket;
  int port = 0;
};
// On a port that the system chooses; on 127.0.0.1 only, or on all addresses.
absl::StatusOr<Listener> Listen(bool loopback, int backlog);

// A connection to the numeric address, or none after `seconds` (the descriptor is then -1).
Descriptor Connect(const std::string& address, int port, double seconds);
// The next connection to the listener, or none after `seconds`.
Descriptor Accept(const Listener& listener, double seconds);

// All bytes within `seconds`, or false: for the handshake, before a connection is anybody's.
bool SendAll(int socket, const void* data, size_t bytes, double seconds);
bool ReceiveAll(int socket, void* data, size_t bytes, double seconds);

// A connection of whole messages of one size each way, that never blocks.
class Channel {
 public:
  Channel() = default;
  // `message_bytes`: of what is received.
  Channel(Descriptor socket, size_t message_bytes);

  int descriptor() const { return socket_.get(); }
  bool open() const { return socket_.get() >= 0; }
  void Close() { socket_ = Descriptor(); }

  // False when the peer is gone. To a peer that reads nothing for so long that the connection is full, the
  // message is dropped: its own silence will be noticed.
  bool Send(const void* message, size_t bytes);

  // Takes in what has arrived. False once the peer has closed the connection; messages that came before
  // still can be taken.
  bool Fill();
  // The next whole message.
  bool Take(void* message);

 private:
  Descriptor socket_;
  size_t message_bytes_ = 0;
  std::string received_;
};

}  // namespace tanren

#endif  // TANREN_PARALLEL_WATCHDOG_NETWORK_H_
