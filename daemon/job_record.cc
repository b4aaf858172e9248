#include "daemon/job_record.h"

#include <array>
#include <cstdint>
#include <utility>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "core/expose/text.h"

namespace tallyd {
namespace {

struct FamilyHelp {
  const char* name;
  const char* help;
};

constexpr std::array<FamilyHelp, 6> kFamilies = {{
    {kJobRunning, "Whether the job is running."},
    {kJobStarted, "When the job was last started, in Unix time."},
    {kJobDuration, "How long the job ran."},
    {kJobExitCode,
     "The job's exit code; 128 and the signal's number, if it was killed; -1 if nobody knows."},
    {kJobSuccess, "Whether the job's exit code was 0."},
    {kJobLastSuccess, "When the job last ended with exit code 0, in Unix time."},
}};

// The file is lines of words: a first one that names its version, then for each job
//
//   job TTL_MS UNTIL_MS     milliseconds, of Unix time the second; -1: for ever
//   label NAME VALUE        the rest of the line: no value has a line feed
//   value FAMILY NUMBER
//
// and at the end `sum` and the XXH3 hash of all that is before it.
constexpr char kMagic[] = "tallyd-jobs ";
constexpr char kVersion[] = "1";
constexpr int64_t kForEver = -1;

std::string SumLine(std::string_view bytes) {
  return absl::StrCat("sum ", absl::Hex(XXH3_64bits(bytes.data(), bytes.size())), "\n");
}

// Takes the first word of `line`, and the blank behind it.
absl::string_view TakeWord(absl::string_view* line) {
  const size_t end = line->find(' ');
  const absl::string_view word = line->substr(0, end);
  line->remove_prefix(end == absl::string_view::npos ? line->size() : end + 1);
  return word;
}

bool ReadJob(absl::string_view words, JobRecord* job) {
  int64_t ttl_ms = 0;
  int64_t until_ms = 0;
  if (!absl::SimpleAtoi(TakeWord(&words), &ttl_ms) || ttl_ms < 0) return false;
  if (!absl::SimpleAtoi(TakeWord(&words), &until_ms)) return false;
  job->ttl = absl::Milliseconds(ttl_ms);
  job->until = until_ms == kForEver ? absl::InfiniteFuture() : absl::FromUnixMillis(until_ms);
  return true;
}

bool ReadValue(absl::string_view words, JobValues* values) {
  const absl::string_view name = TakeWord(&words);
  return absl::SimpleAtod(words, &(*values)[std::string(name)]);
}

bool ReadLine(absl::string_view line, std::vector<JobRecord>* jobs) {
  const absl::string_view kind = TakeWord(&line);
  if (kind == "job") return ReadJob(line, &jobs->emplace_back());
  if (jobs->empty()) return false;
  if (kind == "value") return ReadValue(line, &jobs->back().values);
  if (kind != "label") return false;
  const absl::string_view name = TakeWord(&line);
  jobs->back().labels[std::string(name)] = std::string(line);
  return true;
}

}  // namespace

PushedFamilies JobFamilies(const JobValues& values) {
  PushedFamilies families;
  for (const auto& [name, help] : kFamilies) {
    const auto found = values.find(name);
    if (found == values.end()) continue;
    PushedFamily& family = families[name];
    family.type = FamilyType::kGauge;
    family.help = help;
    family.metrics.emplace_back().value = found->second;
  }
  return families;
}

bool JobRecord::running() const {
  const auto found = values.find(kJobRunning);
  return found != values.end() && found->second == 1;
}

std::string EncodeJobs(const std::vector<JobRecord>& jobs) {
  std::string bytes = absl::StrCat(kMagic, kVersion, "\n");
  for (const JobRecord& job : jobs) {
    const bool ends = job.until != absl::InfiniteFuture();
    absl::StrAppend(&bytes, "job ", absl::ToInt64Milliseconds(job.ttl), " ",
                    ends ? absl::ToUnixMillis(job.until) : kForEver, "\n");
    for (const auto& [name, value] : job.labels) {
      absl::StrAppend(&bytes, "label ", name, " ", value, "\n");
    }
    for (const auto& [name, value] : job.values) {
      absl::StrAppend(&bytes, "value ", name, " ");
      AppendValue(value, &bytes);
      bytes += '\n';
    }
  }
  return bytes + SumLine(bytes);
}

absl::StatusOr<std::vector<JobRecord>> DecodeJobs(std::string_view bytes_untrusted) {
  absl::string_view text(bytes_untrusted.data(), bytes_untrusted.size());
  if (!absl::ConsumePrefix(&text, kMagic)) return absl::DataLossError("no file of jobs");
  if (!absl::StartsWith(text, absl::StrCat(kVersion, "\n"))) {
    return absl::UnimplementedError("another version wrote it");
  }
  const size_t sum = bytes_untrusted.rfind("sum ");
  if (sum == std::string_view::npos ||
      bytes_untrusted.substr(sum) != SumLine(bytes_untrusted.substr(0, sum))) {
    return absl::DataLossError("the checksum is another");
  }
  std::vector<JobRecord> jobs;
  text.remove_suffix(bytes_untrusted.size() - sum);
  std::vector<absl::string_view> lines = absl::StrSplit(text, '\n', absl::SkipEmpty());
  for (size_t i = 1; i < lines.size(); ++i) {
    if (!ReadLine(lines[i], &jobs)) {
      return absl::DataLossError(absl::StrCat("line ", i + 1, " cannot be read"));
    }
  }
  return jobs;
}

}  // namespace tallyd
