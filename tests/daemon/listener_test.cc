// Every transport, from a real socket to the ledger of real shards: what was sent is what was
// received, applied or dropped by reason.

#include <dirent.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <cstring>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "daemon/address.h"
#include "daemon/clock.h"
#include "daemon/exit_code.h"
#include "daemon/listener_set.h"
#include "daemon/shard_set.h"

namespace tallyd {
namespace {

using ::testing::HasSubstr;

// Waits for something that other threads bring about; false if it does not come.
bool Eventually(const std::function<bool()>& holds) {
  const int64_t deadline_ns = MonotonicNs() + 10'000'000'000;
  while (!holds()) {
    if (MonotonicNs() > deadline_ns) return false;
    ::poll(nullptr, 0, 1);
  }
  return true;
}

int OpenDescriptors() {
  DIR* directory = ::opendir("/proc/self/fd");
  int count = 0;
  while (::readdir(directory) != nullptr) ++count;
  ::closedir(directory);
  return count;
}

std::string Frame(const std::string& body) {
  std::string frame(4, '\0');
  for (size_t i = 0; i < 4; ++i) frame[i] = static_cast<char>(body.size() >> (8 * i));
  return frame + body;
}

// The sum of a family of counts over all shards.
struct Account {
  uint64_t datagrams = 0;
  uint64_t samples = 0;
  uint64_t applied = 0;
  uint64_t dropped = 0;
  uint64_t truncated = 0;
};

// Everything between the sockets and the shards, without the merger.
class Host {
 public:
  explicit Host(const Options& options, int connections = 100) : budget_(connections) {
    auto listeners = ListenerSet::Open(options, options.ShardCount(), &handed_, drops_.get());
    EXPECT_TRUE(listeners.ok()) << listeners.status();
    listeners_ = *std::move(listeners);
    auto shards = ShardSet::Create(options, {}, options.ShardCount(), {.hash_seed = 1}, &counts_);
    EXPECT_TRUE(shards.ok()) << shards.status();
    shards_ = *std::move(shards);
    EXPECT_TRUE(listeners_->GiveDatagramSockets(shards_->threads()).ok());
    EXPECT_TRUE(shards_->Start().ok());
    listeners_->StartAccepting(&control_, shards_->threads(), &budget_, &counts_);
    thread_ = std::thread([this] { control_.run(); });
  }
  ~Host() { Stop(); }

  // Takes what is queued and ends the threads. Connections that wait to be accepted are lost.
  void Stop() {
    if (!thread_.joinable()) return;
    std::promise<void> done;
    boost::asio::post(control_, [this, &done] {
      listeners_->Close();
      shards_->Stop(0, [&done] { done.set_value(); });
    });
    done.get_future().wait();
    shards_->Join();
    control_.stop();
    thread_.join();
  }

  Account account() const {
    Account sum;
    for (const Ledger* ledger : shards_->ledgers()) {
      for (const Ledger::Listener& listener : ledger->listeners) {
        sum.datagrams += listener.datagrams.Get();
        sum.samples += listener.samples.Get();
        sum.truncated += listener.truncated.Get();
      }
      sum.applied += ledger->applied.Get();
      for (const LedgerCount& dropped : ledger->dropped) sum.dropped += dropped.Get();
    }
    return sum;
  }
  uint64_t dropped(DropReason reason) const {
    uint64_t sum = 0;
    for (const Ledger* ledger : shards_->ledgers()) {
      sum += ledger->dropped[static_cast<size_t>(reason)].Get();
    }
    return sum;
  }
  uint64_t closed(CloseReason reason) const {
    return counts_.closed[static_cast<size_t>(reason)].load();
  }
  int64_t open() const {
    int64_t sum = 0;
    for (const auto& open : counts_.open) sum += open.load();
    return sum;
  }
  void AddTap(const std::shared_ptr<LineTap>& tap) {
    for (const auto& thread : shards_->threads()) thread->AddTap(tap);
  }
  void RemoveTap(const std::shared_ptr<LineTap>& tap) {
    for (const auto& thread : shards_->threads()) thread->RemoveTap(tap);
  }
  uint64_t accept_pauses() const { return counts_.accept_pauses.load(); }
  const std::string& address(size_t i = 0) const { return listeners_->bound()[i].address; }

