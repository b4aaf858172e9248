// A mapping file is written by whoever runs the daemon, and reloaded while it serves: any bytes
// must lead to rules or to a message, soon. Names that senders choose are then mapped by whatever
// rules came out.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "core/rules/mapping.h"
#include "daemon/mapping_file.h"
#include "tests/fuzz/check.h"

namespace tallyd {
namespace {

void CheckMessage(const absl::Status& status) {
  Check(status.code() == absl::StatusCode::kInvalidArgument);
  Check(status.message().substr(0, 6) == "f.yml:");
}

// Maps a name as each type, and checks what is promised of the result.
void MapName(const Mapping& mapping, std::string_view name) {
  for (const SampleType type : {SampleType::kCounter, SampleType::kGauge, SampleType::kTimer}) {
    Mapped mapped;
    if (!mapping.Map(name, type, &mapped)) continue;
    const MappingRule& rule = *mapped.rule;
    Check(rule.matched_type == MatchedType::kAny || rule.matched_type == MatchedTypeOf(type));
    Check(rule.drop ? mapped.name.empty() && mapped.labels.empty()
                    : mapped.labels.size() == rule.labels.size());
  }
}

void CheckFile(std::string_view yaml) {
  absl::StatusOr<MappingConfig> config = ParseMapping(yaml, "f.yml");
  if (!config.ok()) return CheckMessage(config.status());
  auto mapping = Mapping::Compile(*std::move(config));
  if (!mapping.ok()) return CheckMessage(mapping.status());
  for (const std::string_view name : {"", ".", "a", "a.b", "a.b.c", "a.*.c", "*", "a..c", "\xff"}) {
    MapName(**mapping, name);
  }
  // Names that fit, most of the time.
  for (const MappingRule& rule : (*mapping)->config().rules) MapName(**mapping, rule.match);
}

}  // namespace
}  // namespace tallyd

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  tallyd::CheckFile({reinterpret_cast<const char*>(data), size});
  return 0;
}
