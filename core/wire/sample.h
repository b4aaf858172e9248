// Samples and keys: what a line is taken apart into.

#ifndef TALLYD_CORE_WIRE_SAMPLE_H_
#define TALLYD_CORE_WIRE_SAMPLE_H_

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace tallyd {

// The type as written. `h` and `d` mean the same to us and share this value; `ms` differs by its
// unit, and so is a key of its own that leads to the same series.
enum class SampleType : uint8_t { kCounter = 1, kGauge = 2, kTimer = 3, kHistogram = 4, kSet = 5 };

// What a signed gauge value means (docs/protocol.md): a change, or the value.
enum class Dialect : uint8_t { kStatsd, kDogstatsd };

// The exact identity bytes as sent: type, name with whatever tags stand in it, and the tags.
//
// `tags` is the text of the line's only tag section, as between "|#" and the next "|". Where a line
// has several sections that give labels, each further one follows with its opening, in order:
// "a:1|#b:2|c:id" for two tag sections and a container id, "|c:id" for a container id alone.
//
// Of samples of a session (Shard::ApplyInSession) "|=" and the session's text come last. No line
// can say so: sections that give no labels are not part of a key.
struct KeyView {
  SampleType type;
  std::string_view name;
  std::string_view tags;
  // Name and tags are those of a series as exposed: no rules apply. No sender can say so.
  bool is_literal = false;
};

// What was put right about a sample by itself. (Repairs of its tags are the key's.)
struct SampleRepairs {
  uint16_t bad_rates = 0;         // unreadable rates, which count as 1
  uint16_t unknown_sections = 0;  // sections that were ignored
};

// One value of one metric. The views point into the line, or into the parser's scratch space. The
// byte after the name is the ":" that ended it.
struct Sample {
  SampleType type = SampleType::kCounter;
  bool is_signed = false;   // the value begins with "+" or "-"
  bool is_integer = false;  // `integer` is the exact value
  // Not the first sample that its line yields. Repairs of the name's tags are the line's and count
  // with its first sample; those of tag sections are the sample's and count each time.
  bool continues = false;
  SampleRepairs repairs;
  std::string_view name;
  std::string_view tags;
  uint64_t integer = 0;
  double value = 0;
  double rate = 1;          // as written; 0 and unreadable ones are 1
  std::string_view member;  // of a set
};

// Readable bytes that must follow every buffer given to the parser. They are never interpreted, but
// vector loads may touch them.
inline constexpr size_t kReadPadding = 64;

}  // namespace tallyd

#endif  // TALLYD_CORE_WIRE_SAMPLE_H_
