#include "daemon/daemon.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <exception>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "core/merge/merger.h"
#include "daemon/clock.h"
#include "daemon/descriptor_limit.h"
#include "daemon/log.h"
#include "daemon/memory_bound.h"
#include "daemon/missing_rights.h"
#include "daemon/own_metrics_text.h"
#include "daemon/rule_files.h"

namespace tallyd {
namespace {

std::vector<ListenerInfo> DescribeListeners(const ListenerSet& listeners) {
  std::vector<ListenerInfo> infos;
  for (const BoundListener& bound : listeners.bound()) {
    ListenerInfo info;
    info.name = bound.name();
    info.receive_buffer_asked_bytes = bound.receive_buffer_asked_bytes;
    info.receive_buffer_bytes = bound.receive_buffer_bytes;
    info.takes_connections = bound.takes_connections;
    infos.push_back(std::move(info));
  }
  return infos;
}

// With those that a process before us had and we have not, if there were any.
std::vector<ListenerInfo> ListenersAnd(const ListenerSet& listeners, const Ledger& inherited) {
  std::vector<ListenerInfo> infos = DescribeListeners(listeners);
  if (infos.size() < Ledger::kMaxListeners &&
      inherited.listeners[infos.size()].datagrams.Get() != 0) {
    infos.emplace_back().name = StateKeeper::kFormerListener;
  }
  return infos;
}

// What a signed gauge means to a line that may come in anywhere: dogstatsd only if all listeners
// read it so.
Dialect CommonDialect(const Options& options) {
  for (const auto* list : {&options.udp, &options.tcp, &options.unixgram, &options.unixstream,
                           &options.unixseqpacket}) {
    for (const ListenAddress& address : *list) {
      if (address.dialect == Dialect::kStatsd) return Dialect::kStatsd;
    }
  }
  return Dialect::kDogstatsd;
}

// A push may show a state that is so old, rather than cause a merge.
constexpr absl::Duration kPushedSnapshotAge = absl::Milliseconds(100);

// The families of ours that a push takes, with the labels that its group has renamed as those of
// the senders' series are.
std::string OwnText(const OwnMetrics& own, const PushSelection& selection) {
  std::string text;
  for (prometheus::MetricFamily& family : own.Collect()) {
    if (!selection.Takes(family.name)) continue;
    for (prometheus::ClientMetric& metric : family.metric) {
      const std::vector<prometheus::ClientMetric::Label> before = metric.label;
      std::vector<std::string_view> names;
      for (const auto& label : before) names.push_back(label.name);
      for (auto& label : metric.label) {
        if (selection.key.Has(label.name)) {
          label.name = ExportedName(label.name, names, selection.key);
        }
      }
    }
    AppendFamily(family, ScrapeFormat::kPrometheus004, &text);
  }
  return text;
}

size_t RuleCount(const Rules::Options& rules) {
  return rules.mapping == nullptr ? 0 : rules.mapping->config().rules.size();
}

void LogMappingWarnings(const Rules::Options& rules) {
  if (rules.mapping == nullptr) return;
  for (const std::string& warning : rules.mapping->config().warnings) {
    LogWarn("the mapping file is not as it should be", {{"warning", warning}});
  }
}

uint64_t KernelDropped(const LedgerTotals& totals) {
  uint64_t datagrams = 0;
  for (const LedgerTotals::Listener& listener : totals.listeners) {
    datagrams += listener.kernel_dropped;
  }
  return datagrams;
}

// What a predecessor of another version left and nobody here knows.
void GiveUpRest(const HandedFds& handed, const ServiceManager& manager) {
  for (const HandedFd& left : handed.left()) {
    LogWarn("nothing here knows what the former process left under this name",
            {{"name", left.name}});
    manager.Remove(left.name).IgnoreError();
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<Daemon>> Daemon::Start(const Options& options, HandedFds handed,
                                                      ServiceManager manager) {
  RaiseDescriptorLimit();
  // Before anything is bound: a broken file shall not even disturb a socket.
  auto rules = LoadRulesToStart(options);
  if (!rules.ok()) return rules.status();
  LogMappingWarnings(*rules);
  auto state = StateKeeper::Open({.directory = options.state_directory,
                                  .interval = options.state_interval,
                                  .strict = options.state_strict,
                                  .memory_directory = options.state_memory_directory},
                                 &handed);
  if (!state.ok()) return state.status();
  const int shards = options.ShardCount();
  std::unique_ptr<Daemon> daemon(new Daemon(options, std::move(manager)));
  daemon->state_ = *std::move(state);
  daemon->state_->UseManager(&daemon->manager_);
  const size_t rule_count = RuleCount(*rules);
  absl::Status status = daemon->OpenListeners(std::move(handed), shards);
  if (status.ok()) status = daemon->MakeShards(*std::move(rules), shards);
  if (status.ok()) status = daemon->StartHttp(rule_count);
  if (status.ok()) status = daemon->StartPush();
  if (status.ok()) status = daemon->StartAdmin();
  // When nothing else can fail: until then what is queued in sockets is the next start's, as are
  // the connections.
  if (status.ok()) status = daemon->shards_->Start();
  if (!status.ok()) return status;
  daemon->StartConnections();
  daemon->StartPushes();
  if (daemon->jobs_) daemon->jobs_->Restore();
  daemon->StartSignals();
  daemon->LogReady();
  daemon->StartReports();
  return daemon;
}

Daemon::Daemon(Options options, ServiceManager manager)
    : options_(std::move(options)), manager_(std::move(manager)) {}

// A start that failed may have begun to save.
Daemon::~Daemon() {
  if (state_) state_->Stop();
}

// Nothing is read before all that was handed in has found its place.
absl::Status Daemon::OpenListeners(HandedFds handed, int shards) {
  auto sockets = HandedSockets::Match(&handed, WantedSockets(options_), &manager_);
  if (!sockets.ok()) return sockets.status();
  handed_ = *std::move(sockets);
  left_connections_ = TakeConnections(&handed);
  auto drops = DropMarks::Open(handed.Take(DropMarks::kName), &manager_);
  if (!drops.ok()) return drops.status();
  drop_marks_ = *std::move(drops);
  GiveUpRest(handed, manager_);
  auto listeners = ListenerSet::Open(options_, shards, &handed_, drop_marks_.get());
  if (!listeners.ok()) return listeners.status();
  listeners_ = *std::move(listeners);
  return absl::OkStatus();
}

void Daemon::StartReports() {
  for (const std::string& missing : MissingRights(options_)) LogInfo(missing);
  TellManager("READY=1\nSTATUS=ready");
  watchdog_ = std::make_unique<Watchdog>(&control_, merger_.get(), &manager_);
  watchdog_->Start();
  const auto numbers = [this] {
    const LedgerTotals totals = own_metrics_->totals();
    StatusNumbers now;
    now.received = totals.received;
    now.dropped = totals.all_dropped;
    now.kernel_dropped = KernelDropped(totals);
    now.series = merger_->status().series;
    return now;
  };
  status_line_ = std::make_unique<StatusLine>(&control_, &manager_, numbers);
  status_line_->Start();
}

void Daemon::TellManager(std::string_view assignments) const {
  const absl::Status status = manager_.Notify(assignments);
  if (!status.ok()) LogWarn(std::string(status.message()));
}

absl::Status Daemon::MakeShards(Rules::Options rules, int shards) {
  auto set = ShardSet::Create(options_, std::move(rules), shards, state_->NewMemories(shards),
                              &connection_counts_);
  if (!set.ok()) return set.status();
  shards_ = *std::move(set);
  state_->KeepMemories(shards_->memories());
  senders_ = std::make_unique<SenderDirectory>(&control_, shards_->senders());
  for (SenderTable* table : shards_->senders()) {
    table->SetOnNew([this] { senders_->Ask(); });
  }
  senders_->Start();
  auto merger = std::make_unique<Merger>(
      shards_->memories(), shards_->rules(), shards_->families(), shards_->budget(),
      MergerOptions{.evict_idle_ns = absl::ToInt64Nanoseconds(options_.evict_after),
                    .expired_bytes = options_.expired_bytes});
  // Before any sample is taken in: what was saved comes first.
  state_->Restore(shards_->shards(), merger.get(), shards_->rules(), shards_->budget(),
                  DescribeListeners(*listeners_));
  absl::Status status = listeners_->GiveDatagramSockets(shards_->threads());
  if (status.ok()) status = StartRelay();
  if (!status.ok()) return status;
  merger_ = std::make_unique<MergeThread>(
      std::move(merger), options_.merge_interval,
      MergeThread::Exposition{.histograms = options_.native_histograms,
                              .created_lines = options_.created_timestamps});
  merger_->MergeNow();
  return absl::OkStatus();
}

void Daemon::StartConnections() {
  const absl::Status status = ForgetConnections(manager_);
  if (!status.ok() && !left_connections_.empty()) {
    LogWarn("connections that the former process left are closed",
            {{"connections", absl::StrCat(left_connections_.size())},
             {"error", std::string(status.message())}});
    left_connections_.clear();
  }
  connection_budget_ = std::make_unique<ConnectionBudget>(
      ConnectionLimit(static_cast<int>(left_connections_.size())));
  listeners_->TakeUp(std::move(left_connections_), shards_->threads(), connection_budget_.get());
  listeners_->StartAccepting(&control_, shards_->threads(), connection_budget_.get(),
                             &connection_counts_);
}

std::vector<const Ledger*> Daemon::Ledgers() const {
  std::vector<const Ledger*> ledgers = shards_->ledgers();
  ledgers.push_back(&state_->inherited());
  return ledgers;
}

absl::Status Daemon::StartRelay() {
  if (options_.relay_address.empty()) return absl::OkStatus();
  relay_ = std::make_unique<Relay>(options_.relay_address, options_.relay_packet_bytes,
                                   shards_->threads().size());
  for (size_t i = 0; i < shards_->threads().size(); ++i) {
    shards_->threads()[i]->AddTap(relay_->taps()[i]);
  }
  return relay_->Start(&control_);
}

absl::Status Daemon::StartHttp(size_t rule_count) {
  own_metrics_ = std::make_unique<OwnMetrics>(
      Ledgers(), ListenersAnd(*listeners_, state_->inherited()), merger_.get());
  own_metrics_->SetConnectionCounts(&connection_counts_);
  listeners_->CountPaths(&own_metrics_->registry());
  own_metrics_->SetSeriesLimit(options_.series_limit);
  own_metrics_->SetBudget(shards_->budget());
  own_metrics_->SetRelay(relay_.get());
  own_metrics_->SetMappingRules(rule_count);
  StartGroups();
  catalog_reporter_ = std::make_unique<CatalogReporter>(&control_, shards_->violations(),
                                                        senders_.get(), &own_metrics_->registry());
  catalog_reporter_->Start();
  catalog_series_ = std::make_unique<CatalogSeries>(merger_.get(), &own_metrics_->registry());
  catalog_series_->Use(shards_->rules()->At(shards_->rules()->newest()));
  // What is declared is there before anybody can ask. The first of these merges may come before the
  // merger has been told, the second does not.
  merger_->MergeNow();
  merger_->MergeNow();
  budget_reporter_ = std::make_unique<BudgetReporter>(&control_, merger_.get(), shards_->budget(),
                                                      senders_.get(), options_.evict_after);
  budget_reporter_->SetCatalog(shards_->rules()->At(shards_->rules()->newest()).options().catalog);
  budget_reporter_->Start();
  auto access = WebAccess::Open(&control_, options_.web_config_file, &own_metrics_->registry());
  if (!access.ok()) return access.status();
  web_access_ = *std::move(access);
  HttpServer::Options http;
  http.addresses = options_.web;
  http.handed = &handed_;
  http.telemetry_path = options_.telemetry_path;
  http.max_requests = options_.web_max_requests;
  http.enable_lifecycle = options_.enable_lifecycle;
  http.access = web_access_;
  HttpServer::Hooks hooks;
  hooks.ready = [this] { return Ready(); };
  hooks.reload = [this] { return Reload(); };
  hooks.append_groups = [this](ScrapeFormat format, ContentCoding coding,
                               std::vector<PageBuffer>* pages) {
    groups_->AppendPages(format, coding, pages);
  };
  hooks.quit = [this] {
    ProcessSignals::NextOneQuits();
    Shutdown();
  };
  state_->Start(merger_.get(), own_metrics_.get());
  http_ = std::make_unique<HttpServer>(control_, std::move(http), merger_.get(), own_metrics_.get(),
                                       std::move(hooks));
  return http_->Listen();
}

void Daemon::StartGroups() {
  GroupLimits limits;
  limits.groups = options_.push_max_groups;
  limits.group_series = options_.push_max_group_series;
  limits.series = options_.push_max_series;
  limits.bytes = StoredGroupBytes(options_);
  groups_ = std::make_unique<PushedGroups>(&control_, limits, shards_->families(),
                                           &own_metrics_->registry());
  SetGroupsCatalog(shards_->rules()->At(shards_->rules()->newest()).options().catalog);
  groups_->Start();
}

void Daemon::SetGroupsCatalog(std::shared_ptr<const CatalogIndex> catalog) {
  groups_->Post([catalog = std::move(catalog)](GroupStore* store) { store->SetCatalog(catalog); });
}

absl::Status Daemon::StartPush() {
  if (options_.push.empty()) return absl::OkStatus();
  PushListener::Options push;
  push.addresses = options_.push;
  push.handed = &handed_;
  push.group_ttl = options_.push_group_ttl;
  push.max_body_bytes = options_.push_max_body_bytes;
  push.max_group_series = options_.push_max_group_series;
  push.access = web_access_;
  push_ = std::make_unique<PushListener>(&control_, std::move(push), groups_.get(),
                                         &own_metrics_->registry());
  return push_->Listen();
}

void Daemon::StartJobs() {
  if (!listeners_->jobs().has_value()) return;
  const auto take = [this](JobBatch batch, std::function<void()> done) {
    // One shard for all: gauges that a job sets keep their order.
    shards_->threads().front()->Take(std::move(batch), *listeners_->jobs(), std::move(done));
  };
  if (auto file = state_->FileBeside(JobMemory::kFileName); file != nullptr) {
    job_memory_ = std::make_unique<JobMemory>(std::move(file), &own_metrics_->registry());
  }
  jobs_ = std::make_unique<JobSessions>(&control_, absl::StrCat(options_.admin_socket, ".job-"),
                                        options_.unixsocket_mode, groups_.get(), job_memory_.get(),
                                        &own_metrics_->registry(), take,
                                        [this](const JobChange& change) {
                                          if (pushes_) pushes_->OnJob(change);
                                        });
}

absl::Status Daemon::StartAdmin() {
  if (options_.admin_socket.empty()) return absl::OkStatus();
  StartJobs();
  explainer_ = std::make_shared<RunningExplainer>();
  AdminServer::Hooks hooks;
  hooks.explain = [this](const std::string& line_untrusted, std::optional<Dialect> dialect,
                         bool as_json) { return ExplainJob(line_untrusted, dialect, as_json); };
  top_ = std::make_unique<TopReporter>(own_metrics_.get(), merger_.get(), senders_.get(),
                                       shards_->threads().size());
  top_->SetBudgets([this](TopReport* report) { budget_reporter_->AddTo(report); });
  hooks.top = [this](const TopQuestion& question, TopReporter::Done done) {
    top_->Report(question, std::move(done));
  };
  if (jobs_) {
    hooks.open_job = [this](AdminSocket connection, const JobRequest& request) {
      jobs_->Open(std::move(connection), request);
    };
  }
  hooks.shards = static_cast<int>(shards_->threads().size());
  hooks.add_tap = [this](int shard, std::shared_ptr<LineTap> tap) {
    shards_->threads()[static_cast<size_t>(shard)]->AddTap(std::move(tap));
  };
  hooks.remove_tap = [this](int shard, std::shared_ptr<LineTap> tap) {
    shards_->threads()[static_cast<size_t>(shard)]->RemoveTap(std::move(tap));
  };
  auto admin = AdminServer::Listen(&control_, options_.admin_socket, &own_metrics_->registry(),
                                   std::move(hooks));
  if (!admin.ok()) return admin.status();
  admin_ = *std::move(admin);
  return absl::OkStatus();
}

void Daemon::StartPushes() {
  if (options_.pushgateways.empty() && options_.remote_writes.empty()) return;
  PushSources sources;
  sources.render = [this](std::shared_ptr<const PageEncoder> encoder,
                          PushSources::Rendered rendered) {
    merger_->RequestOnce(std::move(encoder), kPushedSnapshotAge, std::move(rendered));
  };
  sources.render_newest = [this](std::shared_ptr<const PageEncoder> encoder,
                                 PushSources::Rendered rendered) {
    merger_->RequestOnce(std::move(encoder), absl::ZeroDuration(), std::move(rendered));
  };
  sources.own_text = [this](const PushSelection& selection) {
    return OwnText(*own_metrics_, selection);
  };
  sources.own_families = [this](const PageEncoder& encoder, std::string* page) {
    for (const prometheus::MetricFamily& family : own_metrics_->Collect()) {
      AppendFamily(family, encoder, page);
    }
  };
  sources.groups = [this](const PageEncoder& encoder, std::string* page) {
    groups_->Append(encoder, page);
  };
  pushes_ = std::make_unique<PushThread>(options_.pushgateways, options_.remote_writes, sources);
  own_metrics_->SetPushStatuses([this] { return pushes_->statuses(); });
}

// By the rules that are in force now.
AdminServer::Job Daemon::ExplainJob(const std::string& line_untrusted,
                                    std::optional<Dialect> dialect, bool as_json) const {
  RuleBook* const book = shards_->rules();
  const Rules& rules = book->At(book->newest());
  RunningExplainer::Question question;
  question.line_untrusted = line_untrusted;
  question.as_json = as_json;
  question.options.rules = rules.options();
  question.options.dialect = dialect.value_or(CommonDialect(options_));
  question.options.max_line_bytes = options_.max_line_bytes;
  question.sequence = rules.sequence();
  question.families = shards_->families();
  question.budget.series = merger_->status().series;
  question.budget.limit = options_.series_limit;
  return [explainer = explainer_, question = std::move(question)] {
    return explainer->Answer(question);
  };
}

void Daemon::StartSignals() {
  ProcessSignals::Hooks hooks;
  hooks.shutdown = [this] { Shutdown(); };
  hooks.reload = [this] { Reload().IgnoreError(); };
  signals_ = std::make_unique<ProcessSignals>(&control_, std::move(hooks));
}

void Daemon::LogReady() const {
  std::map<std::string, std::vector<std::string>> addresses;
  for (const BoundListener& bound : listeners_->bound()) {
    addresses[bound.kind].push_back(bound.address);
  }
  LogFields fields;
  for (const char* kind : {"udp", "tcp", "unixgram", "unixstream", "unixseqpacket"}) {
    if (addresses.count(kind) == 0) continue;
    fields.emplace_back(kind, absl::StrJoin(addresses[kind], ","));
  }
  if (!http_->bound().empty()) fields.emplace_back("http", absl::StrJoin(http_->bound(), ","));
  if (push_) fields.emplace_back("push", absl::StrJoin(push_->bound(), ","));
  if (relay_) fields.emplace_back("relay", relay_->target());
  if (admin_) fields.emplace_back("admin", options_.admin_socket);
  fields.emplace_back("shards", absl::StrCat(shards_->threads().size()));
  LogInfo("ready", fields);
}

absl::Status Daemon::Ready() const {
  if (shutting_down_) return absl::UnavailableError("shutting down");
  if (merger_->status().merges == 0) return absl::UnavailableError("nothing was merged yet");
  return absl::OkStatus();
}

// What is in force stays so until the new file is read and understood.
absl::Status Daemon::Reload() {
  TellManager(absl::StrCat("RELOADING=1\nMONOTONIC_USEC=", MonotonicNs() / 1000));
  absl::Status status = ReloadRules();
  own_metrics_->SetReloadSuccessful(status.ok());
  if (!status.ok()) {
    LogError("not reloaded, the former rules stay", {{"error", std::string(status.message())}});
    TellManager(absl::StrCat("READY=1\nSTATUS=not reloaded: ",
                             absl::StrReplaceAll(status.message(), {{"\n", "; "}})));
  }
  return status;
}

absl::Status Daemon::ReloadRules() {
  auto rules = LoadRules(options_);
  if (!rules.ok()) return rules.status();
  LogMappingWarnings(*rules);
  const size_t count = RuleCount(*rules);
  std::shared_ptr<const CatalogIndex> catalog = rules->catalog;
  absl::Status status = shards_->UseRules(*std::move(rules), [this, count] {
    LogInfo("reloaded", {{"rules", absl::StrCat(count)}});
    TellManager("READY=1\nSTATUS=reloaded");
  });
  if (!status.ok()) return status;
  own_metrics_->SetMappingRules(count);
  catalog_reporter_->Forget();
  catalog_series_->Use(shards_->rules()->At(shards_->rules()->newest()));
  SetGroupsCatalog(catalog);
  budget_reporter_->SetCatalog(std::move(catalog));
  return status;
}

ExitCode Daemon::Run() {
  try {
    control_.run();
  } catch (const std::exception& error) {
    LogError("the control loop failed", {{"error", error.what()}});
    return ExitCode::kRuntimeFailure;
  }
  return ExitCode::kClean;
}

void Daemon::Shutdown() {
  if (std::exchange(shutting_down_, true)) return;
  TellManager(absl::StrCat("STOPPING=1\nSTATUS=taking what is queued\n", ExtendedTimeout()));
  status_line_->Stop();
  listeners_->Close();
  if (!jobs_) return StopShards();
  jobs_->Stop([this] { StopShards(); });
}

void Daemon::StopShards() {
  shards_->Stop(ConnectionsKept(), [this] { boost::asio::post(control_, [this] { Finish(); }); });
}

// What may yet take so long that a manager would lose patience.
std::string Daemon::ExtendedTimeout() const {
  constexpr absl::Duration kSlack = absl::Seconds(10);  // drains, a merge, files
  absl::Duration longest = kSlack;
  if (pushes_) longest += options_.push_exit_timeout;
  return absl::StrCat("EXTEND_TIMEOUT_USEC=", absl::ToInt64Microseconds(longest));
}

int Daemon::ConnectionsKept() const {
  constexpr int kReserve = 64;  // for listeners of connections, and what else is kept once
  const int memories = static_cast<int>(shards_->threads().size());
  return std::max(0, manager_.store_capacity() - kReserve - memories -
                         static_cast<int>(listeners_->datagram_sockets()));
}

void Daemon::Finish() {
  shards_->Join();
  LeaveConnections();
  merger_->MergeNow();
  state_->SaveLast();
  // Jobs that ended just now are told to the pushes before these end.
  if (push_) push_->Stop();
  groups_->Stop();
  if (job_memory_) job_memory_->Stop();
  if (pushes_) {
    TellManager(absl::StrCat("STATUS=pushing a last time\n", ExtendedTimeout()));
    pushes_->Finish(options_.push_exit_timeout);
  }
  web_access_->Stop();
  watchdog_->Stop();
  http_->Stop();
  if (admin_) admin_->Stop();
  if (relay_) relay_->Stop();
  catalog_reporter_->Stop();
  budget_reporter_->Stop();
  senders_->Stop();
  control_.stop();
  LogStopped();
}

void Daemon::LeaveConnections() {
  const std::vector<HandedConnection> left = listeners_->Describe(shards_->TakeReleased());
  const absl::Status status = StoreConnections(left, manager_);
  if (left.empty()) return;
  LogFields fields = {{"connections", absl::StrCat(left.size())}};
  if (status.ok()) return LogInfo("connections are left to a successor", fields);
  fields.emplace_back("error", std::string(status.message()));
  LogError("connections cannot all be left to a successor; those that are not are closed", fields);
}

void Daemon::LogStopped() const {
  const LedgerTotals totals = own_metrics_->totals();
  LogInfo("stopped", {{"received_samples", absl::StrCat(totals.received)},
                      {"applied_samples", absl::StrCat(totals.applied)},
                      {"dropped_samples", absl::StrCat(totals.all_dropped)},
                      {"kernel_dropped_datagrams", absl::StrCat(KernelDropped(totals))}});
}

}  // namespace tallyd
