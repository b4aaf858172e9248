#include "daemon/log.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "daemon/log_limit.h"
#include "daemon/log_writer.h"

namespace tallyd {
namespace {

using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr char kTime[] = "2026-01-02T03:04:05.678Z";

// What does not wait takes no time, but the machine may be busy.
constexpr absl::Duration kNotForEver = absl::Seconds(10);

std::string Logfmt(const std::string& message, const LogFields& fields) {
  return FormatLogLine(LogFormat::kLogfmt, LogLevel::kWarn, kTime, message, fields);
}

TEST(LogLineTest, LogfmtQuotesWhatItMust) {
  EXPECT_EQ(Logfmt("a message", {{"plain", "x-1.5"}, {"spaced", "a b"}, {"empty", ""}}),
            "ts=2026-01-02T03:04:05.678Z level=warn msg=\"a message\" plain=x-1.5 spaced=\"a b\" "
            "empty=\"\"");
  EXPECT_THAT(Logfmt("m", {{"x", "a=\"b\"\\"}}), EndsWith(R"(x="a=\"b\"\\")"));
}

TEST(LogLineTest, ALineIsOneLine) {
  const std::string nasty = "two\nlines\r\tand \x01 \x7F \x1B[31m";
  EXPECT_EQ(Logfmt(nasty, {{"x", nasty}}).find('\n'), std::string::npos);
  EXPECT_EQ(FormatLogLine(LogFormat::kJson, LogLevel::kInfo, kTime, nasty, {{"x", nasty}})
                .find_first_of("\n\r\x1B"),
            std::string::npos);
}

TEST(LogLineTest, JsonHasEveryField) {
  EXPECT_EQ(FormatLogLine(LogFormat::kJson, LogLevel::kError, kTime, "m \"q\"", {{"k", "v"}}),
            R"({"ts":"2026-01-02T03:04:05.678Z","level":"error","msg":"m \"q\"","k":"v"})");
}

TEST(LogLineTest, AnEndlessTextIsCutBetweenCharacters) {
  std::string endless;
  while (endless.size() < 2 * kMaxLogTextBytes) endless += "\u20AC";
  const std::string line = Logfmt("m", {{"x", endless}});
  EXPECT_LT(line.size(), kMaxLogTextBytes + 200);
  EXPECT_THAT(line, EndsWith("\u20AC...\""));
}

TEST(LogPriorityTest, LevelsAreThoseOfSyslog) {
  EXPECT_STREQ(JournalPriority(LogLevel::kDebug), "<7>");
  EXPECT_STREQ(JournalPriority(LogLevel::kInfo), "<6>");
  EXPECT_STREQ(JournalPriority(LogLevel::kWarn), "<4>");
  EXPECT_STREQ(JournalPriority(LogLevel::kError), "<3>");
}

// A pipe whose writing end is the log's, and may block.
class Pipe {
 public:
  Pipe() {
    EXPECT_EQ(::pipe2(ends_.data(), O_CLOEXEC), 0);
    ::fcntl(ends_[0], F_SETFL, O_NONBLOCK);
  }
  // The writing end stays open: a writer that was left behind may look at it once more, and shall
  // not find the next test's pipe under its number.
  ~Pipe() { CloseReader(); }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;

