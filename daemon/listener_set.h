// All addresses and paths that events come in by.

#ifndef TALLYD_DAEMON_LISTENER_SET_H_
#define TALLYD_DAEMON_LISTENER_SET_H_

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/registry.h>
#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "daemon/connection_counts.h"
#include "daemon/drop_marks.h"
#include "daemon/handed_connections.h"
#include "daemon/handed_sockets.h"
#include "daemon/loop.h"
#include "daemon/options.h"
#include "daemon/sender_gate.h"
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

// Binds first, so that an address in use ends the start before anything is read from any of them,
// then gives the sockets to the shards and the control loop.
//
// Ownership: the main thread, which runs the control loop.
class ListenerSet {
 public:
  // Takes from `handed` what was handed in of what `options` name, for `shards` shards, and binds
  // the rest. `handed` and `drops` outlive the set and the shards. An error names the address.
  static absl::StatusOr<std::unique_ptr<ListenerSet>> Open(const Options& options, int shards,
                                                           HandedSockets* handed, DropMarks* drops);
  // Gives the paths back as Close does, where the start failed.
  ~ListenerSet();
  ListenerSet(const ListenerSet&) = delete;
  ListenerSet& operator=(const ListenerSet&) = delete;

  const std::vector<BoundListener>& bound() const { return bound_; }
  // What comes in by the sockets of jobs; nothing if there are too many listeners for one more.
  const std::optional<Source>& jobs() const { return jobs_; }

  // That the threads of shards read.
  size_t datagram_sockets() const;

  using Threads = std::vector<std::unique_ptr<ShardThread>>;

  // Gives the datagram sockets to the threads, which have not started yet.
  absl::Status GiveDatagramSockets(const Threads& threads);
  // Accepts on `control` and assigns connections to the threads in turn. All of them outlive this.
  // From now on, until Close, looks once a second whether the paths that we bound lead to us still,
  // and binds those anew that do not; and says in the log whom sockets refused.
  void StartAccepting(Loop* control, const Threads& threads, ConnectionBudget* budget,
                      ConnectionCounts* counts);
  // After StartAccepting: goes on with connections that a predecessor left.
  void TakeUp(std::vector<HandedConnection> connections, const Threads& threads,
              ConnectionBudget* budget);
  // What a successor needs to know of connections that we let go of.
  std::vector<HandedConnection> Describe(std::vector<ReleasedConnection> released) const;
  // Counts in `registry`, which outlives this, the paths that were bound anew and those that are
  // lost.
  void CountPaths(prometheus::Registry* registry);
  // Takes no more connections, and removes our socket files, unless the sockets outlive us.
  void Close();

 private:
  struct Listening {
    UniqueFd fd;
    StreamKind kind;
    Source source;
    bool tell_senders = false;
    SenderGate* gate = nullptr;
  };
  // A path that we bound ourselves.
  struct BoundPath {
    std::optional<UnixPath> path;  // never empty
    std::string kind;
    int type;
    size_t listener;    // index of bound_
    size_t thread = 0;  // of datagrams
    bool lost = false;  // leads elsewhere, and could not be bound anew
  };
  // Of one listener's users.
  struct Gate {
    Gate(std::string name, std::vector<uid_t> uids)
        : listener(std::move(name)), gate(std::move(uids)) {}
    const std::string listener;
    SenderGate gate;
    uint64_t told = 0;
    int64_t told_ns = 0;
  };
  // Where sockets go that are bound later.
  struct Host {
    Loop* control;
    const Threads* threads;
    ConnectionBudget* budget;
    ConnectionCounts* counts;
  };

  ListenerSet(const Options& options, HandedSockets* handed, DropMarks* drops)
      : mode_(options.unixsocket_mode),
        group_(options.unixsocket_group),
        senders_(options.sender_identity ? UnixPath::Senders::kTell : UnixPath::Senders::kIgnore),
        handed_(handed),
        drops_(drops),
        kept_(handed->keeps()) {}

  Source AddBound(const std::string& kind, const std::string& address, Dialect dialect);
  void AddStream(Listening stream);
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
                                                   int type);
  // Watches over a path of the listener that is added next.
  void AddPath(UnixPath path, const std::string& kind, int type);
  // Null: nobody is refused.
  SenderGate* GateOf(const ListenAddress& listen, const Source& source);
  // Whether the kernel tells who sends to this socket, as it must where there is a gate.
  absl::StatusOr<bool> Tells(int fd, const ListenAddress& listen, const Options& options) const;
  void WarnOfSmallBuffers() const;
  void Accept(UniqueFd fd, const Listening& stream);
  void GiveBackPaths();

  // In listener_watch.cc.
  void WatchLater();
  void Watch();
  static void LogRefusals(Gate* gate);
  absl::Status BindAnew(BoundPath* bound);
  // Has the socket served in place of the one that was bound to this path before.
  absl::Status Serve(const BoundPath& bound, UniqueFd fd);
  absl::Status ServeDatagrams(const BoundPath& bound, UniqueFd fd);
  void ServeConnections(const BoundPath& bound, UniqueFd fd);

  const mode_t mode_;
  const gid_t group_;
  const UnixPath::Senders senders_;
  HandedSockets* const handed_;
  DropMarks* const drops_;
  const bool kept_;  // our own sockets outlive us
  std::vector<BoundListener> bound_;
  std::optional<Source> jobs_;
  std::vector<std::vector<UdpSocket>> udp_;  // by listener
  std::vector<UnixgramSocket> unixgram_;
  std::vector<Listening> streams_;
  std::vector<std::unique_ptr<BoundPath>> paths_;
  std::vector<std::unique_ptr<Gate>> gates_;
  std::vector<std::unique_ptr<StreamListener>> accepting_;
  size_t next_thread_ = 0;
  std::optional<Host> host_;                // from StartAccepting on
  std::optional<LoopTimer> watch_;          // likewise, until Close
  prometheus::Counter* rebound_ = nullptr;  // null: nobody counts
  prometheus::Gauge* lost_ = nullptr;
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_LISTENER_SET_H_
