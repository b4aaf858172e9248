#include "daemon/web/password_check.h"

#include <crypt.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

#include <algorithm>
#include <condition_variable>
#include <cstdlib>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>

namespace tallyd {
namespace {

using Users = std::vector<WebUser>;

// The result of a computation that only takes time.
constexpr char kNobodysHash[] = "$2b$10$njfshhT9jYs7i.R1T.nJcOYWmIWlT4m38so4hxqSem3fA9TvYniDO";

const WebUser* FindUser(const Users& users, const std::string& name) {
  const auto found = std::find_if(users.begin(), users.end(),
                                  [&name](const WebUser& user) { return user.name == name; });
  return found == users.end() ? nullptr : &*found;
}

bool Matches(const std::string& password, const std::string& hash) {
  const auto data = std::make_unique<crypt_data>();
  const char* const computed = ::crypt_r(password.c_str(), hash.c_str(), data.get());
  const bool same = computed != nullptr && std::string_view(computed).size() == hash.size() &&
                    CRYPTO_memcmp(computed, hash.data(), hash.size()) == 0;
  OPENSSL_cleanse(data.get(), sizeof(*data));
  return same;
}

// What an unknown user's password is compared with: "$2b$", two digits of cost, and the rest. With
// any other a dearer user would be known by the time that a guess takes.
std::string DearestHash(const Users& users) {
  const auto dearest =
      std::max_element(users.begin(), users.end(), [](const WebUser& one, const WebUser& other) {
        return one.hash.compare(4, 2, other.hash, 4, 2) < 0;
      });
  return dearest == users.end() ? kNobodysHash : dearest->hash;
}

bool IsSame(const Users& some, const Users& others) {
  return std::equal(some.begin(), some.end(), others.begin(), others.end(),
                    [](const WebUser& one, const WebUser& other) {
                      return one.name == other.name && one.hash == other.hash;
                    });
}

bool IsRight(const Users& users, const std::string& name, const std::string& password) {
  const WebUser* const user = FindUser(users, name);
  const bool same = Matches(password, user == nullptr ? DearestHash(users) : user->hash);
  // bcrypt ends at a NUL; what is behind it would be ignored.
  return user != nullptr && same && password.find('\0') == std::string::npos;
}

struct Question {
  std::string user;
  std::string password;
  std::string digest;
  std::shared_ptr<const Users> users;
  PasswordCheck::Done done;
};

}  // namespace

struct PasswordCheck::Shared {
  // A digest that nobody who reads our memory's addresses, or measures our time, can foresee.
  std::string DigestOf(const std::string& user, const std::string& password) const {
    const std::string text = user + std::string(1, '\0') + password;
    std::string digest(EVP_MAX_MD_SIZE, '\0');
    unsigned size = 0;
    ::HMAC(EVP_sha256(), secret.data(), static_cast<int>(secret.size()),
           reinterpret_cast<const unsigned char*>(text.data()), text.size(),
           reinterpret_cast<unsigned char*>(digest.data()), &size);
    digest.resize(size);
    return digest;
  }

  std::array<unsigned char, 32> secret{};
  std::atomic<uint64_t> computed{0};

  std::mutex mu;  // guards the rest
  std::condition_variable changed;
  std::shared_ptr<const Users> users = std::make_shared<const Users>();
  absl::flat_hash_set<std::string> right;
  absl::flat_hash_set<std::string> wrong;
  std::deque<Question> waiting;
  bool stopping = false;

  void Remember(const Question& question, bool is_right) {
    if (question.users != users) return;  // others have taken their place meanwhile
    absl::flat_hash_set<std::string>& digests = is_right ? right : wrong;
    if (digests.size() >= kMaxRemembered) digests.clear();
    digests.insert(question.digest);
  }
};

PasswordCheck::PasswordCheck() : shared_(std::make_shared<Shared>()) {
  if (::RAND_bytes(shared_->secret.data(), static_cast<int>(shared_->secret.size())) != 1) {
    std::abort();  // a system without randomness has no secrets
  }
  // Not waited for at the end: a hash may take a second.
  std::thread(Run, shared_).detach();
}

PasswordCheck::~PasswordCheck() {
  const std::scoped_lock lock(shared_->mu);
  shared_->stopping = true;
  shared_->waiting.clear();
  shared_->changed.notify_all();
}

void PasswordCheck::SetUsers(std::vector<WebUser> users) {
  const std::scoped_lock lock(shared_->mu);
  if (IsSame(users, *shared_->users)) return;
  shared_->users = std::make_shared<const Users>(std::move(users));
  shared_->right.clear();
  shared_->wrong.clear();
}

void PasswordCheck::Check(const std::string& user_untrusted, const std::string& password_untrusted,
                          Done done) {
  std::string digest = shared_->DigestOf(user_untrusted, password_untrusted);
  Verdict verdict = Verdict::kBusy;
  {
    const std::scoped_lock lock(shared_->mu);
    if (shared_->right.contains(digest)) {
      verdict = Verdict::kRight;
    } else if (shared_->wrong.contains(digest)) {
      verdict = Verdict::kWrong;
    } else if (shared_->waiting.size() < kMaxWaiting) {
      shared_->waiting.push_back(
          {user_untrusted, password_untrusted, std::move(digest), shared_->users, std::move(done)});
      shared_->changed.notify_all();
      return;
    }
  }
  done(verdict);
}

uint64_t PasswordCheck::computed() const {
  return shared_->computed.load(std::memory_order_relaxed);
}

void PasswordCheck::Run(const std::shared_ptr<Shared>& shared) {
  std::unique_lock<std::mutex> lock(shared->mu);
  while (true) {
    shared->changed.wait(lock, [&shared] { return shared->stopping || !shared->waiting.empty(); });
    if (shared->stopping) return;
    Question question = std::move(shared->waiting.front());
    shared->waiting.pop_front();
    // Others may have asked the same meanwhile, and one answer serves them all.
    bool is_right = shared->right.contains(question.digest);
    if (!is_right && !shared->wrong.contains(question.digest)) {
      lock.unlock();
      is_right = IsRight(*question.users, question.user, question.password);
      shared->computed.fetch_add(1, std::memory_order_relaxed);
      lock.lock();
      shared->Remember(question, is_right);
    }
    OPENSSL_cleanse(question.password.data(), question.password.size());
    if (shared->stopping) return;
    question.done(is_right ? Verdict::kRight : Verdict::kWrong);
  }
}

}  // namespace tallyd