 private:
  Loop control_{1};
  boost::asio::executor_work_guard<Loop::executor_type> work_{control_.get_executor()};
  ConnectionCounts counts_;
  ConnectionBudget budget_;
  HandedSockets handed_;
  std::unique_ptr<DropMarks> drops_ = *DropMarks::Open({}, nullptr);
  std::unique_ptr<ListenerSet> listeners_;
  std::unique_ptr<ShardSet> shards_;
  std::thread thread_;
};

// Keeps what it sees, of each listener, with "|" between calls.
class RecordingTap final : public LineTap {
 public:
  void OnLines(Source source, std::string_view lines_untrusted) override {
    const std::lock_guard lock(mu_);
    absl::StrAppend(&seen_[source.listener], std::string(lines_untrusted), "|");
  }
  void OnBeat(int64_t) override {
    const std::lock_guard lock(mu_);
    ++beats_;
  }

  std::string seen(uint16_t listener) const {
    const std::lock_guard lock(mu_);
    const auto found = seen_.find(listener);
    return found == seen_.end() ? "" : found->second;
  }
  int beats() const {
    const std::lock_guard lock(mu_);
    return beats_;
  }

 private:
  mutable std::mutex mu_;  // of a kind that ThreadSanitizer knows
  std::map<uint16_t, std::string> seen_;
  int beats_ = 0;
};

class ListenerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/listener_test.XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    directory_ = name;
    path_ = directory_ + "/s";
    options_.udp.clear();
    options_.tcp.clear();
    options_.shards = 2;
  }
  void TearDown() override { ::rmdir(directory_.c_str()); }

  static UniqueFd ConnectTo(const std::string& address, int type) {
    const auto parsed = SocketAddress::Parse(address);
    UniqueFd fd(::socket(parsed->family(), type | SOCK_CLOEXEC, 0));
    EXPECT_EQ(::connect(fd.get(), parsed->get(), parsed->size()), 0) << std::strerror(errno);
    return fd;
  }
  UniqueFd ConnectToPath(int type) const {
    UniqueFd fd(::socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path_.data(), path_.size());
    EXPECT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0)
        << std::strerror(errno);
    return fd;
  }
  // Sends everything, waiting where the receiver makes it wait.
  static void Send(const UniqueFd& fd, const std::string& bytes) {
    ASSERT_EQ(::send(fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()))
        << std::strerror(errno);
  }
  // Does the peer end the connection?
  static bool Ends(const UniqueFd& fd) {
    pollfd state{fd.get(), POLLIN, 0};
    char byte = 0;
    return ::poll(&state, 1, 10'000) == 1 && ::recv(fd.get(), &byte, 1, 0) <= 0;
  }

  std::string directory_;
  std::string path_;
  Options options_;
};

