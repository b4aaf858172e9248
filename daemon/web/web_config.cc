#include "daemon/web/web_config.h"

#include <openssl/ssl.h>
#include <re2/re2.h>

#include <array>
#include <functional>
#include <map>
#include <set>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "core/rules/abseil_view.h"
#include "core/rules/complaints.h"
#include "daemon/push/credentials.h"
#include "daemon/yaml_scalar.h"
#include "daemon/yaml_tree.h"

namespace tallyd {
namespace {

constexpr size_t kMaxNodes = 20'000;

constexpr std::array<std::pair<const char*, ClientAuth>, 5> kClientAuths = {{
    {"NoClientCert", ClientAuth::kNoClientCert},
    {"RequestClientCert", ClientAuth::kRequestClientCert},
    {"RequireAnyClientCert", ClientAuth::kRequireAnyClientCert},
    {"VerifyClientCertIfGiven", ClientAuth::kVerifyClientCertIfGiven},
    {"RequireAndVerifyClientCert", ClientAuth::kRequireAndVerifyClientCert},
}};
constexpr std::array<std::pair<const char*, int>, 4> kVersions = {{
    {"TLS10", TLS1_VERSION},
    {"TLS11", TLS1_1_VERSION},
    {"TLS12", TLS1_2_VERSION},
    {"TLS13", TLS1_3_VERSION},
}};
constexpr std::array<std::pair<const char*, const char*>, 4> kCurves = {{
    {"CurveP256", "P-256"},
    {"CurveP384", "P-384"},
    {"CurveP521", "P-521"},
    {"X25519", "X25519"},
}};
// Those that may be set; others could change what an answer means.
constexpr std::array<const char*, 5> kHeaders = {"Strict-Transport-Security",
                                                 "X-Content-Type-Options", "X-Frame-Options",
                                                 "X-XSS-Protection", "Content-Security-Policy"};

std::string Joined(const std::string& folder, const std::string& path) {
  return path.empty() || path.front() == '/' ? path : folder + path;
}

bool IsHeaderText(std::string_view text) {
  for (const char c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) return false;
  }
  return !text.empty();
}

bool VerifiesClients(ClientAuth auth) {
  return auth == ClientAuth::kVerifyClientCertIfGiven ||
         auth == ClientAuth::kRequireAndVerifyClientCert;
}

class WebConfigReader {
 public:
  WebConfigReader(const YamlTree& tree, const std::string& file, Complaints* complaints)
      : tree_(tree), complaints_(complaints) {
    const size_t slash = file.rfind('/');
    if (slash != std::string::npos) folder_ = file.substr(0, slash + 1);
  }

  WebConfig Read() {
    if (tree_.root().kind == YamlNode::Kind::kNull) return config_;
    ReadMap("", 1, tree_.root(),
            {{"tls_server_config", [this](const Entry& entry) { ReadTls(entry); }},
             {"http_server_config", [this](const Entry& entry) { ReadHttp(entry); }},
             {"basic_auth_users", [this](const Entry& entry) { ReadUsers(entry); }}});
    return config_;
  }

 private:
  struct Entry {
    std::string name;  // with the keys around it
    int line;
    const YamlNode& value;
  };
  using Readers = std::map<std::string, std::function<void(const Entry&)>>;

  void Complain(const Entry& entry, const std::string& text) {
    complaints_->Add(entry.line, entry.name, text);
  }

  // Calls `each` for the entries of a map, whose keys are texts and stand once.
  void ForEach(const std::string& name, int line, const YamlNode& map,
               const std::function<void(const std::string& key, const Entry&)>& each) {
    if (map.kind == YamlNode::Kind::kNull) return;
    if (map.kind != YamlNode::Kind::kMap) {
      complaints_->Add(line, name.empty() ? "the file" : name, "not a map");
      return;
    }
    std::set<std::string> seen;
    for (size_t i = 0; i + 1 < map.children.size(); i += 2) {
      const YamlNode& key = tree_.node(map.children[i]);
      const std::string below = name.empty() ? key.text : absl::StrCat(name, ".", key.text);
      const Entry entry = {below, key.line, tree_.node(map.children[i + 1])};
      if (key.kind != YamlNode::Kind::kScalar) {
        Complain(entry, "a key that is no text");
      } else if (!seen.insert(key.text).second) {
        Complain(entry, "is given twice");
      } else {
        each(key.text, entry);
      }
    }
  }

