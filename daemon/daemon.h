// The process, put together: listeners, shards, merger, HTTP, signals.

#ifndef TALLYD_DAEMON_DAEMON_H_
#define TALLYD_DAEMON_DAEMON_H_

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "daemon/admin_server.h"
#include "daemon/budget_reporter.h"
#include "daemon/catalog_reporter.h"
#include "daemon/catalog_series.h"
#include "daemon/connection_counts.h"
#include "daemon/drop_marks.h"
#include "daemon/exit_code.h"
#include "daemon/handed_connections.h"
#include "daemon/handed_fds.h"
#include "daemon/handed_sockets.h"
#include "daemon/http_server.h"
#include "daemon/job_sessions.h"
#include "daemon/listener_set.h"
#include "daemon/loop.h"
#include "daemon/merge_thread.h"
#include "daemon/options.h"
#include "daemon/own_metrics.h"
#include "daemon/process_signals.h"
#include "daemon/push/push_thread.h"
#include "daemon/push_listener.h"
#include "daemon/pushed_groups.h"
#include "daemon/relay.h"
#include "daemon/running_explainer.h"
#include "daemon/sender_directory.h"
#include "daemon/service_manager.h"
#include "daemon/shard_set.h"
#include "daemon/state_keeper.h"
#include "daemon/status_line.h"
#include "daemon/top_reporter.h"
#include "daemon/watchdog.h"

namespace tallyd {

// Starts the parts in the order in which they need each other and stops them the other way round.
// What happens in between is theirs.
//
// Ownership: the main thread, which runs the control loop.
class Daemon {
 public:
  // Binds what was not handed in, starts all threads and says so in the log and to the manager. An
  // error names the address.
  static absl::StatusOr<std::unique_ptr<Daemon>> Start(const Options& options, HandedFds handed,
                                                       ServiceManager manager);
  ~Daemon();
  Daemon(const Daemon&) = delete;
  Daemon& operator=(const Daemon&) = delete;

  // Serves until a shutdown is asked for and done.
  ExitCode Run();

 private:
  Daemon(Options options, ServiceManager manager);

  absl::Status OpenListeners(HandedFds handed, int shards);
  absl::Status MakeShards(Rules::Options rules, int shards);
  std::vector<const Ledger*> Ledgers() const;
  absl::Status StartRelay();
  absl::Status StartHttp(size_t rule_count);
  void StartGroups();
  void SetGroupsCatalog(std::shared_ptr<const CatalogIndex> catalog);
  absl::Status StartPush();
  void StartJobs();
  absl::Status StartAdmin();
  void StartConnections();
  void StartPushes();
  AdminServer::Job ExplainJob(const std::string& line_untrusted, std::optional<Dialect> dialect,
                              bool as_json) const;
  void StartSignals();
  // Says that we are ready, and from then on how we are.
  void StartReports();
  void TellManager(std::string_view assignments) const;
  void LogReady() const;
  void LogStopped() const;

  absl::Status Ready() const;
  absl::Status Reload();
  absl::Status ReloadRules();
  // Once: stops what brings events in, and lets the shards take what is queued.
  void Shutdown();
  void StopShards();
  // All that was received is in the shards: shows it a last time and ends the control loop.
  void Finish();
  std::string ExtendedTimeout() const;
  // How many connections may go on with a successor.
  int ConnectionsKept() const;
  void LeaveConnections();

  const Options options_;
  const ServiceManager manager_;
  Loop control_{1};
  ConnectionCounts connection_counts_;
  std::unique_ptr<ConnectionBudget> connection_budget_;
  HandedSockets handed_;
  std::vector<HandedConnection> left_connections_;  // by our predecessor, until they are taken up
  std::unique_ptr<DropMarks> drop_marks_;           // used by the shards' threads
  std::unique_ptr<ListenerSet> listeners_;
  std::unique_ptr<SenderDirectory> senders_;  // asked by the shards' threads
  std::unique_ptr<StateKeeper> state_;
  std::unique_ptr<ShardSet> shards_;
  std::unique_ptr<Relay> relay_;                     // null: none
  std::unique_ptr<BudgetReporter> budget_reporter_;  // asked by the merger thread
  std::unique_ptr<MergeThread> merger_;
  std::unique_ptr<OwnMetrics> own_metrics_;
  std::unique_ptr<PushThread> pushes_;     // null: none
  std::unique_ptr<JobMemory> job_memory_;  // used by the groups' thread; null: jobs are forgotten
  std::unique_ptr<PushedGroups> groups_;
  std::unique_ptr<CatalogReporter> catalog_reporter_;
  std::unique_ptr<CatalogSeries> catalog_series_;
  std::shared_ptr<WebAccess> web_access_;
  std::unique_ptr<HttpServer> http_;
  std::unique_ptr<JobSessions> jobs_;            // null: none
  std::unique_ptr<PushListener> push_;           // null: nobody can push
  std::shared_ptr<RunningExplainer> explainer_;  // the admin server's thread
  std::unique_ptr<TopReporter> top_;
  std::unique_ptr<AdminServer> admin_;  // null: none
  std::unique_ptr<ProcessSignals> signals_;
  std::unique_ptr<Watchdog> watchdog_;
  std::unique_ptr<StatusLine> status_line_;
  bool shutting_down_ = false;
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_DAEMON_H_