TEST_F(ListenerTest, UdpOverBothFamiliesCountsEverySample) {
  options_.udp = {"127.0.0.1:0", "[::1]:0"};
  Host host(options_);
  for (size_t listener = 0; listener < 2; ++listener) {
    for (int sender = 0; sender < 8; ++sender) {
      const UniqueFd fd = ConnectTo(host.address(listener), SOCK_DGRAM);
      for (int i = 0; i < 200; ++i) Send(fd, "a:1|c\nb:2|g\nbad\n");
    }
  }
  host.Stop();
  const Account account = host.account();
  EXPECT_EQ(account.datagrams, 3'200u);
  EXPECT_EQ(account.samples, 9'600u);
  EXPECT_EQ(account.applied, 6'400u);
  EXPECT_EQ(account.dropped, 3'200u);
}

TEST_F(ListenerTest, AllInterfacesTakeBothFamiliesOnOneSocket) {
  options_.udp = {":0"};
  Host host(options_);
  EXPECT_THAT(host.address(), HasSubstr("[::]:"));
  const std::string port = host.address().substr(host.address().rfind(':'));
  Send(ConnectTo("127.0.0.1" + port, SOCK_DGRAM), "a:1|c");
  Send(ConnectTo("[::1]" + port, SOCK_DGRAM), "a:1|c");
  host.Stop();
  EXPECT_EQ(host.account().applied, 2u);
}

TEST_F(ListenerTest, AnEmptyDatagramIsNoEnd) {
  options_.udp = {"127.0.0.1:0"};
  options_.unixgram = {path_};
  Host host(options_);
  const UniqueFd udp = ConnectTo(host.address(), SOCK_DGRAM);
  const UniqueFd gram = ConnectToPath(SOCK_DGRAM);
  for (const UniqueFd* fd : {&udp, &gram}) {
    for (const char* datagram : {"", "a:1|c", "", "", "a:1|c"}) Send(*fd, datagram);
  }
  host.Stop();
  EXPECT_EQ(host.account().datagrams, 10u);
  EXPECT_EQ(host.account().applied, 4u);
}

TEST_F(ListenerTest, AShortBatchAfterALongOneIsNotCountedTwice) {
  options_.udp = {"127.0.0.1:0"};
  options_.shards = 1;
  Host host(options_);
  const UniqueFd fd = ConnectTo(host.address(), SOCK_DGRAM);
  for (int i = 0; i < 100; ++i) Send(fd, "a:1|c");
  ASSERT_TRUE(Eventually([&] { return host.account().applied == 100; }));
  for (int i = 0; i < 3; ++i) Send(fd, "a:1|c");
  host.Stop();
  EXPECT_EQ(host.account().applied, 103u);
}

TEST_F(ListenerTest, TheLargestUdpDatagramFits) {
  options_.udp = {"127.0.0.1:0"};
  Host host(options_);
  std::string datagram;
  while (datagram.size() + 6 <= 65'507) datagram += "a:1|c\n";
  Send(ConnectTo(host.address(), SOCK_DGRAM), datagram);
  host.Stop();
  EXPECT_EQ(host.account().applied, datagram.size() / 6);
  EXPECT_EQ(host.account().truncated, 0u);
}

TEST_F(ListenerTest, ASecondInstanceIsRefusedAndTheAddressNamed) {
  options_.udp = {"127.0.0.1:0"};
  options_.tcp = {"127.0.0.1:0"};
  options_.unixgram = {path_};
  Host host(options_);
  Options udp = options_;
  udp.udp = {host.address(0)};
  Options tcp = options_;
  tcp.tcp = {host.address(1)};
  for (const auto& [second, named] :
       {std::pair(udp, host.address(0)), {tcp, host.address(1)}, {options_, path_}}) {
    HandedSockets nothing;
    const auto drops = DropMarks::Open({}, nullptr);
    const auto refused = ListenerSet::Open(second, 2, &nothing, drops->get());
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(ExitCodeFor(refused.status()), ExitCode::kInUse);
    EXPECT_THAT(std::string(refused.status().message()), HasSubstr(named));
  }
  Send(ConnectToPath(SOCK_DGRAM), "a:1|c");  // the first one's socket is still there
  host.Stop();
  EXPECT_EQ(host.account().applied, 1u);
}

TEST_F(ListenerTest, UnixDatagramsUpToTheDefaultSendBufferAreWhole) {
  options_.unixgram = {path_};
  Host host(options_);
  std::string datagram;
  while (datagram.size() < 212'000) datagram += "a:1|c\n";
  Send(ConnectToPath(SOCK_DGRAM), datagram);
  host.Stop();
  EXPECT_EQ(host.account().applied, datagram.size() / 6);
}

TEST_F(ListenerTest, OfACutDatagramTheCompleteLinesCount) {
  options_.unixgram = {path_};
  Host host(options_);
  const UniqueFd fd = ConnectToPath(SOCK_DGRAM);
  const int large = 1 << 20;
  ASSERT_EQ(::setsockopt(fd.get(), SOL_SOCKET, SO_SNDBUF, &large, sizeof(large)), 0);
  std::string datagram;
  while (datagram.size() < 300'000) datagram += "a:1|c\n";
  if (::send(fd.get(), datagram.data(), datagram.size(), 0) < 0) {
    GTEST_SKIP() << "the host does not allow datagrams larger than our buffer";
  }
  host.Stop();
  const Account account = host.account();
  EXPECT_EQ(account.truncated, 1u);
  EXPECT_EQ(account.applied, kUnixMessageBytes / 6);
  EXPECT_EQ(host.dropped(DropReason::kTruncated), 1u);
  EXPECT_EQ(account.samples, account.applied + account.dropped);
}

TEST_F(ListenerTest, StreamFramesCountHoweverTheyAreCut) {
  options_.unixstream = {path_};
  Host host(options_);
  std::string stream;
  for (int i = 0; i < 500; ++i) stream += Frame("a:1|c\nb:1|c");
  for (const size_t piece : {size_t{1}, size_t{3}, size_t{1000}, stream.size()}) {
    const UniqueFd fd = ConnectToPath(SOCK_STREAM);
    for (size_t at = 0; at < stream.size(); at += piece) Send(fd, stream.substr(at, piece));
  }
  ASSERT_TRUE(Eventually([&] { return host.closed(CloseReason::kPeer) == 4; }));
  host.Stop();
  EXPECT_EQ(host.account().applied, 4'000u);
  EXPECT_EQ(host.account().dropped, 0u);
}

TEST_F(ListenerTest, AFrameOverTheLimitEndsItsConnectionAlone) {
  options_.unixstream = {path_};
  Host host(options_);
  const UniqueFd good = ConnectToPath(SOCK_STREAM);
  Send(good, Frame("a:1|c"));
  for (const std::string& header :
       {std::string("\x01\x00\x01\x00", 4), std::string("\xff\xff\xff\xff"),
        std::string("\x00\x00\x00\x80", 4)}) {
    const UniqueFd bad = ConnectToPath(SOCK_STREAM);
    Send(bad, Frame("a:1|c") + header);
    EXPECT_TRUE(Ends(bad));
  }
  Send(good, Frame("a:1|c"));
  host.Stop();
  EXPECT_EQ(host.account().applied, 5u);
  EXPECT_EQ(host.closed(CloseReason::kFrameTooLong), 3u);
  EXPECT_EQ(host.dropped(DropReason::kTooLong), 3u);
  EXPECT_EQ(host.closed(CloseReason::kShutdown), 1u);
}

TEST_F(ListenerTest, AFrameCutByTheEndIsDroppedOnce) {
  options_.unixstream = {path_};
  Host host(options_);
  Send(ConnectToPath(SOCK_STREAM), Frame("a:1|c") + Frame("cut:1|c").substr(0, 7));
  ASSERT_TRUE(Eventually([&] { return host.closed(CloseReason::kPeer) == 1; }));
  host.Stop();
  EXPECT_EQ(host.account().applied, 1u);
  EXPECT_EQ(host.dropped(DropReason::kTruncated), 1u);
}

TEST_F(ListenerTest, AnIdlePartialFrameTimesOutEvenIfItTricklesIn) {
  options_.unixstream = {path_};
  options_.idle_timeout = absl::Milliseconds(200);
  Host host(options_);
  const UniqueFd idle = ConnectToPath(SOCK_STREAM);  // between frames: may stay
  Send(idle, Frame("a:1|c"));
  const UniqueFd slow = ConnectToPath(SOCK_STREAM);
  const std::string frame = Frame(std::string(60'000, 'x'));
  size_t sent = 0;
  ASSERT_TRUE(Eventually([&] {
    if (sent < frame.size()) ::send(slow.get(), &frame[sent++], 1, MSG_NOSIGNAL);
    ::poll(nullptr, 0, 10);
    return host.closed(CloseReason::kIdleTimeout) == 1;
  }));
  EXPECT_EQ(host.open(), 1);
  host.Stop();
  EXPECT_EQ(host.dropped(DropReason::kTruncated), 1u);
  EXPECT_EQ(host.account().applied, 1u);
}

TEST_F(ListenerTest, TcpLinesCountAndTheLastNeedsNoLf) {
  options_.tcp = {"127.0.0.1:0"};
  Host host(options_);
  Send(ConnectTo(host.address(), SOCK_STREAM), "a:1|c\r\nb:1|c\n\nbad\nc:1|c");
  ASSERT_TRUE(Eventually([&] { return host.closed(CloseReason::kPeer) == 1; }));
  host.Stop();
  EXPECT_EQ(host.account().applied, 3u);
  EXPECT_EQ(host.account().dropped, 1u);
}

TEST_F(ListenerTest, ATcpLineOverTheLimitEndsItsConnection) {
  options_.tcp = {"127.0.0.1:0"};
  Host host(options_);
  const UniqueFd fd = ConnectTo(host.address(), SOCK_STREAM);
  Send(fd, "a:1|c\n" + std::string(65'536, 'x'));
  EXPECT_TRUE(Ends(fd));
  host.Stop();
  EXPECT_EQ(host.account().applied, 1u);
  EXPECT_EQ(host.closed(CloseReason::kLineTooLong), 1u);
  EXPECT_EQ(host.dropped(DropReason::kTooLong), 1u);
}

TEST_F(ListenerTest, TapsSeeEveryLineAsItCame) {
  options_.udp = {"127.0.0.1:0"};
  options_.tcp = {"127.0.0.1:0"};
  options_.unixgram = {path_ + "1"};
  options_.unixstream = {path_ + "2"};
  options_.unixseqpacket = {path_};
  Host host(options_);
  const auto first = std::make_shared<RecordingTap>();
  const auto second = std::make_shared<RecordingTap>();
  host.AddTap(first);
  host.AddTap(second);
  Send(ConnectTo(host.address(0), SOCK_DGRAM), "a|1\n\nbad");
  const UniqueFd tcp = ConnectTo(host.address(1), SOCK_STREAM);
  Send(tcp, "whole:1|c\r\npie");
  ASSERT_TRUE(Eventually([&] { return first->seen(1) == "whole:1|c\r\n|"; }));
  Send(tcp, "ces\nlast");
  ASSERT_TRUE(Eventually([&] { return first->seen(1) == "whole:1|c\r\n|pieces|"; }));
  const UniqueFd packets = ConnectToPath(SOCK_SEQPACKET);
  Send(packets, "packet");
  ASSERT_TRUE(Eventually([&] { return second->seen(4) == "packet|"; }));
  host.RemoveTap(second);
  Send(packets, "later");
  host.Stop();
  EXPECT_EQ(first->seen(0), "a|1\n\nbad|");
  EXPECT_EQ(first->seen(1), "whole:1|c\r\n|pieces|");  // nobody ended the last one
  EXPECT_EQ(first->seen(4), "packet|later|");
  EXPECT_EQ(second->seen(0), first->seen(0));
  EXPECT_EQ(second->seen(1), first->seen(1));
  EXPECT_GE(first->beats(), 2);  // at the end of each shard
}

TEST_F(ListenerTest, ATapSeesNoCutLine) {
  LineTaps taps;
  const auto tap = std::make_shared<RecordingTap>();
  taps.Add(tap);
  taps.OnTruncated({}, "a:1|c\nb:1", 9);
  taps.OnTruncated({}, "c:1", 3);
  EXPECT_EQ(tap->seen(0), "a:1|c\n||");
}

TEST_F(ListenerTest, SeqpacketsAreDatagramsAndAnEmptyOneIsNoEnd) {
  options_.unixseqpacket = {path_};
  Host host(options_);
  {
    const UniqueFd fd = ConnectToPath(SOCK_SEQPACKET);
    for (int i = 0; i < 1000; ++i) Send(fd, "a:1|c\nb:1|c");
    Send(fd, "");
    ASSERT_TRUE(Eventually([&] { return host.account().applied == 2'000; }));
    Send(fd, "a:1|c");
  }
  ASSERT_TRUE(Eventually([&] { return host.closed(CloseReason::kPeer) == 1; }));
  host.Stop();
  EXPECT_EQ(host.account().applied, 2'001u);
  EXPECT_EQ(host.account().datagrams, 1'002u);
}

TEST_F(ListenerTest, PassedDescriptorsNeverBecomeOurs) {
  options_.unixgram = {path_};
  Host host(options_);
  const UniqueFd fd = ConnectToPath(SOCK_DGRAM);
  Send(fd, "a:1|c");
  ASSERT_TRUE(Eventually([&] { return host.account().applied == 1; }));
  const int before = OpenDescriptors();
  char text[] = "a:1|c";
  iovec bytes{text, 5};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &bytes;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  const int passed = fd.get();
  std::memcpy(CMSG_DATA(header), &passed, sizeof(passed));
  for (int i = 0; i < 100; ++i) ASSERT_EQ(::sendmsg(fd.get(), &message, 0), 5);
  ASSERT_TRUE(Eventually([&] { return host.account().applied == 101; }));
  EXPECT_EQ(OpenDescriptors(), before);
}

TEST_F(ListenerTest, AcceptingPausesPastTheBudgetAndGoesOnWhenThereIsRoom) {
  options_.unixstream = {path_};
  Host host(options_, 3);
  std::vector<UniqueFd> peers;
  for (int i = 0; i < 5; ++i) {
    peers.push_back(ConnectToPath(SOCK_STREAM));
    Send(peers.back(), Frame("a:1|c"));
  }
  ASSERT_TRUE(Eventually([&] { return host.account().applied == 3 && host.accept_pauses() > 0; }));
  EXPECT_EQ(host.open(), 3);
  peers.erase(peers.begin(), peers.begin() + 2);
  EXPECT_TRUE(Eventually([&] { return host.account().applied == 5; }));
  EXPECT_LT(host.accept_pauses(), 200u);  // it does not spin
}

// A socket of this path for some users alone.
ListenAddress AllowedTo(const std::string& path, std::vector<uid_t> uids) {
  ListenAddress address(path);
  address.allow_uids = std::move(uids);
  return address;
}

TEST_F(ListenerTest, DatagramsOfOtherUsersAreRefusedLineByLine) {
  options_.unixgram = {AllowedTo(path_, {::geteuid() + 1})};
  Host host(options_);
  Send(ConnectToPath(SOCK_DGRAM), "a:1|c\nb:1|c\n\nnonsense");
  Send(ConnectToPath(SOCK_DGRAM), "c:1|c\n");
  host.Stop();
  EXPECT_EQ(host.account().applied, 0u);
  EXPECT_EQ(host.account().samples, 4u);
  EXPECT_EQ(host.account().datagrams, 2u);
  EXPECT_EQ(host.dropped(DropReason::kUnauthorized), 4u);
}

TEST_F(ListenerTest, DatagramsOfAUserOfTheListCount) {
  options_.unixgram = {AllowedTo(path_, {::geteuid() + 1, ::geteuid()})};
  Host host(options_);
  Send(ConnectToPath(SOCK_DGRAM), "a:1|c\nb:1|c");
  host.Stop();
  EXPECT_EQ(host.account().applied, 2u);
  EXPECT_EQ(host.dropped(DropReason::kUnauthorized), 0u);
}

TEST_F(ListenerTest, ConnectionsOfOtherUsersAreClosedUnread) {
  for (const int type : {SOCK_STREAM, SOCK_SEQPACKET}) {
    Options options = options_;
    auto& list = type == SOCK_STREAM ? options.unixstream : options.unixseqpacket;
    list = {AllowedTo(path_, {::geteuid() + 1})};
    Host host(options);
    const UniqueFd fd = ConnectToPath(type);
    EXPECT_TRUE(Ends(fd));
    EXPECT_TRUE(Eventually([&] { return host.closed(CloseReason::kUnauthorized) == 1; }));
    EXPECT_EQ(host.open(), 0);
    host.Stop();
    EXPECT_EQ(host.account().samples, 0u);
  }
}

TEST_F(ListenerTest, ConnectionsOfAUserOfTheListCount) {
  options_.unixstream = {AllowedTo(path_, {::geteuid()})};
  Host host(options_);
  Send(ConnectToPath(SOCK_STREAM), Frame("a:1|c"));
  EXPECT_TRUE(Eventually([&] { return host.account().applied == 1; }));
  EXPECT_EQ(host.closed(CloseReason::kUnauthorized), 0u);
}

TEST_F(ListenerTest, APathThatWasRemovedIsBoundAnewAndWhoIsConnectedGoesOn) {
  for (const int type : {SOCK_DGRAM, SOCK_STREAM, SOCK_SEQPACKET}) {
    Options options = options_;
    auto& list = type == SOCK_DGRAM    ? options.unixgram
                 : type == SOCK_STREAM ? options.unixstream
                                       : options.unixseqpacket;
    list = {path_};
    const std::string sample = type == SOCK_STREAM ? Frame("a:1|c") : "a:1|c";
    Host host(options);
    const UniqueFd former = ConnectToPath(type);
    for (uint64_t round = 0; round < 3; ++round) {
      ASSERT_EQ(::unlink(path_.c_str()), 0);
      ASSERT_TRUE(Eventually([&] { return ::access(path_.c_str(), F_OK) == 0; }));
      const auto connected = [&] { return host.account().applied == 2 * round + 2; };
      // The file is there a moment before the socket listens.
      ::poll(nullptr, 0, 50);
      const UniqueFd fresh = ConnectToPath(type);
      Send(fresh, sample);
      if (type == SOCK_DGRAM && round > 0) {
        Send(fresh, sample);  // what `former` is connected to was given up
      } else {
        Send(former, sample);
      }
      ASSERT_TRUE(Eventually(connected)) << host.account().applied;
    }
  }
}

TEST_F(ListenerTest, WhatIsNoSocketOfOursInThePlaceOfAPathIsLeftAlone) {
  options_.unixgram = {path_};
  Host host(options_);
  ASSERT_EQ(::unlink(path_.c_str()), 0);
  ASSERT_EQ(::mkdir(path_.c_str(), 0700), 0);
  ::poll(nullptr, 0, 1'500);
  ASSERT_EQ(::rmdir(path_.c_str()), 0);  // it is there and is a directory still
  ASSERT_TRUE(Eventually([&] { return ::access(path_.c_str(), F_OK) == 0; }));
  Send(ConnectToPath(SOCK_DGRAM), "a:1|c");
  EXPECT_TRUE(Eventually([&] { return host.account().applied == 1; }));
}

TEST_F(ListenerTest, AtTheEndWhatTheKernelQueuedIsTaken) {
  options_.udp = {"127.0.0.1:0"};
  options_.unixstream = {path_};
  for (int round = 0; round < 20; ++round) {
    Host host(options_);
    const UniqueFd udp = ConnectTo(host.address(), SOCK_DGRAM);
    const UniqueFd stream = ConnectToPath(SOCK_STREAM);
    Send(stream, Frame("a:1|c"));
    ASSERT_TRUE(Eventually([&] { return host.account().applied == 1; }));
    for (int i = 0; i < 500; ++i) {
      Send(udp, "a:1|c");
      Send(stream, Frame("b:1|c"));
    }
    host.Stop();
    ASSERT_EQ(host.account().applied, 1'001u);
  }
}

TEST_F(ListenerTest, AHundredShardsWorkOnWhatCpusThereAre) {
  options_.udp = {"127.0.0.1:0"};
  options_.unixseqpacket = {path_};
  options_.shards = 100;
  Host host(options_);
  for (int sender = 0; sender < 300; ++sender) {
    Send(ConnectTo(host.address(), SOCK_DGRAM), "a:1|c");
  }
  host.Stop();
  EXPECT_EQ(host.account().applied, 300u);
}

}  // namespace
}  // namespace tallyd
