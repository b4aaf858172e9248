#include "daemon/job_sessions.h"

#include <linux/sock_diag.h>
#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <sys/socket.h>

#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/write.hpp>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "core/wire/utf8.h"
#include "daemon/address.h"
#include "daemon/clock.h"
#include "daemon/job_record.h"
#include "daemon/log.h"
#include "daemon/udp_listener.h"
#include "daemon/unix_path.h"
#include "daemon/unixgram_listener.h"

namespace tallyd {
namespace {

using boost::system::error_code;

constexpr size_t kMaxTagBytes = 1024;  // of all labels of a session
constexpr int kMaxDatagrams = 32;      // of a batch
constexpr int kReceiveBufferBytes = 4 << 20;
constexpr absl::Duration kMaxTtl = absl::Hours(24 * 366);
constexpr int64_t kDrainNs = 3'000'000'000;  // a job may send faster than it is counted

double UnixTime(absl::Time time) { return absl::ToDoubleSeconds(time - absl::UnixEpoch()); }

size_t TextSize(const Grouping& labels) {
  size_t size = 0;
  for (const auto& [name, value] : labels) size += name.size() + value.size() + 2;
  return size;
}

bool IsTagText(const std::string& text) {
  return !text.empty() && text.find_first_of(",|\n\r") == std::string::npos && IsUtf8(text);
}

// How many datagrams the kernel has dropped, of this socket, for want of room.
uint32_t KernelDrops(int fd) {
  std::array<uint32_t, SK_MEMINFO_VARS> info{};
  socklen_t size = sizeof(info);
  if (::getsockopt(fd, SOL_SOCKET, SO_MEMINFO, info.data(), &size) != 0) return 0;
  return info[SK_MEMINFO_DROPS];
}

}  // namespace

absl::StatusOr<JobRequest> ParseJobRequest(
    const std::unordered_map<std::string, std::string>& parameters_untrusted) {
  constexpr char kLabel[] = "label.";
  JobRequest request;
  for (const auto& [key, value] : parameters_untrusted) {
    if (key == "ttl_ms") {
      int64_t milliseconds = 0;
      if (!absl::SimpleAtoi(value, &milliseconds) || milliseconds < 0 ||
          absl::Milliseconds(milliseconds) > kMaxTtl) {
        return absl::InvalidArgumentError("the ttl is not in 0 to 366 days");
      }
      request.ttl = absl::Milliseconds(milliseconds);
      continue;
    }
    absl::string_view name = key;
    if (name != "job" && name != "instance" && !absl::ConsumePrefix(&name, kLabel)) {
      return absl::InvalidArgumentError(absl::StrCat("unknown parameter ", key));
    }
    const bool reserved = absl::StartsWith(name, "__") || name == "le" || name == "quantile";
    if (!IsLabelName({name.data(), name.size()}) || reserved) {
      return absl::InvalidArgumentError(absl::StrCat("\"", name, "\" is no label name"));
    }
    if (!IsTagText(value)) {
      return absl::InvalidArgumentError(
          absl::StrCat("the value of ", name,
                       " is empty, or has a comma, a bar or a line feed, or is no UTF-8"));
    }
    request.labels[std::string(name)] = value;
  }
  if (request.labels.count("job") == 0) return absl::InvalidArgumentError("which job?");
  if (TextSize(request.labels) > kMaxTagBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("the labels have more than ", kMaxTagBytes, " bytes"));
  }
  return request;
}

class JobSessions::Impl : public std::enable_shared_from_this<JobSessions::Impl> {
 public:
  class Session;

  Impl(Loop* loop, std::string prefix, mode_t mode, PushedGroups* groups, JobMemory* memory,
       prometheus::Registry* registry, Take take, Tell tell)
      : loop_(*loop),
        prefix_(std::move(prefix)),
        mode_(mode),
        groups_(groups),
        memory_(memory),
        take_(std::move(take)),
        tell_(std::move(tell)),
        open_(prometheus::BuildGauge()
                  .Name("tallyd_job_sessions")
                  .Help("Jobs that are running under tallyctl run.")
                  .Register(*registry)
                  .Add({})) {
    auto& ended = prometheus::BuildCounter()
                      .Name("tallyd_job_sessions_total")
                      .Help(
                          "Job sessions, by how they ended; lost: tallyctl was gone before its "
                          "job was known to have ended.")
                      .Register(*registry);
    succeeded_ = &ended.Add({{"result", "success"}});
    failed_ = &ended.Add({{"result", "failure"}});
    lost_ = &ended.Add({{"result", "lost"}});
    refused_ = &ended.Add({{"result", "refused"}});
  }

