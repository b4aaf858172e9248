// What must hold, whatever comes.

#ifndef TALLYD_TESTS_FUZZ_CHECK_H_
#define TALLYD_TESTS_FUZZ_CHECK_H_

#include <cstdio>
#include <cstdlib>

namespace tallyd {

inline void Check(bool holds, int line = __builtin_LINE()) {
  if (holds) return;
  std::fprintf(stderr, "the check in line %d\n", line);
  std::abort();
}

}  // namespace tallyd

#endif  // TALLYD_TESTS_FUZZ_CHECK_H_