  int writer() const { return ends_[1]; }
  void CloseReader() {
    if (ends_[0] >= 0) ::close(std::exchange(ends_[0], -1));
  }
  // Returns how many bytes it took.
  size_t Fill() {
    const int flags = ::fcntl(ends_[1], F_GETFL);
    ::fcntl(ends_[1], F_SETFL, flags | O_NONBLOCK);
    const std::string page(4096, '.');
    size_t taken = 0;
    for (ssize_t n = 0; (n = ::write(ends_[1], page.data(), page.size())) > 0;) taken += n;
    ::fcntl(ends_[1], F_SETFL, flags);
    return taken;
  }
  // Until something is in it, which stays there.
  bool AwaitSome() const {
    pollfd readable{.fd = ends_[0], .events = POLLIN, .revents = 0};
    return ::poll(&readable, 1, 10'000) == 1;
  }
  // Exactly so many bytes, or fewer if they do not come within 10 s.
  std::string ReadBytes(size_t count) {
    std::string all(count, '\0');
    size_t have = 0;
    while (have < count && AwaitSome()) {
      const ssize_t n = ::read(ends_[0], all.data() + have, count - have);
      if (n > 0) have += static_cast<size_t>(n);
    }
    all.resize(have);
    return all;
  }
  // What is in it now, and what comes meanwhile.
  std::string Read() {
    std::string all;
    std::array<char, 65536> some{};
    for (ssize_t n = 0; (n = ::read(ends_[0], some.data(), some.size())) > 0;) {
      all.append(some.data(), static_cast<size_t>(n));
    }
    return all;
  }
  // Reads until `text` has come, for at most 10 s.
  std::string ReadUntil(const std::string& text) {
    std::string all;
    const absl::Time end = absl::Now() + absl::Seconds(10);
    while (all.find(text) == std::string::npos && absl::Now() < end) {
      all += Read();
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return all;
  }

 private:
  std::array<int, 2> ends_{-1, -1};
};

TEST(JournalTest, IsWhatTheEnvironmentNames) {
  const Pipe pipe;
  struct stat what {};
  ASSERT_EQ(::fstat(pipe.writer(), &what), 0);
  const std::string stream = absl::StrCat(what.st_dev, ":", what.st_ino);
  EXPECT_TRUE(IsJournal(stream.c_str(), pipe.writer()));
  EXPECT_FALSE(IsJournal(absl::StrCat(what.st_dev, ":", what.st_ino + 1).c_str(), pipe.writer()));
  EXPECT_FALSE(IsJournal(absl::StrCat(what.st_dev + 1, ":", what.st_ino).c_str(), pipe.writer()));
  for (const char* not_one : {"", ":", "8", "8:", "x:y", "8:9:10"}) {
    EXPECT_FALSE(IsJournal(not_one, pipe.writer())) << not_one;
  }
  EXPECT_FALSE(IsJournal(nullptr, pipe.writer()));
}

TEST(LogWriterTest, WritesInOrderAndAllOfItAtTheEnd) {
  Pipe pipe;
  LogWriter writer(pipe.writer());
  std::string expected;
  for (int i = 0; i < 100; ++i) {
    const std::string line = absl::StrCat("line ", i, "\n");
    writer.Write(line);
    expected += line;
  }
  EXPECT_TRUE(writer.Stop(absl::Seconds(10)));
  EXPECT_EQ(pipe.Read(), expected);
}

TEST(LogWriterTest, AFullPipeCostsTheOldestLinesAndNoTime) {
  Pipe pipe;
  const size_t filled = pipe.Fill();
  LogWriter writer(pipe.writer());
  const absl::Time start = absl::Now();
  constexpr size_t kLines = LogWriter::kMaxLines + 100;
  for (size_t i = 0; i < kLines; ++i) writer.Write(absl::StrCat("line ", i, ".\n"));
  EXPECT_LT(absl::Now() - start, kNotForEver);
  EXPECT_EQ(writer.lost_to_full_queue(), 100U);
  // No more than what filled it: the writer goes on as soon as there is room.
  EXPECT_EQ(pipe.ReadBytes(filled), std::string(filled, '.'));
  // Once somebody reads again, what was kept comes, in order.
  const std::string kept = pipe.ReadUntil(absl::StrCat("line ", kLines - 1, "."));
  EXPECT_THAT(kept, StartsWith("line 100.\nline 101.\n"));
  EXPECT_TRUE(writer.Stop(absl::Seconds(10)));
}

TEST(LogWriterTest, LongLinesAreBoundedByTheirBytes) {
  Pipe pipe;
  pipe.Fill();
  LogWriter writer(pipe.writer());
  const std::string half(LogWriter::kMaxBytes / 2, 'x');
  for (int i = 0; i < 5; ++i) writer.Write(half);
  EXPECT_EQ(writer.lost_to_full_queue(), 3U);
}

TEST(LogWriterTest, StoppingDoesNotWaitForAFullPipe) {
  Pipe pipe;
  pipe.Fill();
  LogWriter writer(pipe.writer());
  writer.Write("never read\n");
  const absl::Time start = absl::Now();
  EXPECT_FALSE(writer.Stop(absl::Milliseconds(200)));
  EXPECT_LT(absl::Now() - start, kNotForEver);
}

TEST(LogWriterTest, StoppingDoesNotWaitForAWriteThatHangs) {
  Pipe pipe;
  LogWriter writer(pipe.writer());
  // More than a pipe takes, so that the thread sits in the write.
  writer.Write(std::string(1 << 20, 'x'));
  ASSERT_TRUE(pipe.AwaitSome());
  const absl::Time start = absl::Now();
  EXPECT_FALSE(writer.Stop(absl::Milliseconds(200)));
  EXPECT_LT(absl::Now() - start, kNotForEver);
  pipe.CloseReader();  // which ends the write
}

TEST(LogWriterTest, AReaderThatIsGoneIsNoSignal) {
  Pipe pipe;
  pipe.CloseReader();
  LogWriter writer(pipe.writer());
  writer.Write("a\n");
  writer.Write("b\n");
  EXPECT_TRUE(writer.Stop(absl::Seconds(10)));
  EXPECT_EQ(writer.lost_to_failed_write(), 2U);
}

TEST(LogWriterTest, AFullDiskIsCounted) {
  const int full = ::open("/dev/full", O_WRONLY | O_CLOEXEC);
  ASSERT_GE(full, 0);
  {
    LogWriter writer(full);
    writer.Write("a\n");
    EXPECT_TRUE(writer.Stop(absl::Seconds(10)));
    EXPECT_EQ(writer.lost_to_failed_write(), 1U);
  }
  ::close(full);
}

TEST(LogWriterTest, ANonBlockingPipeLosesNothing) {
  Pipe pipe;
  ::fcntl(pipe.writer(), F_SETFL, O_NONBLOCK);
  LogWriter writer(pipe.writer());
  const std::string longer_than_a_pipe(300'000, 'x');
  writer.Write(longer_than_a_pipe + "\n");
  writer.Write("end\n");
  EXPECT_EQ(pipe.ReadUntil("end\n"), longer_than_a_pipe + "\nend\n");
  EXPECT_TRUE(writer.Stop(absl::Seconds(10)));
  EXPECT_EQ(writer.lost_to_failed_write(), 0U);
}

TEST(LogWriterTest, ManyThreadsWrite) {
  Pipe pipe;
  LogWriter writer(pipe.writer());
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&writer] {
      for (int i = 0; i < 50; ++i) writer.Write("x\n");
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(writer.Stop(absl::Seconds(10)));
  EXPECT_EQ(pipe.Read().size(), 400U);
}

constexpr int64_t kSecondNs = 1'000'000'000;

TEST(LogLimitTest, TenLinesOfAKindInAnyMinute) {
  LogLimit limit;
  int let_through = 0;
  // One each second for ten minutes: whichever minute is looked at has ten.
  std::vector<int64_t> when;
  for (int64_t second = 0; second < 600; ++second) {
    if (limit.Take("kind", second * kSecondNs).let_through) {
      ++let_through;
      when.push_back(second);
    }
  }
  EXPECT_EQ(let_through, 100);
  for (size_t i = LogLimit::kLines; i < when.size(); ++i) {
    EXPECT_GE(when[i] - when[i - LogLimit::kLines], 60);
  }
}

TEST(LogLimitTest, WhatWasHeldBackIsSaidByTheNext) {
  LogLimit limit;
  for (int i = 0; i < 25; ++i) limit.Take("kind", 0);
  const LogLimit::Verdict next = limit.Take("kind", LogLimit::kWindowNs);
  EXPECT_TRUE(next.let_through);
  EXPECT_EQ(next.held_back, 15U);
  EXPECT_EQ(limit.Take("kind", LogLimit::kWindowNs).held_back, 0U);
}

TEST(LogLimitTest, KindsDoNotHinderEachOther) {
  LogLimit limit;
  for (int i = 0; i < 25; ++i) limit.Take("chatty", 0);
  EXPECT_TRUE(limit.Take("rare", 0).let_through);
}

TEST(LogLimitTest, MadeUpKindsShareOneAllowance) {
  LogLimit limit;
  size_t let_through = 0;
  for (int i = 0; i < 10'000; ++i) {
    let_through += limit.Take(absl::StrCat("kind ", i), 0).let_through ? 1 : 0;
  }
  EXPECT_EQ(let_through, LogLimit::kMaxKinds + LogLimit::kLines);
}

}  // namespace
}  // namespace tallyd
