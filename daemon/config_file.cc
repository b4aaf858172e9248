#include "daemon/config_file.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <cstring>
#include <set>
#include <sstream>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "daemon/exit_code.h"
#include "daemon/file_text.h"

namespace tallyd {
namespace {

constexpr size_t kMaxProblems = 20;  // one slip may have many consequences

std::string FolderOf(const std::string& file) {
  const size_t slash = file.rfind('/');
  return slash == std::string::npos ? "" : file.substr(0, slash + 1);
}

bool IsSection(const std::string& name) {
  for (const FlagSpec& flag : AllFlags()) {
    if (absl::StartsWith(flag.name, absl::StrCat(name, "."))) return true;
  }
  return false;
}

// All that may stand where a key does: flags, and the sections that they are in.
std::vector<std::string> KnownKeys() {
  std::vector<std::string> known;
  for (const FlagSpec& flag : AllFlags()) {
    if (!flag.in_file) continue;
    const std::string name = flag.name;
    for (size_t dot = name.find('.'); dot != std::string::npos; dot = name.find('.', dot + 1)) {
      known.push_back(name.substr(0, dot));
    }
    known.push_back(name);
  }
  return known;
}

// Walks the document once. A key is followed only as far as flags have such names, so that the walk
// ends soon even in a document that contains itself by an alias.
class ConfigReader {
 public:
  explicit ConfigReader(const std::string& file) : file_(file), folder_(FolderOf(file)) {}

  void ReadDocument(const YAML::Node& root) {
    if (root.IsMap()) return ReadSection("", root);
    if (!root.IsNull()) Complain(root, "not a map of flags");
  }

  absl::StatusOr<FlagValues> Result() && {
    if (problems_.empty()) return std::move(values_);
    return UsageError(absl::StrJoin(problems_, "\n"));
  }

 private:
  void ReadSection(const std::string& section, const YAML::Node& map) {
    for (const auto& entry : map) {
      if (problems_.size() >= kMaxProblems) return;
      if (!entry.first.IsScalar()) {
        Complain(entry.first, "a key that is no text");
        continue;
      }
      const std::string& key = entry.first.Scalar();
      const std::string name = section.empty() ? key : absl::StrCat(section, ".", key);
      ReadKey(name, entry.first, entry.second);
    }
  }

  void ReadKey(const std::string& name, const YAML::Node& key, const YAML::Node& value) {
    const FlagSpec* const flag = FindFlag(name);
    if (value.IsMap() && IsSection(name)) return ReadSection(name, value);
    if (flag == nullptr && IsSection(name)) {
      return Complain(value.IsNull() ? key : value, absl::StrCat(name, ": not a map of flags"));
    }
    if (flag == nullptr) {
      return Complain(key, absl::StrCat("unknown key ", name, DidYouMean(name, KnownKeys(), "")));
    }
    if (!flag->in_file) {
      return Complain(key, absl::StrCat(name, ": only the command line can say this"));
    }
    if (values_.count(name) > 0) return Complain(key, absl::StrCat(name, " is given twice"));
    std::vector<FlagValue>& values = values_[name];
    if (flag->kind == FlagKind::kRecords) return AddRecords(*flag, value, key, &values);
    if (!flag->repeats()) return AddScalar(*flag, value, key, &values);
    if (!value.IsSequence()) return AddEntry(*flag, value, key, &values);
    for (const auto& entry : value) {
      if (problems_.size() >= kMaxProblems) return;
      AddEntry(*flag, entry, key, &values);
    }
  }

  void AddEntry(const FlagSpec& flag, const YAML::Node& entry, const YAML::Node& key,
                std::vector<FlagValue>* values) {
    if (entry.IsMap() && flag.has_dialect) return AddListener(flag, entry, values);
    if (!entry.IsSequence()) return AddScalar(flag, entry, key, values);
    Complain(entry, absl::StrCat(flag.name, ": not a list of texts"));
  }

