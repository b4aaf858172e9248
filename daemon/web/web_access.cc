#include "daemon/web/web_access.h"

#include <prometheus/counter.h>
#include <sys/stat.h>

#include <boost/asio/post.hpp>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "daemon/clock.h"
#include "daemon/log.h"
#include "daemon/web/server_tls.h"

namespace tallyd {
namespace {

constexpr int64_t kLookAgainNs = 1'000'000'000;
constexpr std::array<const char*, static_cast<size_t>(WebRefusal::kCount)> kRefusalNames = {
    "handshake", "unauthorized", "busy", "foreign_origin"};

// RFC 7617. False if it is anything else.
bool ReadBasic(const std::string& authorization, std::string* user, std::string* password) {
  constexpr absl::string_view kScheme = "Basic ";
  absl::string_view rest = authorization;
  std::string both;
  if (!absl::StartsWithIgnoreCase(rest, kScheme)) return false;
  rest.remove_prefix(kScheme.size());
  if (!absl::Base64Unescape(absl::StripAsciiWhitespace(rest), &both)) return false;
  const size_t colon = both.find(':');
  if (colon == std::string::npos) return false;
  *user = both.substr(0, colon);
  *password = both.substr(colon + 1);
  return true;
}

std::string SignatureOf(const std::string& path) {
  struct stat what {};
  if (path.empty() || ::stat(path.c_str(), &what) != 0) return "-;";
  // The time of change, since rights and owners change no other.
  return absl::StrCat(what.st_dev, ",", what.st_ino, ",", what.st_size, ",", what.st_mtim.tv_sec,
                      ",", what.st_mtim.tv_nsec, ",", what.st_ctim.tv_sec, ",",
                      what.st_ctim.tv_nsec, ";");
}

std::string SignatureOfNamed(const WebConfig& config) {
  std::string signature;
  if (!config.tls.has_value()) return signature;
  for (const std::string& file :
       {config.tls->cert_file, config.tls->key_file, config.tls->client_ca_file}) {
    signature += SignatureOf(file);
  }
  return signature;
}

}  // namespace

absl::StatusOr<WebAccess::Loaded> WebAccess::Load(const std::string& file) {
  Loaded loaded;
  loaded.signature = SignatureOf(file);
  absl::StatusOr<WebConfig> config = LoadWebConfig(file);
  if (!config.ok()) return config.status();
  loaded.config = *std::move(config);
  loaded.signature += SignatureOfNamed(loaded.config);
  if (loaded.config.tls.has_value()) {
    auto tls = MakeServerTls(*loaded.config.tls);
    if (!tls.ok()) return tls.status();
    loaded.tls = *std::move(tls);
  }
  return loaded;
}

absl::Status WebAccess::CheckFile(const std::string& file) {
  return file.empty() ? absl::OkStatus() : Load(file).status();
}

absl::StatusOr<std::shared_ptr<WebAccess>> WebAccess::Open(boost::asio::io_context* loop,
                                                           const std::string& file,
                                                           prometheus::Registry* registry) {
  std::shared_ptr<WebAccess> access(new WebAccess(loop, file, registry));
  if (file.empty()) return access;
  absl::StatusOr<Loaded> loaded = Load(file);
  if (!loaded.ok()) return loaded.status();
  access->Use(*std::move(loaded));
  return access;
}

WebAccess::WebAccess(boost::asio::io_context* loop, std::string file,
                     prometheus::Registry* registry)
    : loop_(loop), file_(std::move(file)) {
  auto& refused = prometheus::BuildCounter()
                      .Name("tallyd_refused_http_clients_total")
                      .Help("HTTP connections and requests that were turned away, by the reason.")
                      .Register(*registry);
  for (size_t i = 0; i < refused_.size(); ++i) {
    refused_[i] = &refused.Add({{"reason", kRefusalNames[i]}});
  }
  auto& reloads = prometheus::BuildCounter()
                      .Name("tallyd_web_config_reloads_total")
                      .Help("Times that a changed web configuration was read, by what came of it.")
                      .Register(*registry);
  reload_successes_ = &reloads.Add({{"outcome", "success"}});
  reload_failures_ = &reloads.Add({{"outcome", "failure"}});
}

void WebAccess::Use(Loaded loaded) {
  config_ = std::move(loaded.config);
  tls_ = std::move(loaded.tls);
  signature_ = std::move(loaded.signature);
  headers_ = std::make_shared<const Headers>(config_.headers);
  if (!config_.users.empty() && passwords_ == nullptr) {
    passwords_ = std::make_unique<PasswordCheck>();
  }
  if (passwords_ != nullptr) passwords_->SetUsers(config_.users);
}

absl::StatusOr<WebAccess::Loaded> WebAccess::LoadAgain() const {
  absl::StatusOr<Loaded> loaded = Load(file_);
  if (!loaded.ok()) return loaded;
  if (loaded->config.tls.has_value() != config_.tls.has_value()) {
    return absl::InvalidArgumentError("TLS begins and ends with a start, not with a reload");
  }
  // A file that is being written may be empty for a moment.
  if (loaded->config.users.empty() && !config_.users.empty()) {
    return absl::InvalidArgumentError("passwords end with a start, not with a reload");
  }
  return loaded;
}

void WebAccess::LookAgain() {
  const int64_t now_ns = MonotonicNs();
  if (file_.empty() || now_ns - looked_ns_ < kLookAgainNs) return;
  looked_ns_ = now_ns;
  const std::string signature = SignatureOf(file_) + SignatureOfNamed(config_);
  if (signature == signature_) return;
  absl::StatusOr<Loaded> loaded = LoadAgain();
  if (!loaded.ok()) return OnUnusable(signature, loaded.status());
  Use(*std::move(loaded));
  unusable_.clear();
  reload_successes_->Increment();
  LogInfo("the web configuration was read again", {{"file", file_}});
}

// What it lacks may come without a change to the files that we know, so it is tried again and
// again; it is worth saying once.
void WebAccess::OnUnusable(const std::string& signature, const absl::Status& why) {
  std::string unusable = absl::StrCat(signature, why.message());
  if (unusable == unusable_) return;
  unusable_ = std::move(unusable);
  reload_failures_->Increment();
  LogError("the web configuration cannot be used, the former one stays",
           {{"file", file_}, {"error", std::string(why.message())}});
}

std::shared_ptr<boost::asio::ssl::context> WebAccess::TlsForConnection() {
  LookAgain();
  return tls_;
}

void WebAccess::Authorize(const std::string& authorization_untrusted,
                          std::function<void(Verdict)> done) {
  if (config_.users.empty()) return done(Verdict::kRight);
  std::string user;
  std::string password;
  if (passwords_ == nullptr) return done(Verdict::kBusy);
  if (!ReadBasic(authorization_untrusted, &user, &password)) return done(Verdict::kWrong);
  passwords_->Check(user, password, [loop = loop_, done = std::move(done)](Verdict verdict) {
    boost::asio::post(*loop, [done, verdict] { done(verdict); });
  });
}

void WebAccess::CountRefused(WebRefusal why) { refused_[static_cast<size_t>(why)]->Increment(); }

}  // namespace tallyd
