// The words of a PromQL expression, one after another.

#ifndef TALLYD_DAEMON_CATALOG_PROMQL_SCANNER_H_
#define TALLYD_DAEMON_CATALOG_PROMQL_SCANNER_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace tallyd {

// A place in a text. Every method first skips blanks and comments, and moves on only over what it
// accepts. Thread-compatible; the text must outlive it.
class PromqlScanner {
 public:
  explicit PromqlScanner(std::string_view text) : text_(text) {}

  bool AtEnd();
  // The text here begins with `sign`; of letters, it must be the whole word, in any case.
  bool Sees(std::string_view sign);
  bool Accept(std::string_view sign);
  // Letters, digits, "_" and ":", not beginning with a digit; empty if there is none.
  std::string Word();
  std::string PeekWord();
  std::optional<double> Number();
  std::optional<std::string> QuotedText();
  // Milliseconds, or PromqlExpr::kVariableRange.
  std::optional<int64_t> Duration();
  // For messages: what stands before this place.
  std::string Before() const;

 private:
  void SkipBlanks();

  std::string_view text_;
  size_t at_ = 0;
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_CATALOG_PROMQL_SCANNER_H_
