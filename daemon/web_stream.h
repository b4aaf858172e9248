// A connection of an HTTP client, with or without TLS.

#ifndef TALLYD_DAEMON_WEB_STREAM_H_
#define TALLYD_DAEMON_WEB_STREAM_H_

#include <boost/asio/basic_stream_socket.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <memory>
#include <optional>
#include <utility>

#include "daemon/loop.h"

namespace tallyd {

using TcpSocket = boost::asio::basic_stream_socket<boost::asio::ip::tcp, Loop::executor_type>;

// A stream as Asio and Beast want one. One type for both, so that what is done with a connection is
// compiled once. Thread-compatible.
class WebStream {
 public:
  using executor_type = TcpSocket::executor_type;
  using Tls = boost::asio::ssl::stream<TcpSocket&>;

  explicit WebStream(TcpSocket socket) : socket_(std::move(socket)) {}
  WebStream(const WebStream&) = delete;
  WebStream& operator=(const WebStream&) = delete;

  executor_type get_executor() { return socket_.get_executor(); }
  TcpSocket& socket() { return socket_; }

  // Before anything is read or written.
  void UseTls(std::shared_ptr<boost::asio::ssl::context> context) {
    context_ = std::move(context);
    tls_.emplace(socket_, *context_);
  }
  // Null without TLS.
  Tls* tls() { return tls_.has_value() ? &*tls_ : nullptr; }

  template <typename Buffers, typename Handler>
  void async_read_some(const Buffers& buffers, Handler&& handler) {
    if (tls_.has_value()) {
      tls_->async_read_some(buffers, std::forward<Handler>(handler));
    } else {
      socket_.async_read_some(buffers, std::forward<Handler>(handler));
    }
  }
  template <typename Buffers, typename Handler>
  void async_write_some(const Buffers& buffers, Handler&& handler) {
    if (tls_.has_value()) {
      tls_->async_write_some(buffers, std::forward<Handler>(handler));
    } else {
      socket_.async_write_some(buffers, std::forward<Handler>(handler));
    }
  }

 private:
  TcpSocket socket_;
  std::shared_ptr<boost::asio::ssl::context> context_;  // outlives tls_
  std::optional<Tls> tls_;
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_WEB_STREAM_H_