  void Open(AdminSocket connection, const JobRequest& request);
  void Restore();
  // What an earlier run of the job left and this one does not say stays.
  void Show(const JobRecord& job, absl::Time now, bool restored);
  void Stop(std::function<void()> done);
  // What is still under way then ends with the loops.
  void Forget() { sessions_.clear(); }

 private:
  void TellIfDone() {
    if (sessions_.empty() && done_) std::exchange(done_, nullptr)();
  }

  Loop& loop_;
  const std::string prefix_;
  const mode_t mode_;
  PushedGroups* const groups_;
  JobMemory* const memory_;
  const Take take_;
  const Tell tell_;
  prometheus::Gauge& open_;
  prometheus::Counter* succeeded_;
  prometheus::Counter* failed_;
  prometheus::Counter* lost_;
  prometheus::Counter* refused_;
  std::unordered_map<Session*, std::shared_ptr<Session>> sessions_;
  uint64_t next_ = 1;
  std::optional<int64_t> deadline_ns_;  // once Stop was called: then no session reads any more
  std::function<void()> done_;          // of Stop, until it is called
};

// Keeps itself alive as long as an operation is under way.
class JobSessions::Impl::Session : public std::enable_shared_from_this<Session> {
 public:
  Session(std::shared_ptr<Impl> all, AdminSocket connection, JobRequest request)
      : all_(std::move(all)),
        connection_(std::move(connection)),
        unix_(all_->loop_),
        udp_(all_->loop_),
        request_(std::move(request)),
        labels_(std::make_shared<const JobLabels>(request_.labels, request_.ttl)),
        began_ns_(MonotonicNs()),
        buffer_(kUnixMessageBytes, 0) {}

  // Binds the sockets; the text that tells tallyctl where they are.
  absl::StatusOr<std::string> Bind(const std::string& path) {
    absl::StatusOr<UnixPath> bound =
        UnixPath::Bind(path, SOCK_DGRAM, all_->mode_, UnixPath::kOwnGroup, absl::ZeroDuration());
    if (!bound.ok()) return bound.status();
    path_ = std::make_unique<UnixPath>(*std::move(bound));
    const absl::StatusOr<SocketAddress> any = SocketAddress::Parse("127.0.0.1:0");
    absl::StatusOr<UniqueFd> udp = OpenSocket(*any, SOCK_DGRAM);
    if (!udp.ok()) return udp.status();
    ::setsockopt(udp->get(), SOL_SOCKET, SO_RCVBUF, &kReceiveBufferBytes, sizeof(int));
    const absl::Status status = BindSocket(udp->get(), *any, "udp");
    if (!status.ok()) return status;
    const absl::StatusOr<SocketAddress> address = SocketAddress::OfSocket(udp->get());
    if (!address.ok()) return address.status();
    unix_.assign(path_->TakeFd().release());
    udp_.assign(udp->release());
    return absl::StrCat("socket ", path, "\nudp ", address->ToString(), "\nready\n");
  }

  void Start(std::string answer) {
    ShowStart();
    text_ = std::move(answer);
    boost::asio::async_write(connection_, boost::asio::buffer(text_),
                             [self = shared_from_this()](const error_code& error, size_t) {
                               error ? self->End(kUnknownExitCode) : self->ReadEnd();
                             });
    AwaitDatagrams(&unix_);
    AwaitDatagrams(&udp_);
  }

  void Refuse(const std::string& why) {
    closed_ = true;
    SayLast(
        absl::StrCat("HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\n"
                     "Connection: close\r\n\r\n",
                     why, "\n"));
  }

  // The connection has said "exit N", or is gone.
  void End(int exit_code) {
    if (std::exchange(ending_, true)) return;
    exit_code_ = exit_code;
    duration_s_ = static_cast<double>(MonotonicNs() - began_ns_) * 1e-9;
    if (!busy_) Receive();
  }

 private:
  void ReadEnd() {
    connection_.async_read_some(
        boost::asio::buffer(said_.data() + said_size_, said_.size() - said_size_),
        [self = shared_from_this()](const error_code& error, size_t size) {
          self->OnSaid(error, size);
        });
  }

