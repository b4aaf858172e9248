// Listening sockets of connections: TCP, UNIX stream, UNIX seqpacket.

#ifndef TALLYD_DAEMON_STREAM_LISTENER_H_
#define TALLYD_DAEMON_STREAM_LISTENER_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "daemon/address.h"
#include "daemon/connection_counts.h"
#include "daemon/loop.h"
#include "daemon/sender_gate.h"
#include "daemon/stream_connection.h"
#include "daemon/unique_fd.h"

namespace tallyd {

// A TCP socket bound to `address` and listening; `kind` is what errors call it.
absl::StatusOr<UniqueFd> OpenTcpListener(const SocketAddress& address, const std::string& kind);
// Makes a bound socket listen; `name` is for the error.
absl::Status ListenOn(int fd, const std::string& name);

// Accepts connections and hands them on. Without descriptors, or past the budget, it pauses: the
// kernel's backlog holds what comes meanwhile.
//
// Ownership: the control loop's thread. The loop, the budget and the counts outlive it.
class StreamListener {
 public:
  using Assign = std::function<void(AcceptedConnection)>;

  struct Options {
    std::string name;
    StreamKind kind = StreamKind::kTcp;
    Source source;
    bool tell_peers = false;     // of UNIX sockets: whether to ask the kernel who connected
    SenderGate* gate = nullptr;  // null: whoever the file's mode lets connect; else tell_peers
  };

  StreamListener(Loop* loop, UniqueFd listening, Options options, ConnectionBudget* budget,
                 ConnectionCounts* counts, Assign assign);
  StreamListener(const StreamListener&) = delete;
  StreamListener& operator=(const StreamListener&) = delete;

  void Start() { Wait(); }
  void Stop();
  uint16_t listener() const { return options_.source.listener; }

 private:
  void Wait();
  void AcceptSome();
  // One connection; false if there is none, or no means to take it.
  bool AcceptOne(bool* exhausted);
  void Pause();

  LoopDescriptor listening_;
  LoopTimer pause_;
  std::chrono::milliseconds pause_length_;  // of the next one
  const Options options_;
  ConnectionBudget* const budget_;
  ConnectionCounts* const counts_;
  const Assign assign_;
  int64_t last_warning_ns_ = 0;
  bool stopped_ = false;
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_STREAM_LISTENER_H_
