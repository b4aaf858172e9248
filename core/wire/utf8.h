// UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing above U+10FFFF.

#ifndef TALLYD_CORE_WIRE_UTF8_H_
#define TALLYD_CORE_WIRE_UTF8_H_

#include <cstddef>
#include <string_view>

namespace tallyd {

// Bytes of the well-formed character at the start of `text`, 0 if there is none.
size_t Utf8CharacterSize(std::string_view text_untrusted);

bool IsUtf8(std::string_view text_untrusted);

}  // namespace tallyd

#endif  // TALLYD_CORE_WIRE_UTF8_H_