  void OnSaid(const error_code& error, size_t size) {
    if (ending_) return;
    said_size_ += size;
    absl::string_view said(said_.data(), said_size_);
    const bool whole = absl::ConsumeSuffix(&said, "\n");
    if (!whole && !error && said_size_ < said_.size()) return ReadEnd();
    int exit_code = kUnknownExitCode;
    const bool understood = whole && absl::ConsumePrefix(&said, "exit ") &&
                            absl::SimpleAtoi(said, &exit_code) && exit_code >= 0 &&
                            exit_code <= 255;
    End(understood ? exit_code : kUnknownExitCode);
  }

  void AwaitDatagrams(LoopDescriptor* socket) {
    socket->async_wait(
        LoopDescriptor::wait_read, [self = shared_from_this(), socket](const error_code& error) {
          if (error || self->closed_) return;
          // While a batch is on its way, its end looks at both sockets.
          socket == & self->unix_ ? self->unix_ready_ = true : self->udp_ready_ = true;
          if (!self->busy_) self->Receive();
        });
  }

  // One batch of what is queued. With nothing there it waits, or is done if the job has ended.
  void Receive() {
    if (MonotonicNs() > all_->deadline_ns_.value_or(INT64_MAX)) return Finish();
    JobBatch batch;
    batch.labels = labels_;
    ReceiveFrom(unix_.native_handle(), &batch.datagrams);
    ReceiveFrom(udp_.native_handle(), &batch.datagrams);
    const uint32_t drops = KernelDrops(udp_.native_handle());
    batch.kernel_dropped = drops - std::exchange(drops_seen_, drops);
    if (batch.datagrams.empty() && batch.kernel_dropped == 0) {
      if (ending_) return Finish();
      if (std::exchange(unix_ready_, false)) AwaitDatagrams(&unix_);
      if (std::exchange(udp_ready_, false)) AwaitDatagrams(&udp_);
      return;
    }
    busy_ = true;
    all_->take_(std::move(batch), [self = shared_from_this()] {
      boost::asio::post(self->all_->loop_, [self] {
        self->busy_ = false;
        self->Receive();
      });
    });
  }

  void ReceiveFrom(int fd, std::vector<JobDatagram>* datagrams) {
    for (int i = 0; i < kMaxDatagrams; ++i) {
      const ssize_t size = ::recv(fd, buffer_.data(), buffer_.size(), MSG_DONTWAIT | MSG_TRUNC);
      if (size < 0) return;
      const bool cut = static_cast<size_t>(size) > buffer_.size();
      const size_t kept = cut ? buffer_.size() : static_cast<size_t>(size);
      datagrams->push_back({.bytes = buffer_.substr(0, kept), .cut = cut});
    }
  }

  void ShowStart() {
    const absl::Time now = absl::Now();
    Show(now, {{kJobRunning, 1}, {kJobStarted, UnixTime(now)}});
  }

  void ShowEnd() {
    const absl::Time now = absl::Now();
    const bool success = exit_code_ == 0;
    JobValues values = {{kJobRunning, 0},
                        {kJobDuration, duration_s_},
                        {kJobExitCode, exit_code_},
                        {kJobSuccess, success ? 1 : 0}};
    if (success) values[kJobLastSuccess] = UnixTime(now);
    Show(now, std::move(values));
  }

  void Show(absl::Time now, JobValues values) {
    JobRecord job;
    job.labels = request_.labels;
    job.ttl = request_.ttl;
    job.values = std::move(values);
    if (closed_ && job.ttl > absl::ZeroDuration()) job.until = now + job.ttl;
    all_->Show(job, now, false);
  }

  // Everything that was sent is counted.
  void Finish() {
    if (std::exchange(closed_, true)) return;
    prometheus::Counter* const result = exit_code_ == 0                  ? all_->succeeded_
                                        : exit_code_ == kUnknownExitCode ? all_->lost_
                                                                         : all_->failed_;
    result->Increment();
    ShowEnd();
    error_code ignored;
    unix_.close(ignored);
    udp_.close(ignored);
    path_.reset();
    all_->sessions_.erase(this);
    all_->open_.Set(static_cast<double>(all_->sessions_.size()));
    // After what was posted before it.
    all_->groups_->Post([self = shared_from_this()](GroupStore*) {
      boost::asio::post(self->all_->loop_, [self] { self->SayLast("done\n"); });
    });
    all_->TellIfDone();
  }