  void AddRecords(const FlagSpec& flag, const YAML::Node& list, const YAML::Node& key,
                  std::vector<FlagValue>* values) {
    if (!list.IsSequence())
      return Complain(list.IsNull() ? key : list, absl::StrCat(flag.name, ": not a list of maps"));
    size_t number = 0;
    for (const auto& record : list) {
      if (problems_.size() >= kMaxProblems) return;
      if (!record.IsMap()) {
        Complain(record, absl::StrCat(flag.name, ": not a map"));
        continue;
      }
      const std::vector<std::string> keys = {absl::StrCat(number++)};
      values->push_back({"", Origin(record, flag.name), keys});
      AddLeaves(flag.name, record, keys, values);
    }
  }

  // Bounded in depth and number, so that it ends in a document that contains itself, too.
  void AddLeaves(const std::string& name, const YAML::Node& node,
                 const std::vector<std::string>& keys, std::vector<FlagValue>* values) {
    constexpr size_t kMaxDepth = 4;
    constexpr size_t kMaxLeaves = 4096;
    if (problems_.size() >= kMaxProblems) return;
    if (keys.size() > kMaxDepth || values->size() > kMaxLeaves) {
      return Complain(node, absl::StrCat(name, ": nested too deeply, or too much of it"));
    }
    if (node.IsScalar()) return AddLeaf(name, node, keys, values);
    if (!node.IsMap() && !node.IsSequence()) {
      return Complain(node, absl::StrCat(name, ": has no value"));
    }
    std::set<std::string> seen;
    size_t number = 0;
    for (const auto& entry : node) {
      const bool scalar_key = node.IsSequence() || entry.first.IsScalar();
      if (!scalar_key) return Complain(entry.first, "a key that is no text");
      const std::string key = node.IsMap() ? entry.first.Scalar() : absl::StrCat(number++);
      const std::string below = node.IsMap() ? absl::StrCat(name, ".", key) : name;
      const YAML::Node& value = node.IsMap() ? entry.second : entry;
      if (!seen.insert(key).second) {
        Complain(entry.first, absl::StrCat(below, " is given twice"));
      } else if (value.IsNull()) {
        Complain(node.IsMap() ? entry.first : value, absl::StrCat(below, ": has no value"));
      } else {
        std::vector<std::string> deeper = keys;
        deeper.push_back(key);
        AddLeaves(below, value, deeper, values);
      }
    }
  }

  // Of a record's keys, those that end so name files.
  void AddLeaf(const std::string& name, const YAML::Node& value,
               const std::vector<std::string>& keys, std::vector<FlagValue>* values) {
    const bool path = absl::EndsWith(keys.back(), "_file") && keys.size() <= 3;
    std::string text = value.Scalar();
    if (path && !text.empty() && text.front() != '/') text.insert(0, folder_);
    values->push_back({std::move(text), Origin(value, name), keys});
  }

  // {address: ":9125", dialect: dogstatsd}, {address: /run/a.sock, allow_uids: [1000, app]}
  void AddListener(const FlagSpec& flag, const YAML::Node& map, std::vector<FlagValue>* values) {
    const bool is_path = flag.kind == FlagKind::kPaths;
    std::string address;
    std::string dialect;
    std::string uids;
    for (const auto& entry : map) {
      const std::string key = entry.first.IsScalar() ? entry.first.Scalar() : "?";
      const bool is_uids = is_path && key == "allow_uids";
      std::string* const part = key == "address"   ? &address
                                : key == "dialect" ? &dialect
                                : is_uids          ? &uids
                                                   : nullptr;
      if (part == nullptr) {
        return Complain(entry.first,
                        absl::StrCat(flag.name, ": unknown key ", key,
                                     "; an entry has an address and may have a dialect",
                                     is_path ? " and allow_uids" : ""));
      }
      if (!part->empty()) return Complain(entry.first, absl::StrCat(key, " is given twice"));
      *part = is_uids && entry.second.IsSequence() ? Joined(entry.second) : Text(entry.second);
      if (part->empty()) {
        return Complain(
            entry.second.IsNull() ? entry.first : entry.second,
            absl::StrCat(flag.name, ": ", key, ": not a text", is_uids ? " or list of texts" : ""));
      }
    }
    if (address.empty()) return Complain(map, absl::StrCat(flag.name, ": an entry has no address"));
    std::vector<std::string> options;
    if (!dialect.empty()) options.push_back(absl::StrCat("dialect=", dialect));
    if (!uids.empty()) options.push_back(absl::StrCat("allow_uids=", uids));
    std::string text = InFolder(flag, address);
    if (!options.empty()) absl::StrAppend(&text, "?", absl::StrJoin(options, "&"));
    values->push_back({std::move(text), Origin(map, flag.name)});
  }