  void ReadMap(const std::string& name, int line, const YamlNode& map, const Readers& readers) {
    ForEach(name, line, map, [&](const std::string& key, const Entry& entry) {
      const auto reader = readers.find(key);
      if (reader == readers.end()) return Complain(entry, "unknown key");
      reader->second(entry);
    });
  }

  bool Text(const Entry& entry, std::string* text) {
    if (entry.value.kind != YamlNode::Kind::kScalar) {
      Complain(entry, "not a text");
      return false;
    }
    *text = entry.value.text;
    return true;
  }

  void Path(const Entry& entry, std::string* path) {
    if (Text(entry, path)) *path = Joined(folder_, *path);
  }

  void Bool(const Entry& entry, bool* value) {
    const std::optional<bool> read = YamlBool(entry.value);
    if (!read.has_value()) return Complain(entry, "not true or false");
    *value = *read;
  }

  template <typename Names, typename Value>
  void Choice(const Entry& entry, const Names& names, Value* value) {
    std::string text;
    if (!Text(entry, &text)) return;
    std::string known;
    for (const auto& [name, meaning] : names) {
      if (text == name) {
        *value = meaning;
        return;
      }
      absl::StrAppend(&known, known.empty() ? "" : ", ", name);
    }
    Complain(entry, absl::StrCat(View(Quoted(text)), " is none of ", known));
  }

  void Texts(const Entry& entry, const std::function<void(const Entry&)>& each) {
    if (entry.value.kind == YamlNode::Kind::kNull) return;
    if (entry.value.kind != YamlNode::Kind::kSequence) return Complain(entry, "not a list");
    for (const uint32_t child : entry.value.children) {
      const YamlNode& node = tree_.node(child);
      each({entry.name, node.line > 0 ? node.line : entry.line, node});
    }
  }

  void ReadTls(const Entry& section) {
    ServerTlsOptions tls;
    ReadMap(
        section.name, section.line, section.value,
        {{"cert_file", [&](const Entry& entry) { Path(entry, &tls.cert_file); }},
         {"key_file", [&](const Entry& entry) { Path(entry, &tls.key_file); }},
         {"client_ca_file", [&](const Entry& entry) { Path(entry, &tls.client_ca_file); }},
         {"client_auth_type",
          [&](const Entry& entry) { Choice(entry, kClientAuths, &tls.client_auth); }},
         {"min_version", [&](const Entry& entry) { Choice(entry, kVersions, &tls.min_version); }},
         {"max_version", [&](const Entry& entry) { Choice(entry, kVersions, &tls.max_version); }},
         {"cipher_suites",
          [&](const Entry& entry) {
            Texts(entry, [&](const Entry& suite) { ReadCipher(suite, &tls); });
          }},
         {"curve_preferences",
          [&](const Entry& entry) {
            Texts(entry, [&](const Entry& curve) {
              const char* group = nullptr;
              Choice(curve, kCurves, &group);
              if (group != nullptr) tls.groups.emplace_back(group);
            });
          }},
         {"prefer_server_cipher_suites",
          [&](const Entry& entry) { Bool(entry, &tls.prefer_server_ciphers); }}});
    CheckTls(section, tls);
    config_.tls = std::move(tls);
  }

  void ReadCipher(const Entry& suite, ServerTlsOptions* tls) {
    std::string name;
    if (!Text(suite, &name)) return;
    if (std::string_view(OPENSSL_cipher_name(name.c_str())) == "(NONE)") {
      return Complain(suite, absl::StrCat(View(Quoted(name)), " is no cipher suite"));
    }
    tls->ciphers.push_back(std::move(name));
  }

