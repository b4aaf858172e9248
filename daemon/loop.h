// The event loop's types, with its executor written out: the default, any_io_executor, would hide
// it behind a virtual call and wrap each handler once more.

#ifndef TALLYD_DAEMON_LOOP_H_
#define TALLYD_DAEMON_LOOP_H_

#include <boost/asio/basic_waitable_timer.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/basic_stream_descriptor.hpp>
#include <chrono>

namespace tallyd {

using Loop = boost::asio::io_context;
using LoopTimer =
    boost::asio::basic_waitable_timer<std::chrono::steady_clock,
                                      boost::asio::wait_traits<std::chrono::steady_clock>,
                                      Loop::executor_type>;
// Waits for any descriptor; what is read is up to us.
using LoopDescriptor = boost::asio::posix::basic_stream_descriptor<Loop::executor_type>;

}  // namespace tallyd

#endif  // TALLYD_DAEMON_LOOP_H_
