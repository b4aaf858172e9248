// Which of many literals occur in a text, in one pass over the text (Aho and Corasick, 1975).

#ifndef TALLYD_CORE_RULES_LITERAL_SCANNER_H_
#define TALLYD_CORE_RULES_LITERAL_SCANNER_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"

namespace tallyd {

// Immutable and therefore thread-safe.
class LiteralScanner {
 public:
  // The literals are distinct and not empty. Memory is some 40 bytes for each of their bytes.
  explicit LiteralScanner(const std::vector<std::string>& literals);

  // The numbers of the literals that occur in `text`, each once, in no order.
  std::vector<int> Find(std::string_view text) const;

 private:
  static constexpr uint32_t kRoot = 0;
  static constexpr uint32_t kNone = ~0U;

  // What has been read at a state is the text on the way to it from the root.
  struct State {
    uint32_t fallback = kRoot;        // the longest end of what was read that begins a literal
    uint32_t shorter_ending = kNone;  // the longest such end that is a whole literal
    int literal = -1;                 // what was read is this literal
  };

  uint32_t Child(uint32_t state, char c) const;
  uint32_t Next(uint32_t state, char c) const;

  std::vector<State> states_;
  absl::flat_hash_map<uint64_t, uint32_t> children_;  // by state and byte
};

}  // namespace tallyd

#endif  // TALLYD_CORE_RULES_LITERAL_SCANNER_H_