  static std::string Text(const YAML::Node& node) { return node.IsScalar() ? node.Scalar() : ""; }

  // Empty if there is something else than texts in it.
  static std::string Joined(const YAML::Node& list) {
    std::vector<std::string> texts;
    for (const auto& entry : list) {
      texts.push_back(Text(entry));
      if (texts.back().empty()) return "";
    }
    return absl::StrJoin(texts, ",");
  }

  void AddScalar(const FlagSpec& flag, const YAML::Node& value, const YAML::Node& key,
                 std::vector<FlagValue>* values) {
    if (value.IsNull()) {
      return Complain(key, absl::StrCat(flag.name,
                                        ": has no value; write \"\" for an empty one, or leave the "
                                        "key out"));
    }
    if (!value.IsScalar()) return Complain(value, absl::StrCat(flag.name, ": not one value"));
    std::string text = value.Scalar();
    if (flag.kind == FlagKind::kBool) {
      bool on = false;
      if (!YAML::convert<bool>::decode(value, on)) {
        return Complain(value, absl::StrCat(flag.name, "=", text, ": not true or false"));
      }
      text = on ? "true" : "false";
    }
    values->push_back({InFolder(flag, text), Origin(value, flag.name)});
  }

  std::string InFolder(const FlagSpec& flag, const std::string& text) const {
    const bool path = flag.kind == FlagKind::kPath || flag.kind == FlagKind::kPaths;
    if (!path || text.empty() || text.front() == '/') return text;
    return absl::StrCat(folder_, text);
  }

  std::string Origin(const YAML::Node& node, const std::string& what) const {
    const YAML::Mark mark = node.Mark();
    if (mark.is_null()) return absl::StrCat(file_, ": ", what);
    return absl::StrCat(file_, ":", mark.line + 1, ": ", what);
  }

  void Complain(const YAML::Node& node, const std::string& what) {
    problems_.push_back(Origin(node, what));
  }

  const std::string& file_;
  const std::string folder_;
  FlagValues values_;
  std::vector<std::string> problems_;
};

// Takes no notice of what a document is made of.
class NoEvents : public YAML::EventHandler {
  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark&, YAML::anchor_t) override {}
  void OnAlias(const YAML::Mark&, YAML::anchor_t) override {}
  void OnScalar(const YAML::Mark&, const std::string&, YAML::anchor_t,
                const std::string&) override {}
  void OnSequenceStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {}
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                  YAML::EmitterStyle::value) override {}
  void OnMapEnd() override {}
};

// Looks no further than the second: yaml-cpp finds documents without end in "!a ,", so that loading
// all of them would take all memory.
bool HasSeveralDocuments(const std::string& yaml) {
  std::istringstream stream(yaml);
  YAML::Parser parser(stream);
  NoEvents ignored;
  return parser.HandleNextDocument(ignored) && parser.HandleNextDocument(ignored);
}

}  // namespace

absl::StatusOr<FlagValues> ParseConfig(const std::string& yaml, const std::string& file) {
  ConfigReader reader(file);
  try {
    if (HasSeveralDocuments(yaml)) {
      return UsageError(absl::StrCat(file, ": more than one document; write only one"));
    }
    reader.ReadDocument(YAML::Load(yaml));
  } catch (const YAML::Exception& error) {
    // What is nested too deeply is refused here as well.
    return UsageError(absl::StrCat(file, ":", error.mark.line + 1, ": ", error.msg));
  }
  return std::move(reader).Result();
}

absl::StatusOr<FlagValues> LoadConfig(const std::string& file) {
  const FileText read = ReadFileText(file, kMaxConfigBytes + 1);
  if (const int error = read.open_error != 0 ? read.open_error : read.read_error; error != 0) {
    return UsageError(absl::StrCat("cannot read ", file, ": ", std::strerror(error)));
  }
  if (read.text.size() > kMaxConfigBytes) {
    return UsageError(
        absl::StrCat(file, ": a configuration file has at most ", kMaxConfigBytes, " bytes"));
  }
  return ParseConfig(read.text, file);
}

}  // namespace tallyd
