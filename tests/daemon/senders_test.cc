// Who sends: numbers for senders, what a receive call says of them, and what /proc says.

#include "daemon/senders.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "daemon/clock.h"
#include "daemon/line_tap.h"
#include "daemon/receive_ring.h"
#include "daemon/sender_directory.h"
#include "daemon/unique_fd.h"

namespace tallyd {
namespace {

constexpr int64_t kSecond = 1'000'000'000;

Credentials Pid(int32_t pid) { return {.pid = pid, .uid = 1000, .gid = 1000}; }

class SendersTest : public testing::Test {
 protected:
  SendersTest() {
    book_ = RuleBook::Create({}).value();
    families_ = std::make_unique<FamilyTypes>(1 << 16, 42);
    budget_ = std::make_unique<SeriesBudget>(SeriesBudget::Limits{}, 42);
    shard_ = Shard::Create({.hash_seed = 42}, book_.get(), families_.get(), budget_.get()).value();
  }

  // One datagram of a sample.
  uint16_t Send(SenderTable* table, const Credentials& who) {
    const uint16_t number = table->NumberOf(who, now_ns_);
    Count(number);
    return number;
  }
  void Count(uint16_t number) {
    std::string line = "a:1|c";
    line.resize(line.size() + kReadPadding);
    shard_->BeginBatch(now_ns_);
    shard_->Apply({.sender = number}, line.data(), line.size() - kReadPadding);
    shard_->EndBatch();
    ++sent_;
  }
  void Advance(SenderTable* table, int64_t seconds) {
    now_ns_ += seconds * kSecond;
    table->Beat(now_ns_);
  }
  SenderTable::View Read(const SenderTable& table, uint16_t number) {
    SenderTable::View view;
    EXPECT_TRUE(table.Read(number, &view));
    return view;
  }
  // What all rows show together.
  uint64_t SamplesInAll(const SenderTable& table) {
    uint64_t samples = 0;
    for (uint16_t number = 0; number < table.size(); ++number) {
      const SenderTable::View view = Read(table, number);
      samples += view.counts.samples + view.before.samples;
    }
    return samples;
  }