  void CheckTls(const Entry& section, const ServerTlsOptions& tls) {
    if (tls.cert_file.empty()) Complain(section, "has no cert_file");
    if (tls.key_file.empty()) Complain(section, "has no key_file");
    if (VerifiesClients(tls.client_auth) && tls.client_ca_file.empty()) {
      Complain(section,
               "client_auth_type wants certificates verified, and there is no "
               "client_ca_file");
    }
    if (!tls.client_ca_file.empty() && !VerifiesClients(tls.client_auth)) {
      Complain(section, "client_ca_file has no effect with this client_auth_type");
    }
    const int min_version = tls.min_version == 0 ? TLS1_2_VERSION : tls.min_version;
    if (tls.max_version != 0 && tls.max_version < min_version) {
      Complain(section, "max_version is below min_version, which is TLS12 unless it is given");
    }
  }

  void ReadHttp(const Entry& section) {
    bool http2 = false;  // taken, and no promise: we speak HTTP/1.1, on which all clients fall back
    ReadMap(section.name, section.line, section.value,
            {{"http2", [&](const Entry& entry) { Bool(entry, &http2); }},
             {"headers", [&](const Entry& entry) {
                ForEach(entry.name, entry.line, entry.value,
                        [this](const std::string& key, const Entry& header) {
                          ReadHeader(key, header);
                        });
              }}});
  }

  void ReadHeader(const std::string& name, const Entry& entry) {
    std::string text;
    if (!Text(entry, &text)) return;
    bool known = false;
    for (const char* const header : kHeaders) known = known || name == header;
    if (!known)
      return Complain(entry,
                      "unknown key; these headers can be set: "
                      "Strict-Transport-Security, X-Content-Type-Options, "
                      "X-Frame-Options, X-XSS-Protection, Content-Security-Policy");
    if (!IsHeaderText(text)) return Complain(entry, "not the text of a header");
    if (name == "X-Content-Type-Options") {
      if (text != "nosniff") Complain(entry, "can only be nosniff");
      return;  // which every answer has
    }
    if (name == "X-Frame-Options" && text != "deny" && text != "sameorigin") {
      return Complain(entry, "is deny or sameorigin");
    }
    config_.headers.emplace_back(name, text);
  }

  void ReadUsers(const Entry& section) {
    ForEach(section.name, section.line, section.value,
            [this](const std::string& name, const Entry& entry) { ReadUser(name, entry); });
  }

  void ReadUser(const std::string& name, const Entry& entry) {
    static const RE2 pattern(R"(\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53})");
    std::string hash;
    if (!Text(entry, &hash)) return;
    if (name.empty() || name.find(':') != std::string::npos) {
      return Complain(entry, "a user's name is not empty and has no colon");
    }
    // The text itself is not shown: it may be a password.
    int cost = 0;
    if (!RE2::FullMatch(hash, pattern, &cost)) {
      return Complain(entry, "not a hash of bcrypt, as htpasswd -nBC 10 makes it");
    }
    if (cost < 4 || cost > kMaxBcryptCost) {
      return Complain(entry, absl::StrCat("a cost of bcrypt is from 4 to ", kMaxBcryptCost));
    }
    config_.users.push_back({name, std::move(hash)});
  }

  const YamlTree& tree_;
  Complaints* const complaints_;
  std::string folder_;
  WebConfig config_;
};

}  // namespace

absl::StatusOr<WebConfig> ParseWebConfig(std::string_view yaml_untrusted, const std::string& file) {
  Complaints complaints;
  const YamlTree tree = YamlTree::Parse(yaml_untrusted, kMaxNodes, &complaints);
  WebConfig config;
  if (complaints.empty()) config = WebConfigReader(tree, file, &complaints).Read();
  if (!complaints.empty()) return complaints.ToStatus(file);
  return config;
}

absl::StatusOr<WebConfig> LoadWebConfig(const std::string& file) {
  const absl::StatusOr<std::string> text = ReadBoundedFile(file, kMaxWebConfigBytes);
  if (!text.ok()) return text.status();
  return ParseWebConfig(*text, file);
}

}  // namespace tallyd
