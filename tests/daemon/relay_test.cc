// The relay: what it sends, in which packets, and that every line is accounted for.

#include "daemon/relay.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/ip/address.hpp>
#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "daemon/address.h"

namespace tallyd {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// A UDP socket that lines are relayed to.
class Sink {
 public:
  explicit Sink(const std::string& at = "127.0.0.1:0") {
    const auto address = SocketAddress::Parse(at);
    socket_ = *OpenSocket(*address, SOCK_DGRAM);
    EXPECT_TRUE(BindSocket(socket_.get(), *address, "udp").ok());
    address_ = SocketAddress::OfSocket(socket_.get())->ToString();
  }

  const std::string& address() const { return address_; }
  // What has come, a text for each packet.
  std::vector<std::string> Packets() {
    std::vector<std::string> packets;
    std::string packet(70'000, '\0');
    pollfd state{socket_.get(), POLLIN, 0};
    while (::poll(&state, 1, 0) > 0) {
      const ssize_t size = ::recv(socket_.get(), packet.data(), packet.size(), 0);
      if (size < 0) break;
      packets.push_back(packet.substr(0, static_cast<size_t>(size)));
    }
    return packets;
  }
  void Close() { socket_ = UniqueFd(); }

 private:
  UniqueFd socket_;
  std::string address_;
};

std::shared_ptr<RelayTap> TapTo(const Sink& sink, size_t packet_bytes) {
  auto tap = std::make_shared<RelayTap>(packet_bytes);
  EXPECT_EQ(tap->Connect(*SocketAddress::Parse(sink.address())), absl::OkStatus());
  return tap;
}

uint64_t Accounted(const RelayTap& tap) {
  return tap.counts().lines.Get() + tap.counts().long_lines.Get() +
         tap.counts().dropped_lines.Get();
}

TEST(RelayTapTest, LinesGoAsTheyCameWhetherOrNotTheyCanBeParsed) {
  Sink sink;
  const auto tap = TapTo(sink, 1'400);
  tap->OnLines({}, "a:1|c\nnonsense\n\n\xff\xfe:|@|#\n  b:2|g ");
  EXPECT_THAT(sink.Packets(), IsEmpty());
  tap->OnBeat(0);
  EXPECT_THAT(sink.Packets(), ElementsAre("a:1|c\nnonsense\n\xff\xfe:|@|#\n  b:2|g \n"));
  EXPECT_EQ(tap->counts().lines.Get(), 4u);
  EXPECT_EQ(tap->counts().packets.Get(), 1u);
  tap->OnBeat(0);
  EXPECT_THAT(sink.Packets(), IsEmpty());
}

TEST(RelayTapTest, ALineEndsWithLfWhateverItEndedWith) {
  Sink sink;
  const auto tap = TapTo(sink, 1'400);
  tap->OnLines({}, "a:1|c\r\n\r\nb:1|c\r");
  tap->OnLines({}, "c:1|c\n");
  tap->OnLines({}, "");
  tap->OnLines({}, "\n\n");
  tap->OnBeat(0);
  EXPECT_THAT(sink.Packets(), ElementsAre("a:1|c\nb:1|c\nc:1|c\n"));
  EXPECT_EQ(Accounted(*tap), 3u);
}

TEST(RelayTapTest, PacketsAreFilledUpToTheirLengthAndNoFurther) {
  Sink sink;
  const auto tap = TapTo(sink, 11);
  tap->OnLines({}, "aaaaa\nbbbbb");  // 11 with the LF between them
  EXPECT_THAT(sink.Packets(), IsEmpty());
  tap->OnLines({}, "c");
  EXPECT_THAT(sink.Packets(), ElementsAre("aaaaa\nbbbbb"));
  tap->OnLines({}, "dddddddd\neee");
  EXPECT_THAT(sink.Packets(), ElementsAre("c\ndddddddd\n"));
  tap->OnBeat(0);
  EXPECT_THAT(sink.Packets(), ElementsAre("eee\n"));
  EXPECT_EQ(tap->counts().packets.Get(), 3u);
  EXPECT_EQ(tap->counts().lines.Get(), 5u);
}

TEST(RelayTapTest, ALineLongerThanAPacketIsCountedAndNotSent) {
  Sink sink;
  const auto tap = TapTo(sink, 5);
  tap->OnLines({}, "12345\n123456\n1");
  tap->OnBeat(0);
  EXPECT_THAT(sink.Packets(), ElementsAre("12345", "1\n"));
  EXPECT_EQ(tap->counts().long_lines.Get(), 1u);
  EXPECT_EQ(tap->counts().lines.Get(), 2u);
}

TEST(RelayTapTest, TheLargestPacketOfUdpGoes) {
  Sink sink;
  const auto tap = TapTo(sink, 65'507);
  tap->OnLines({}, std::string(65'507, 'x'));
  tap->OnBeat(0);
  EXPECT_THAT(sink.Packets(), ElementsAre(std::string(65'507, 'x')));
}

TEST(RelayTapTest, SendsOverIpv6) {
  Sink sink("[::1]:0");
  const auto tap = TapTo(sink, 1'400);
  tap->OnLines({}, "a:1|c");
  tap->OnBeat(0);
  EXPECT_THAT(sink.Packets(), ElementsAre("a:1|c\n"));
}

TEST(RelayTapTest, NobodyThereMeansDropped) {
  Sink sink;
  const auto tap = TapTo(sink, 10);
  sink.Close();
  for (int i = 0; i < 100; ++i) tap->OnLines({}, "a:1|c\nb:1|c");
  tap->OnBeat(0);
  EXPECT_EQ(tap->counts().dropped_lines.Get(), 200u);
  EXPECT_EQ(tap->counts().lines.Get(), 0u);
  EXPECT_EQ(tap->counts().packets.Get(), 0u);
}

TEST(RelayTapTest, ATargetThatComesBackGetsTheNextPacket) {
  Sink sink;
  const std::string address = sink.address();
  const auto tap = TapTo(sink, 1'400);
  sink.Close();
  tap->OnLines({}, "lost:1|c");
  tap->OnBeat(0);
  Sink again(address);
  tap->OnLines({}, "a:1|c");
  tap->OnBeat(0);
  EXPECT_THAT(again.Packets(), ElementsAre("a:1|c\n"));
  EXPECT_EQ(tap->counts().dropped_lines.Get(), 1u);
  EXPECT_EQ(tap->counts().lines.Get(), 1u);
}

TEST(RelayTapTest, ATargetThatWasNotThereIsTriedAgainSoonAlsoBetweenBeats) {
  Sink sink;
  const std::string address = sink.address();
  const auto tap = TapTo(sink, 6);  // a line a packet
  sink.Close();
  tap->OnLines({}, "a:1|c\nb:1|c\nc:1|c\nd:1|c");
  Sink again(address);
  ::poll(nullptr, 0, static_cast<int>(RelayTap::kRefusedNs / 1'000'000) + 10);
  tap->OnLines({}, "e:1|c\nf:1|c");
  EXPECT_THAT(again.Packets(), ElementsAre("d:1|c\n", "e:1|c\n"));
  tap->OnBeat(0);
  EXPECT_THAT(again.Packets(), ElementsAre("f:1|c\n"));
  EXPECT_EQ(tap->counts().dropped_lines.Get(), 3u);
  EXPECT_EQ(tap->counts().lines.Get(), 3u);
}

TEST(RelayTapTest, EveryLineIsAccountedForWhateverTheLengths) {
  Sink sink;
  const auto tap = TapTo(sink, 100);
  uint64_t lines = 0;
  for (size_t length = 1; length < 150; ++length) {
    const std::string line(length, 'x');
    tap->OnLines({}, absl::StrCat(line, "\n\n", line));
    lines += 2;
  }
  tap->OnBeat(0);
  EXPECT_EQ(Accounted(*tap), lines);
  EXPECT_EQ(tap->counts().long_lines.Get(), 98u);
  uint64_t received = 0;
  for (const std::string& packet : sink.Packets()) {
    EXPECT_LE(packet.size(), 100u);
    received += static_cast<uint64_t>(std::count(packet.begin(), packet.end(), '\n'));
    received += packet.back() == '\n' ? 0 : 1;
  }
  EXPECT_EQ(received, tap->counts().lines.Get());
}

TEST(RelayTest, HasATapForEachShardAndAddsThemUp) {
  Sink sink;
  Loop loop;
  Relay relay(sink.address(), 1'400, 3);
  ASSERT_EQ(relay.Start(&loop), absl::OkStatus());
  ASSERT_EQ(relay.taps().size(), 3u);
  for (const auto& tap : relay.taps()) {
    tap->OnLines({}, absl::StrCat("a:1|c\n", std::string(1'401, 'x')));
    tap->OnBeat(0);
  }
  const Relay::Totals totals = relay.totals();
  EXPECT_EQ(totals.packets, 3u);
  EXPECT_EQ(totals.lines, 3u);
  EXPECT_EQ(totals.long_lines, 3u);
  EXPECT_EQ(totals.dropped_lines, 0u);
  EXPECT_EQ(relay.target(), sink.address());
}

TEST(RelayTest, ANameIsLookedUpWhileLinesComeIn) {
  Sink sink;
  const std::string port = sink.address().substr(sink.address().rfind(':'));
  Loop loop;
  const auto work = boost::asio::make_work_guard(loop);
  Relay relay("sink.example" + port, 1'400, 2);
  ASSERT_EQ(relay.Start(&loop,
                        [](const std::string& host) -> absl::StatusOr<NameLookup::Addresses> {
                          EXPECT_EQ(host, "sink.example");
                          return NameLookup::Addresses{boost::asio::ip::make_address("127.0.0.1")};
                        }),
            absl::OkStatus());
  relay.taps()[0]->OnLines({}, "early:1|c\n");
  relay.taps()[0]->OnBeat(0);
  EXPECT_EQ(relay.totals().dropped_lines, 1u);
  loop.run_one_for(std::chrono::seconds(10));
  for (const auto& tap : relay.taps()) {
    tap->OnLines({}, "late:1|c\n");
    tap->OnBeat(0);
  }
  EXPECT_EQ(relay.totals().lines, 2u);
  relay.Stop();
}

// As where the network is not up yet. Broadcasts need leave that nobody asks for.
TEST(RelayTest, AnAddressThatCannotBeReachedYetCostsItsLinesOnly) {
  Loop loop;
  Relay relay("255.255.255.255:8125", 1'400, 1);
  ASSERT_EQ(relay.Start(&loop), absl::OkStatus());
  relay.taps()[0]->OnLines({}, "a:1|c\nb:1|c\n");
  relay.taps()[0]->OnBeat(0);
  EXPECT_EQ(relay.totals().dropped_lines, 2u);
  EXPECT_EQ(relay.totals().lines, 0u);
  relay.Stop();
}

TEST(RelayTest, ATapThatIsConnectedStaysSo) {
  Sink sink;
  Sink other;
  RelayTap tap(1'400);
  ASSERT_EQ(tap.Connect(SocketAddress::ParseNumeric(sink.address()).value()), absl::OkStatus());
  ASSERT_EQ(tap.Connect(SocketAddress::ParseNumeric(other.address()).value()), absl::OkStatus());
  tap.OnLines({}, "a:1|c\n");
  tap.OnBeat(0);
  EXPECT_THAT(sink.Packets(), ElementsAre("a:1|c\n"));
  EXPECT_THAT(other.Packets(), IsEmpty());
}

TEST(RelayTest, ATargetWithoutAnAddressCostsItsLinesOnly) {
  Loop loop;
  const auto work = boost::asio::make_work_guard(loop);
  Relay relay("sink.example:1", 1'400, 1);
  ASSERT_EQ(relay.Start(&loop,
                        [](const std::string&) -> absl::StatusOr<NameLookup::Addresses> {
                          return absl::UnavailableError("no name server");
                        }),
            absl::OkStatus());
  loop.run_one_for(std::chrono::seconds(10));
  relay.taps()[0]->OnLines({}, "a:1|c\nb:1|c\n");
  relay.taps()[0]->OnBeat(0);
  EXPECT_EQ(relay.totals().dropped_lines, 2u);
  relay.Stop();
}

}  // namespace
}  // namespace tallyd
