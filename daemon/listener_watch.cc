// Of the listeners, what is done while they serve: paths that went away are bound anew, and who was
// refused is named.

#include <sys/socket.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <chrono>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "daemon/clock.h"
#include "daemon/listener_set.h"
#include "daemon/log.h"

namespace tallyd {
namespace {

constexpr auto kWatchInterval = std::chrono::seconds(1);
constexpr int64_t kRefusalLineNs = 10'000'000'000;

}  // namespace

void ListenerSet::CountPaths(prometheus::Registry* registry) {
  rebound_ = &prometheus::BuildCounter()
                  .Name("tallyd_rebound_sockets_total")
                  .Help("UNIX sockets whose path was removed or replaced, and was bound anew.")
                  .Register(*registry)
                  .Add({});
  lost_ = &prometheus::BuildGauge()
               .Name("tallyd_lost_sockets")
               .Help("UNIX sockets whose path leads elsewhere and cannot be bound anew.")
               .Register(*registry)
               .Add({});
}

void ListenerSet::WatchLater() {
  watch_->expires_after(kWatchInterval);
  watch_->async_wait([this](const boost::system::error_code& error) {
    if (!error && watch_.has_value()) Watch();
  });
}

void ListenerSet::Watch() {
  for (const auto& bound : paths_) {
    if (bound->path->LeadsToUs()) {
      bound->lost = false;
      continue;
    }
    const std::string& name = bound_[bound->listener].name();
    const absl::Status status = BindAnew(bound.get());
    if (status.ok()) {
      LogWarn("the path of a socket was removed or replaced; it is bound anew",
              {{"listener", name}});
      if (rebound_ != nullptr) rebound_->Increment();
    } else if (!bound->lost) {
      LogError("the path of a socket does not lead here any more and cannot be bound anew",
               {{"listener", name}, {"error", std::string(status.message())}});
    }
    bound->lost = !status.ok();
  }
  if (lost_ != nullptr) {
    lost_->Set(static_cast<double>(std::count_if(paths_.begin(), paths_.end(),
                                                 [](const auto& bound) { return bound->lost; })));
  }
  for (const auto& gate : gates_) LogRefusals(gate.get());
  WatchLater();
}

void ListenerSet::LogRefusals(Gate* gate) {
  const SenderGate::Refusals refusals = gate->gate.refusals();
  const int64_t now_ns = MonotonicNs();
  if (refusals.count == gate->told) return;
  if (gate->told_ns != 0 && now_ns - gate->told_ns < kRefusalLineNs) return;
  gate->told_ns = now_ns;
  LogWarn("who sends here is none of allow_uids and is refused",
          {{"listener", gate->listener},
           {"uid", absl::StrCat(refusals.last_uid)},
           {"pid", absl::StrCat(refusals.last_pid)},
           {"refused", absl::StrCat(refusals.count - std::exchange(gate->told, refusals.count))}});
}

absl::Status ListenerSet::BindAnew(BoundPath* bound) {
  // The control loop waits for nobody: what cannot be had now is tried again.
  const std::string path = bound->path->path();
  absl::StatusOr<UnixPath> anew =
      UnixPath::Bind(path, bound->type, mode_, group_, absl::ZeroDuration(), senders_);
  if (!anew.ok()) return anew.status();
  UniqueFd fd = anew->TakeFd();
  handed_->Forget(bound->kind, path);
  handed_->Keep(bound->kind, path, fd);
  absl::Status status = Serve(*bound, std::move(fd));
  if (!status.ok()) return status;  // and the path is given back
  bound->path->Leave();
  bound->path.emplace(*std::move(anew));
  return absl::OkStatus();
}

absl::Status ListenerSet::Serve(const BoundPath& bound, UniqueFd fd) {
  if (bound.type == SOCK_DGRAM) return ServeDatagrams(bound, std::move(fd));
  ServeConnections(bound, std::move(fd));
  return absl::OkStatus();
}

absl::Status ListenerSet::ServeDatagrams(const BoundPath& bound, UniqueFd fd) {
  const auto former = std::find_if(
      unixgram_.begin(), unixgram_.end(),
      [&](const UnixgramSocket& one) { return one.source.listener == bound.listener; });
  const bool told = former->tells_senders && TellSenders(fd.get());
  if (former->gate != nullptr && !told) {
    return absl::InternalError("the kernel does not say who sends");
  }
  (*host_->threads)[bound.thread]->ReplaceUnixgram(
      {std::move(fd), former->source, told, kept_, former->gate});
  return absl::OkStatus();
}

// Nobody can connect to the former socket any more, but some may wait in its backlog.
void ListenerSet::ServeConnections(const BoundPath& bound, UniqueFd fd) {
  const auto stream = std::find_if(streams_.begin(), streams_.end(), [&](const Listening& one) {
    return one.source.listener == bound.listener;
  });
  const auto is_former = [&](const auto& one) { return one->listener() == bound.listener; };
  // Of those that are there one is the last but none: older ones had their time.
  while (std::count_if(accepting_.begin(), accepting_.end(), is_former) > 1) {
    const auto oldest = std::find_if(accepting_.begin(), accepting_.end(), is_former);
    (*oldest)->Stop();
    // A handler of its may be queued, and is run before this one.
    boost::asio::post(*host_->control, [ended = std::move(*oldest)] {});
    accepting_.erase(oldest);
  }
  Accept(std::move(fd), *stream);
}

}  // namespace tallyd
