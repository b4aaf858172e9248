#include "daemon/http_listener.h"

#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "daemon/address.h"
#include "daemon/log.h"
#include "daemon/stream_listener.h"

namespace tallyd {
namespace {

using boost::system::error_code;

constexpr absl::Duration kAcceptPause = absl::Milliseconds(100);

}  // namespace

// Shared: an accept that is under way refers to it weakly.
class HttpListener::Impl : public std::enable_shared_from_this<HttpListener::Impl> {
 public:
  Impl(Loop* loop, UniqueFd fd, const SocketAddress& bound)
      : loop_(loop), acceptor_(*loop), pause_(*loop), bound_(bound.ToString()) {
    using boost::asio::ip::tcp;
    acceptor_.assign(bound.family() == AF_INET6 ? tcp::v6() : tcp::v4(), fd.release());
  }

  const std::string& bound() const { return bound_; }

  void Start(std::function<void(TcpSocket)> take) {
    take_ = std::move(take);
    Accept();
  }

  void Stop() {
    stopped_ = true;
    error_code ignored;
    acceptor_.close(ignored);
    pause_.cancel();
  }

 private:
  void Accept() {
    acceptor_.async_accept(*loop_,
                           [weak = weak_from_this()](const error_code& error, TcpSocket socket) {
                             const std::shared_ptr<Impl> self = weak.lock();
                             if (self == nullptr || self->stopped_) return;
                             if (error) return self->OnError(error);
                             self->take_(std::move(socket));
                             self->Accept();
                           });
  }

  // Mostly: no descriptors left. They come back when connections end; until then, no busy loop.
  void OnError(const error_code& error) {
    LogDebug("cannot accept an HTTP connection", {{"error", error.message()}});
    pause_.expires_after(absl::ToChronoMilliseconds(kAcceptPause));
    pause_.async_wait([weak = weak_from_this()](const error_code& cancelled) {
      const std::shared_ptr<Impl> self = weak.lock();
      if (self != nullptr && !cancelled && !self->stopped_) self->Accept();
    });
  }

  Loop* const loop_;
  TcpAcceptor acceptor_;
  LoopTimer pause_;
  const std::string bound_;
  std::function<void(TcpSocket)> take_;
  bool stopped_ = false;
};

absl::StatusOr<std::unique_ptr<HttpListener>> HttpListener::Open(Loop* loop,
                                                                 const std::string& address,
                                                                 const std::string& kind,
                                                                 HandedSockets* handed) {
  const absl::StatusOr<SocketAddress> parsed = SocketAddress::Parse(address);
  if (!parsed.ok()) return parsed.status();
  std::vector<UniqueFd> fds;
  if (handed != nullptr) fds = handed->Take(kind, address);
  const bool ours = fds.empty();
  if (ours) {
    absl::StatusOr<UniqueFd> fd = OpenTcpListener(*parsed, kind);
    if (!fd.ok()) return fd.status();
    fds.push_back(*std::move(fd));
  }
  const absl::StatusOr<SocketAddress> bound = SocketAddress::OfSocket(fds.front().get());
  if (!bound.ok()) return bound.status();
  if (ours && handed != nullptr) handed->Keep(kind, bound->ToString(), fds.front());
  return std::unique_ptr<HttpListener>(
      new HttpListener(std::make_shared<Impl>(loop, std::move(fds.front()), *bound)));
}

HttpListener::HttpListener(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
HttpListener::~HttpListener() { Stop(); }

const std::string& HttpListener::bound() const { return impl_->bound(); }
void HttpListener::Start(std::function<void(TcpSocket)> take) { impl_->Start(std::move(take)); }
void HttpListener::Stop() { impl_->Stop(); }

}  // namespace tallyd
