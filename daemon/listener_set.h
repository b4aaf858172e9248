// All addresses and paths that events come in by.

#ifndef TALLYD_DAEMON_LISTENER_SET_H_
#define TALLYD_DAEMON_LISTENER_SET_H_

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "daemon/connection_counts.h"
#include "daemon/drop_marks.h"
#include "daemon/handed_connections.h"
#include "daemon/handed_sockets.h"
#include "daemon/loop.h"
#include "daemon/options.h"
#include "daemon/shard_thread.h"
#include "daemon/stream_listener.h"
#include "daemon/udp_listener.h"
#include "daemon/unix_path.h"

namespace tallyd {

// What a listener is bound to. Its place in ListenerSet::bound() is its index in the ledger.
struct BoundListener {
  std::string kind;                    // udp, tcp, unixgram, unixstream, unixseqpacket
  std::string address;                 // with the port that was taken, or the path
  int receive_buffer_asked_bytes = 0;  // of each UDP socket; 0 for others
  int receive_buffer_bytes = 0;        // effective
  bool takes_connections = false;

  std::string name() const { return kind + ":" + address; }
};

// Binds first, so that an address in use ends the start before anything else is done, then gives
// the sockets to the shards and the control loop.
//
// Ownership: the main thread, which runs the control loop.
class ListenerSet {
 public:
  // Takes from `handed` what was handed in of what `options` name, for `shards` shards, and binds
  // the rest. `drops` outlives the shards. An error names the address.
  static absl::StatusOr<std::unique_ptr<ListenerSet>> Open(const Options& options, int shards,
                                                           HandedSockets* handed, DropMarks* drops);
  ListenerSet(const ListenerSet&) = delete;
  ListenerSet& operator=(const ListenerSet&) = delete;

  const std::vector<BoundListener>& bound() const { return bound_; }
  // What comes in by the sockets of jobs; nothing if there are too many listeners for one more.
  const std::optional<Source>& jobs() const { return jobs_; }

  using Threads = std::vector<std::unique_ptr<ShardThread>>;

  // Gives the datagram sockets to the threads, which have not started yet.
  absl::Status GiveDatagramSockets(const Threads& threads);
  // Accepts on `control` and assigns connections to the threads in turn. All of them outlive this.
  void StartAccepting(Loop* control, const Threads& threads, ConnectionBudget* budget,
                      ConnectionCounts* counts);
  // After StartAccepting: goes on with connections that a predecessor left.
  void TakeUp(std::vector<HandedConnection> connections, const Threads& threads,
              ConnectionBudget* budget);
  // What a successor needs to know of connections that we let go of.
  std::vector<HandedConnection> Describe(std::vector<ReleasedConnection> released) const;
  // Takes no more connections, and removes our socket files, unless the sockets outlive us.
  void Close();

 private:
  struct Listening {
    UniqueFd fd;
    StreamKind kind;
    Source source;
    bool tell_senders = false;
  };

  ListenerSet(HandedSockets* handed, DropMarks* drops)
      : handed_(handed), drops_(drops), kept_(handed->keeps()) {}

  Source AddBound(const std::string& kind, const std::string& address, Dialect dialect);
  void AddStream(UniqueFd fd, StreamKind kind, Source source, bool tell_peers);
  absl::Status OpenUdp(const Options& options, int shards);
  absl::Status OpenTcp(const Options& options);
  absl::Status OpenUnixgram(const Options& options);
  absl::Status OpenUnixStreams(const Options& options);
  absl::Status OpenUnixStream(const ListenAddress& listen, StreamKind kind, const Options& options);
  // A socket of a path.
  struct PathSocket {
    UniqueFd fd;
    bool outlives_us;
  };
  // What was handed in for a path, or one bound by us; both if nobody finds the former any more.
  absl::StatusOr<std::vector<PathSocket>> OpenPath(const std::string& kind, const std::string& path,
                                                   int type, const Options& options);
  void WarnOfSmallBuffers() const;

  HandedSockets* handed_;  // while opening
  DropMarks* const drops_;
  const bool kept_;  // our own sockets outlive us
  std::vector<BoundListener> bound_;
  std::optional<Source> jobs_;
  std::vector<std::vector<UdpSocket>> udp_;  // by listener
  std::vector<UnixgramSocket> unixgram_;
  std::vector<Listening> streams_;
  std::vector<UnixPath> paths_;
  std::vector<std::unique_ptr<StreamListener>> accepting_;
  size_t next_thread_ = 0;
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_LISTENER_SET_H_
