// Compares passwords with their hashes, on a thread of its own: bcrypt is slow on purpose.

#ifndef TALLYD_DAEMON_WEB_PASSWORD_CHECK_H_
#define TALLYD_DAEMON_WEB_PASSWORD_CHECK_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "daemon/web/web_config.h"

namespace tallyd {

// What was found right or wrong is remembered, so that a scraper costs one bcrypt and not one a
// scrape. Remembered are keyed digests, not passwords; right and wrong ones have a bound each, so
// that guesses do not push out those who know. An unknown user costs what the dearest user's does.
//
// Invariant: one hash is computed at a time, and at most kMaxWaiting wait for it; more are told to
// come back. Thread-safe, but for the destructor.
class PasswordCheck {
 public:
  enum class Verdict : uint8_t { kRight, kWrong, kBusy };
  // Called once, by the caller of Check or by the thread that computes; it must not wait. Not
  // called any more once the destructor has begun.
  using Done = std::function<void(Verdict)>;

  static constexpr size_t kMaxWaiting = 32;
  static constexpr size_t kMaxRemembered = 100;

  PasswordCheck();
  ~PasswordCheck();
  PasswordCheck(const PasswordCheck&) = delete;
  PasswordCheck& operator=(const PasswordCheck&) = delete;

  // From now on. If they are others than before, what was remembered is forgotten.
  void SetUsers(std::vector<WebUser> users);
  void Check(const std::string& user_untrusted, const std::string& password_untrusted, Done done);

  // Hashes that were computed.
  uint64_t computed() const;

 private:
  struct Shared;
  static void Run(const std::shared_ptr<Shared>& shared);

  const std::shared_ptr<Shared> shared_;
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_WEB_PASSWORD_CHECK_H_