  std::unique_ptr<RuleBook> book_;
  std::unique_ptr<FamilyTypes> families_;
  std::unique_ptr<SeriesBudget> budget_;
  std::unique_ptr<Shard> shard_;
  int64_t now_ns_ = 1000 * kSecond;
  uint64_t sent_ = 0;
};

TEST_F(SendersTest, ASenderKeepsItsNumber) {
  SenderTable table(shard_.get());
  const uint16_t first = Send(&table, Pid(10));
  const uint16_t second = Send(&table, Pid(11));
  EXPECT_NE(first, second);
  // Both of a place in the cache of recent senders.
  const uint16_t far = Send(&table, Pid(10 + 256));
  EXPECT_EQ(Send(&table, Pid(10)), first);
  EXPECT_EQ(Send(&table, Pid(10 + 256)), far);
  EXPECT_EQ(Send(&table, Pid(11)), second);
  EXPECT_EQ(Read(table, first).counts.samples, 2u);
  EXPECT_EQ(Read(table, first).who, Pid(10));
  EXPECT_EQ(Read(table, second).counts.datagrams, 2u);
}

TEST_F(SendersTest, AnotherUserWithThePidIsAnotherSender) {
  SenderTable table(shard_.get());
  const uint16_t first = Send(&table, {.pid = 10, .uid = 1, .gid = 1});
  EXPECT_NE(Send(&table, {.pid = 10, .uid = 2, .gid = 1}), first);
  EXPECT_NE(Send(&table, {.pid = 10, .uid = 1, .gid = 2}), first);
  EXPECT_EQ(Send(&table, {.pid = 10, .uid = 1, .gid = 1}), first);
}

TEST_F(SendersTest, WhomTheKernelDoesNotTellIsUnknown) {
  SenderTable table(shard_.get());
  EXPECT_EQ(Send(&table, {}), SenderTable::kUnknown);
  // A datagram that was sent before the socket asked for credentials.
  EXPECT_EQ(Send(&table, {.pid = 0, .uid = 65534, .gid = 65534}), SenderTable::kUnknown);
  EXPECT_EQ(table.size(), SenderTable::kFirst);
  // A process of another PID namespace has a user.
  EXPECT_GE(Send(&table, {.pid = 0, .uid = 7, .gid = 7}), SenderTable::kFirst);
  EXPECT_EQ(Read(table, SenderTable::kUnknown).counts.samples, 2u);
}

TEST_F(SendersTest, WithoutRoomASenderIsOneOfTheOthers) {
  SenderTable table(shard_.get(), 4);
  Send(&table, Pid(1));
  Send(&table, Pid(2));
  EXPECT_EQ(Send(&table, Pid(3)), SenderTable::kOthers);
  EXPECT_EQ(Send(&table, Pid(4)), SenderTable::kOthers);
  EXPECT_EQ(Read(table, SenderTable::kOthers).counts.samples, 2u);
  EXPECT_EQ(table.size(), 4u);
  EXPECT_EQ(SamplesInAll(table), sent_);
}

TEST_F(SendersTest, TheLongestSilentRowIsGivenAway) {
  SenderTable table(shard_.get(), 5);
  const uint16_t silent = Send(&table, Pid(1));
  const uint16_t kept = Send(&table, Pid(2));
  Advance(&table, 1);
  const uint16_t busy = Send(&table, Pid(3));
  Advance(&table, 59);
  EXPECT_EQ(Send(&table, Pid(4)), SenderTable::kOthers) << "a minute is not over";
  Send(&table, Pid(2));
  Advance(&table, 1);
  EXPECT_EQ(Send(&table, Pid(4)), silent);
  EXPECT_EQ(Send(&table, Pid(5)), SenderTable::kOthers);
  EXPECT_EQ(Send(&table, Pid(2)), kept);
  EXPECT_EQ(Send(&table, Pid(3)), busy);
  const SenderTable::View view = Read(table, silent);
  EXPECT_EQ(view.who, Pid(4));
  EXPECT_EQ(view.counts.samples, 1u) << "counts what its new sender sent";
  EXPECT_EQ(view.before.samples, 1u) << "and keeps what the former did";
  EXPECT_EQ(SamplesInAll(table), sent_);
}

TEST_F(SendersTest, ARowWithAConnectionStays) {
  SenderTable table(shard_.get(), 3);
  const uint16_t connected = table.Open(Pid(1), now_ns_);
  Advance(&table, 1000);
  EXPECT_EQ(Send(&table, Pid(2)), SenderTable::kOthers);
  table.Close(connected);
  Advance(&table, 30);
  EXPECT_EQ(Send(&table, Pid(2)), SenderTable::kOthers) << "its last second was not long ago";
  Advance(&table, 60);
  EXPECT_EQ(Send(&table, Pid(2)), connected);
  EXPECT_EQ(SamplesInAll(table), sent_);
}

TEST_F(SendersTest, ManyConnectionsOfTheOthersComeAndGo) {
  SenderTable table(shard_.get(), 3);
  table.Open(Pid(1), now_ns_);
  const uint16_t other = table.Open(Pid(2), now_ns_);
  EXPECT_EQ(other, SenderTable::kOthers);
  table.Close(other);
  table.Close(SenderTable::kUnknown);
  EXPECT_EQ(Read(table, other).counts.samples, 0u);
}

TEST_F(SendersTest, APidWhoseProcessHasGoneIsSomebodyElse) {
  SenderTable table(shard_.get(), 4);
  const uint16_t first = Send(&table, Pid(1));
  table.MarkEnded(first, Read(table, first).version);
  EXPECT_EQ(Send(&table, Pid(1)), first) << "what was queued is still its own";
  Advance(&table, 1);
  EXPECT_EQ(Send(&table, Pid(1)), first);
  Advance(&table, 1);
  Advance(&table, 1);
  const uint16_t second = Send(&table, Pid(1));
  EXPECT_NE(second, first);
  EXPECT_EQ(Read(table, second).counts.samples, 1u);
  EXPECT_EQ(Read(table, first).counts.samples, 3u);
  // Its row is free before its minute is over.
  EXPECT_EQ(Send(&table, Pid(2)), first);
  // That mark was about another sender.
  Advance(&table, 1);
  EXPECT_EQ(Send(&table, Pid(2)), first);
  EXPECT_EQ(SamplesInAll(table), sent_);
}

TEST_F(SendersTest, AFloodOfSendersIsBounded) {
  SenderTable table(shard_.get());
  for (int32_t pid = 1; pid <= 20'000; ++pid) Send(&table, Pid(pid));
  EXPECT_EQ(table.size(), Source::kMaxSenders);
  EXPECT_EQ(Read(table, SenderTable::kOthers).counts.samples,
            20'000u - (Source::kMaxSenders - SenderTable::kFirst));
  EXPECT_EQ(SamplesInAll(table), sent_);
  Advance(&table, 1);
  Advance(&table, 60);
  for (int32_t pid = 30'000; pid < 40'000; ++pid) Send(&table, Pid(pid));
  EXPECT_EQ(table.size(), Source::kMaxSenders);
  EXPECT_EQ(SamplesInAll(table), sent_);
}

TEST_F(SendersTest, EachNewSenderIsAnnounced) {
  int announced = 0;
  SenderTable table(shard_.get(), 4, [&announced] { ++announced; });
  Send(&table, Pid(1));
  Send(&table, Pid(1));
  EXPECT_EQ(announced, 1);
  table.Open(Pid(2), now_ns_);
  Send(&table, Pid(3));
  Send(&table, {});
  EXPECT_EQ(announced, 2);
}

// Each row says one thing at a time, though its senders change while it is read.
TEST_F(SendersTest, RowsAreReadWhileTheyAreRewritten) {
  SenderTable table(shard_.get(), 3);
  std::atomic<bool> done{false};
  std::thread reader([&] {
    uint64_t read = 0;
    while (!done.load(std::memory_order_relaxed) || read == 0) {
      SenderTable::View view;
      if (table.size() <= SenderTable::kFirst || !table.Read(SenderTable::kFirst, &view)) continue;
      ++read;
      // All parts are of one sender: the test makes them so.
      ASSERT_EQ(static_cast<uint32_t>(view.who.pid), view.who.uid);
      ASSERT_EQ(static_cast<uint32_t>(view.who.pid), view.who.gid);
      ASSERT_EQ(view.before.samples, static_cast<uint64_t>(view.who.pid) - 1);
      ASSERT_EQ(view.version, 2 * view.who.uid);
    }
  });
  for (uint32_t id = 1; id <= 3000; ++id) {
    ASSERT_EQ(Send(&table, {static_cast<int32_t>(id), id, id}), SenderTable::kFirst);
    Advance(&table, 1);
    Advance(&table, 61);
  }
  done.store(true, std::memory_order_relaxed);
  reader.join();
}

// What a receive call says.

class ReceivedSenderTest : public testing::Test {
 protected:
  ReceivedSenderTest() {
    int ends[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_DGRAM, 0, ends), 0);
    ours_ = UniqueFd(ends[0]);
    theirs_ = UniqueFd(ends[1]);
    ring_ = ReceiveRing::Create(4, 4096).value();
  }
  void AskForSenders() {
    const int on = 1;
    ASSERT_EQ(::setsockopt(ours_.get(), SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)), 0);
  }
  void Send(const std::string& text) {
    ASSERT_EQ(::send(theirs_.get(), text.data(), text.size(), 0),
              static_cast<ssize_t>(text.size()));
  }
  // A datagram that passes `count` descriptors.
  void SendDescriptors(size_t count) {
    std::vector<int> descriptors(count, theirs_.get());
    std::vector<char> control(CMSG_SPACE(count * sizeof(int)));
    char byte = 'x';
    iovec bytes{&byte, 1};
    msghdr message{};
    message.msg_iov = &bytes;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(count * sizeof(int));
    std::memcpy(CMSG_DATA(header), descriptors.data(), count * sizeof(int));
    ASSERT_EQ(::sendmsg(theirs_.get(), &message, 0), 1) << std::strerror(errno);
  }
  static int NextDescriptor() {
    const UniqueFd probe(::dup(STDIN_FILENO));
    return probe.get();
  }

  const Credentials us_{::getpid(), ::geteuid(), ::getegid()};
  UniqueFd ours_;
  UniqueFd theirs_;
  std::unique_ptr<ReceiveRing> ring_;
};

TEST_F(ReceivedSenderTest, TheKernelTellsOfEachDatagram) {
  AskForSenders();
  for (int round = 0; round < 3; ++round) {
    Send("a");
    Send("b");
    ASSERT_EQ(ring_->Receive(ours_.get(), ReceiveRing::Senders::kTell), 2);
    EXPECT_EQ(ring_->sender(0), us_);
    EXPECT_EQ(ring_->sender(1), us_);
  }
}

TEST_F(ReceivedSenderTest, WithoutAskingNobodyTells) {
  Send("a");
  ASSERT_EQ(ring_->Receive(ours_.get(), ReceiveRing::Senders::kTell), 1);
  EXPECT_FALSE(ring_->sender(0).known());
  AskForSenders();
  Send("a");
  ASSERT_EQ(ring_->Receive(ours_.get()), 1);
  EXPECT_FALSE(ring_->sender(0).known());
}

// Neither with room for credentials nor without.
TEST_F(ReceivedSenderTest, DescriptorsThatAPeerPassesAreNotOurs) {
  const int next = NextDescriptor();
  for (const auto senders : {ReceiveRing::Senders::kIgnore, ReceiveRing::Senders::kTell,
                             ReceiveRing::Senders::kIgnore}) {
    if (senders == ReceiveRing::Senders::kTell) AskForSenders();
    for (const size_t count : {1, 3, 100}) {
      SendDescriptors(count);
      ASSERT_EQ(ring_->Receive(ours_.get(), senders), 1);
      EXPECT_EQ(ring_->message(0).size, 1u);
      EXPECT_EQ(NextDescriptor(), next);
    }
  }
}

TEST_F(ReceivedSenderTest, APeerIsKnownAndOtherDescriptorsHaveNone) {
  int ends[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
  const UniqueFd first(ends[0]);
  const UniqueFd second(ends[1]);
  EXPECT_EQ(PeerOf(first.get()), us_);
  EXPECT_FALSE(PeerOf(-1).known());
  const UniqueFd tcp(::socket(AF_INET, SOCK_STREAM, 0));
  EXPECT_FALSE(PeerOf(tcp.get()).known());
}

// What /proc says.

TEST(ProcessNamesTest, TheStartIsFoundBehindAnyCommand) {
  const std::string rest = " S 1 1 1 0 -1 4194560 8 0 0 0 0 0 0 0 20 0 1 0 4711 2965504 80";
  EXPECT_EQ(StartTicksOf("12 (sleep)" + rest), 4711u);
  EXPECT_EQ(StartTicksOf("12 (a) b ( 1 2 3)" + rest), 4711u);
  EXPECT_EQ(StartTicksOf("12 (" + std::string("\n)") + ")" + rest), 4711u);
  EXPECT_EQ(StartTicksOf(""), std::nullopt);
  EXPECT_EQ(StartTicksOf("12 (sleep) S 1 1"), std::nullopt);
  EXPECT_EQ(StartTicksOf("12 (sleep)" + std::string(40, ' ')), std::nullopt);
}

TEST(ProcessNamesTest, TheUnitIsTheInnermostServiceOrScope) {
  EXPECT_EQ(UnitOf("0::/system.slice/nginx.service\n"), "nginx.service");
  EXPECT_EQ(UnitOf("0::/user.slice/user-1000.slice/user@1000.service/app.slice/x.service\n"),
            "x.service");
  EXPECT_EQ(UnitOf("0::/user.slice/user-1000.slice/session-3.scope\n"), "session-3.scope");
  EXPECT_EQ(UnitOf("0::/system.slice/a.service/payload\n"), "a.service");
  EXPECT_EQ(UnitOf("0::/docker/0123abc\n"), "/docker/0123abc");
  EXPECT_EQ(UnitOf("0::/\n"), "");
  EXPECT_EQ(UnitOf(""), "");
  EXPECT_EQ(UnitOf("nonsense"), "");
  // Version 1, and both together.
  EXPECT_EQ(UnitOf("2:cpu,cpuacct:/other.service\n1:name=systemd:/system.slice/b.service\n"),
            "b.service");
  EXPECT_EQ(UnitOf("1:name=systemd:/system.slice/b.service\n0::/c.service\n"), "b.service");
  EXPECT_EQ(UnitOf("0::/c:d.service\n"), "c:d.service");
  EXPECT_EQ(UnitOf("0::/" + std::string(10'000, 'x')).size(), 256u);
}

TEST(ProcessNamesTest, OfThisProcess) {
  const ProcessNames names = NamesOf(::getpid(), MonotonicNs());
  EXPECT_EQ(names.command, "senders_test");
  EXPECT_GT(names.start_ticks, 0u);
  // Somebody had our pid before we began.
  const ProcessNames former = NamesOf(::getpid(), 1);
  EXPECT_EQ(former.command, "");
  EXPECT_EQ(former.start_ticks, 0u);
  EXPECT_EQ(NamesOf(0, MonotonicNs()).command, "");
  EXPECT_EQ(NamesOf(INT32_MAX, MonotonicNs()).command, "");
}

class DirectoryTest : public SendersTest {
 protected:
  static void RunFor(Loop* loop, int ms) {
    loop->restart();
    loop->run_for(std::chrono::milliseconds(ms));
  }
  const SenderInfo* FindPid(const std::vector<SenderInfo>& list, int32_t pid) {
    for (const SenderInfo& info : list) {
      if (info.who.pid == pid) return &info;
    }
    return nullptr;
  }
};

TEST_F(DirectoryTest, NamesComeSoonAndCountsAtOnce) {
  Loop loop(1);
  SenderTable table(shard_.get());
  SenderDirectory directory(&loop, {&table});
  table.SetOnNew([&directory] { directory.Ask(); });
  now_ns_ = MonotonicNs();
  const Credentials us{::getpid(), ::geteuid(), ::getegid()};
  Send(&table, us);
  Send(&table, {});
  std::vector<SenderInfo> list = directory.List();
  ASSERT_EQ(list.size(), 3u);
  EXPECT_EQ(list[2].counts.samples, 1u);
  EXPECT_EQ(list[2].names.command, "");
  RunFor(&loop, 50);
  list = directory.List();
  EXPECT_EQ(list[2].names.command, "senders_test");
  EXPECT_EQ(list[2].who, us);
  EXPECT_EQ(list[0].kind, SenderInfo::Kind::kUnknown);
  EXPECT_EQ(list[0].counts.samples, 1u);
  EXPECT_EQ(directory.Describe(0, SenderTable::kFirst).names.command, "senders_test");
  EXPECT_EQ(directory.Describe(0, 77).kind, SenderInfo::Kind::kOthers);
  EXPECT_EQ(directory.Describe(0, 0).kind, SenderInfo::Kind::kUnknown);
  directory.Stop();
}

// More than one turn looks up.
TEST_F(DirectoryTest, AFloodIsLookedUpInTurns) {
  Loop loop(1);
  SenderTable table(shard_.get());
  SenderDirectory directory(&loop, {&table});
  table.SetOnNew([&directory] { directory.Ask(); });
  now_ns_ = MonotonicNs();
  for (uint32_t uid = 1; uid <= 100; ++uid) Send(&table, {::getpid(), uid, uid});
  RunFor(&loop, 3);
  const auto named = [&] {
    size_t count = 0;
    for (const SenderInfo& info : directory.List()) count += info.names.command.empty() ? 0 : 1;
    return count;
  };
  EXPECT_LE(named(), 64u);
  RunFor(&loop, 200);
  EXPECT_EQ(named(), 100u);
  directory.Stop();
}

TEST_F(DirectoryTest, AProcessInSeveralShardsIsOneSender) {
  auto other =
      Shard::Create({.hash_seed = 42}, book_.get(), families_.get(), budget_.get()).value();
  Loop loop(1);
  SenderTable first(shard_.get());
  SenderTable second(other.get());
  SenderDirectory directory(&loop, {&first, &second});
  now_ns_ = MonotonicNs();
  Send(&first, Pid(1));
  Send(&first, Pid(2));
  shard_.swap(other);
  Send(&second, Pid(2));
  const std::vector<SenderInfo> list = directory.List();
  ASSERT_EQ(list.size(), 4u);
  EXPECT_EQ(FindPid(list, 1)->counts.samples, 1u);
  EXPECT_EQ(FindPid(list, 2)->counts.samples, 2u);
}

}  // namespace
}  // namespace tallyd
