// floor-ingest: the straightforward daemon without anything else. Receives datagrams, finds the
// lines, parses, hashes, looks up and adds; prints its account as JSON at the end. Its CPU per line
// is the honest floor: all the steps in one program, with one cache between them.

#include <cstdint>
#include <cstdio>
#include <string>

#include "absl/strings/str_format.h"
#include "bench/floor/lines.h"
#include "bench/floor/receiver.h"
#include "bench/floor/table.h"

namespace tallyd::bench {
namespace {

struct Ingest {
  void operator()(absl::string_view payload) {
    ForEachLine(payload, [this](absl::string_view line) {
      ++lines;
      ParsedLine parsed;
      if (ParseLine(line, &parsed)) {
        table.Add(parsed);
      } else {
        ++bad_lines;
      }
    });
  }

  FloorTable table;
  uint64_t lines = 0;
  uint64_t bad_lines = 0;
};

std::string IngestJson(const Ingest& ingest, const ReceiverAccount& account) {
  const double lines = ingest.lines > 0 ? static_cast<double>(ingest.lines) : 1;
  return absl::StrFormat(
      R"({%s,"lines":%d,"bad_lines":%d,"series":%d,"total":%.17g,"cpu_ns_per_line":%.2f,)"
      R"("cpu_user_ns_per_line":%.2f,"cpu_sys_ns_per_line":%.2f})",
      ReceiverJson(account), ingest.lines, ingest.bad_lines, ingest.table.size(),
      ingest.table.Total(), (account.cpu_user_ns + account.cpu_sys_ns) / lines,
      account.cpu_user_ns / lines, account.cpu_sys_ns / lines);
}

}  // namespace
}  // namespace tallyd::bench

int main(int argc, char** argv) {
  using namespace tallyd::bench;  // NOLINT: this file is the program
  Receiver receiver(ReceiverOptionsFromFlags("Receives lines and adds them up.", argc, argv));
  Ingest ingest;
  const ReceiverAccount account = receiver.Run(ingest);
  std::printf("%s\n", IngestJson(ingest, account).c_str());
}
