// The flags: one table, from which the command line, the configuration file and the help are read.

#ifndef TALLYD_DAEMON_FLAGS_H_
#define TALLYD_DAEMON_FLAGS_H_

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "daemon/nearest_name.h"

namespace tallyd {

enum class FlagKind {
  kText,       // one value
  kPath,       // one value; in the configuration file relative to its folder
  kBool,       // switched off by --no-
  kAddresses,  // repeatable; host:port
  kPaths,      // repeatable; relative as kPath
  kRecords,    // a list of maps, in the configuration file alone
};

enum class FlagGroup {
  kListening,
  kTags,
  kLimits,
  kRelay,
  kPush,
  kWeb,
  kPushed,
  kAggregation,
  kState,
  kGeneral,
  kForeign
};

struct FlagSpec {
  const char* name;  // without the dashes: "statsd.listen-udp"
  FlagKind kind;
  FlagGroup group;
  const char* value;  // as help calls it: "ADDRESS"; empty for kBool
  const char* help;
  // Where it may be given: some have a meaning on the command line only.
  bool in_file = true;
  // Entries may carry a dialect: "?dialect=dogstatsd".
  bool has_dialect = false;

  bool repeats() const { return kind == FlagKind::kAddresses || kind == FlagKind::kPaths; }
};

// All flags, in the order of the help.
const std::vector<FlagSpec>& AllFlags();
// Null if there is none of this name.
const FlagSpec* FindFlag(std::string_view name);

// What a flag was given, and where: "--merge.interval", "tallyd.yaml:12: merge.interval".
struct FlagValue {
  std::string text;  // "true" or "false" of kBool
  std::string origin;
  // Of kRecords, whose values are the leaves of the list: the number of the record and the keys
  // that lead to the leaf. Each record begins with a value that has only its number, and no text.
  std::vector<std::string> keys = {};
};

// By name. A flag that was not given is not in it. One value, or any number if it repeats; none
// switches a list off.
using FlagValues = std::map<std::string, std::vector<FlagValue>, std::less<>>;

// Reads the command line without the program's name.
absl::StatusOr<FlagValues> ReadCommandLine(const std::vector<std::string>& arguments);

std::string HelpText();

}  // namespace tallyd

#endif  // TALLYD_DAEMON_FLAGS_H_
