// `tallyctl migrate check`: captured lines, read by both, and every difference that a user of
// statsd_exporter would see.

#ifndef TALLYD_DAEMON_MIGRATE_CHECK_H_
#define TALLYD_DAEMON_MIGRATE_CHECK_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/shard/family_types.h"
#include "daemon/explain.h"
#include "daemon/peer_differences.h"
#include "daemon/peer_reading.h"

namespace tallyd {

// The differences of one category.
struct MigrateFinding {
  PeerCategory category = PeerCategory::kAcceptedHere;
  uint64_t lines = 0;
  // The first of them.
  uint64_t line_number = 0;
  std::string line;  // at most kMaxExampleBytes of it
  PeerDifference first;
};

// Something of the mapping file itself.
struct MappingFinding {
  PeerCategory category = PeerCategory::kLegacyKey;
  int line = 0;         // of the file; 0: the file as a whole
  std::string message;  // a clause
};

struct MigrateReport {
  std::string mapping_file;
  size_t rules = 0;
  bool mapping_loaded = true;
  std::vector<MappingFinding> mapping;

  bool replayed = false;  // there was a capture
  uint64_t lines = 0;     // read, empty ones and comments not counted
  uint64_t names = 0;     // of these without a value: each was tried as counter, gauge and timer
  uint64_t too_long = 0;  // lines that were skipped
  uint64_t differing_lines = 0;
  uint64_t samples_here = 0;  // that count; of names alone none
  uint64_t samples_there = 0;
  uint64_t series_here = 0;
  uint64_t series_there = 0;
  bool complete = true;  // false: so many names that conflicts and series were not all seen
  std::vector<MigrateFinding> findings;

  bool differs() const { return !mapping.empty() || !findings.empty(); }
};

// Takes one line after the other; its memory does not grow with their number past a bound.
// Thread-compatible.
class MigrateCheck {
 public:
  static constexpr size_t kMaxExampleBytes = 400;
  // Names and series that are told apart; some 150 MB.
  static constexpr size_t kMaxRemembered = PeerReader::kMaxRemembered;

  static absl::StatusOr<std::unique_ptr<MigrateCheck>> Create(Explainer::Options options);

  // A line as a capture has it, without its LF. Empty lines, and comments, which begin with "# ",
  // are nothing. What has neither ":" nor "|" is a name alone.
  void Add(std::string_view line_untrusted);
  // A line that was too long to be kept.
  void AddTooLong() { ++report_.too_long; }

  MigrateReport Report() const;

 private:
  explicit MigrateCheck(std::unique_ptr<Explainer> explainer);

  void AddName(std::string_view name);
  void Count(const Explanation& ours, const PeerReading& theirs);
  void Compare(const Explanation& ours, const PeerReading& theirs,
               std::array<bool, kPeerCategories>* seen);
  void Note(const PeerDifference& difference, std::string_view line);
  void Finish(const std::array<bool, kPeerCategories>& seen);

  std::unique_ptr<Explainer> explainer_;
  FamilyTypes claims_{4 * kMaxRemembered, 1};  // an observer takes four names
  PeerReader peer_;
  absl::flat_hash_set<uint64_t> series_;
  bool series_full_ = false;
  uint64_t line_number_ = 0;
  MigrateReport report_;
  std::array<MigrateFinding, kPeerCategories> findings_;
};

// What in the mapping itself is not for statsd_exporter what it is here.
std::vector<MappingFinding> CheckMapping(const PeerMapping& mapping);
// A mapping that is not loaded: `error` as LoadMapping has it.
MigrateReport RefusedMapping(const std::string& file, const absl::Status& error);

// For people, 80 columns wide.
std::string MigrateText(const MigrateReport& report);
// One object and a line feed; docs/tallyctl.md has its keys.
std::string MigrateJson(const MigrateReport& report);

}  // namespace tallyd

#endif  // TALLYD_DAEMON_MIGRATE_CHECK_H_