  void SayLast(std::string text) {
    text_ = std::move(text);
    boost::asio::async_write(connection_, boost::asio::buffer(text_),
                             [self = shared_from_this()](const error_code&, size_t) {
                               error_code ignored;
                               self->connection_.close(ignored);
                             });
  }

  const std::shared_ptr<Impl> all_;
  AdminSocket connection_;
  LoopDescriptor unix_;
  LoopDescriptor udp_;
  std::unique_ptr<UnixPath> path_;
  const JobRequest request_;
  const std::shared_ptr<const JobLabels> labels_;
  const int64_t began_ns_;
  std::string buffer_;
  std::string text_;  // being written
  std::array<char, 64> said_{};
  size_t said_size_ = 0;
  uint32_t drops_seen_ = 0;  // of the UDP socket
  bool unix_ready_ = false;
  bool udp_ready_ = false;
  bool busy_ = false;  // a batch is on its way
  bool ending_ = false;
  bool closed_ = false;
  int exit_code_ = kUnknownExitCode;
  double duration_s_ = 0;
};

void JobSessions::Impl::Open(AdminSocket connection, const JobRequest& request) {
  auto session = std::make_shared<Session>(shared_from_this(), std::move(connection), request);
  absl::StatusOr<std::string> where =
      absl::ResourceExhaustedError(absl::StrCat("there are ", kMaxSessions, " jobs already"));
  if (deadline_ns_.has_value()) {
    where = absl::UnavailableError("tallyd is ending");
  } else if (sessions_.size() < kMaxSessions) {
    where = session->Bind(absl::StrCat(prefix_, next_++));
  }
  if (!where.ok()) {
    refused_->Increment();
    return session->Refuse(std::string(where.status().message()));
  }
  sessions_.emplace(session.get(), session);
  open_.Set(static_cast<double>(sessions_.size()));
  session->Start(absl::StrCat(
      "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n", *where));
}

void JobSessions::Impl::Restore() {
  if (memory_ == nullptr) return;
  const absl::Time now = absl::Now();
  for (const JobRecord& job : memory_->Remembered(now)) Show(job, now, true);
}

void JobSessions::Impl::Show(const JobRecord& job, absl::Time now, bool restored) {
  const bool stays = job.until == absl::InfiniteFuture();
  JobChange change;
  change.labels = job.labels;
  change.running = job.running();
  change.ttl = stays ? absl::ZeroDuration() : job.until - now;
  change.restored = restored;
  groups_->Post([job, change, now, self = shared_from_this()](GroupStore* store) mutable {
    Push push;
    push.owner = GroupOwner::kJob;
    push.grouping = job.labels;
    push.families = JobFamilies(job.values);
    push.mode = PushMode::kReplaceFamilies;
    push.now_ns = MonotonicNs();
    push.ttl_ns = absl::ToInt64Nanoseconds(change.ttl);
    push.unix_seconds = UnixTime(now);
    const absl::Status status = store->Apply(std::move(push));
    if (!status.ok()) {
      LogWarn("a job cannot be shown", {{"error", std::string(status.message())}});
      return;
    }
    if (self->memory_ != nullptr) self->memory_->Note(job, now);
    for (auto& [name, text] : store->TextOf(GroupOwner::kJob, change.labels)) {
      change.shown.push_back({.name = name, .text = text, .series = 1});
    }
    self->tell_(change);
  });
}

void JobSessions::Impl::Stop(std::function<void()> done) {
  deadline_ns_ = MonotonicNs() + kDrainNs;
  done_ = std::move(done);
  const auto sessions = sessions_;
  for (const auto& [raw, session] : sessions) session->End(kUnknownExitCode);
  TellIfDone();
}

JobSessions::JobSessions(Loop* loop, std::string prefix, mode_t mode, PushedGroups* groups,
                         JobMemory* memory, prometheus::Registry* registry, Take take, Tell tell)
    : impl_(std::make_shared<Impl>(loop, std::move(prefix), mode, groups, memory, registry,
                                   std::move(take), std::move(tell))) {}

JobSessions::~JobSessions() { impl_->Forget(); }

void JobSessions::Open(AdminSocket connection, const JobRequest& request) {
  impl_->Open(std::move(connection), request);
}

void JobSessions::Restore() { impl_->Restore(); }

void JobSessions::Stop(std::function<void()> done) { impl_->Stop(std::move(done)); }

}  // namespace tallyd
