#include "daemon/peer_mapping.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"
#include "core/rules/abseil_view.h"

namespace tallyd {
namespace {

constexpr std::array<MatchedType, 3> kTypes = {MatchedType::kCounter, MatchedType::kGauge,
                                               MatchedType::kObserver};

size_t RootOf(MatchedType type) { return static_cast<size_t>(type) - 1; }

std::vector<std::string_view> Segments(std::string_view text) {
  std::vector<std::string_view> segments;
  while (true) {
    const size_t dot = text.find('.');
    segments.push_back(text.substr(0, dot));
    if (dot == std::string_view::npos) return segments;
    text.remove_prefix(dot + 1);
  }
}

// Whether the glob takes the text, which may be a glob itself.
bool Covers(const std::vector<std::string_view>& glob, const std::vector<std::string_view>& text) {
  if (glob.size() != text.size()) return false;
  for (size_t i = 0; i < glob.size(); ++i) {
    if (glob[i] != "*" && glob[i] != text[i]) return false;
  }
  return true;
}

struct Glob {
  std::string_view text;
  std::vector<std::string_view> segments;
};

bool SharesTextBeforeAStar(std::string_view glob, std::string_view other) {
  for (size_t star = glob.find('*'); star != std::string_view::npos;
       star = glob.find('*', star + 1)) {
    if (other.substr(0, star) == glob.substr(0, star)) return true;
  }
  return false;
}

// statsd_exporter's test, at load, of whether dead ends have to be left without ordering: a rule
// shares its text up to a star with another of its length, and neither contains nor is contained in
// any of them.
bool NeedsBacktracking(const std::vector<Glob>& globs) {
  std::map<size_t, std::vector<const Glob*>> by_length;
  for (const Glob& glob : globs) by_length[glob.segments.size()].push_back(&glob);
  for (const auto& [length, same_length] : by_length) {
    for (const Glob* glob : same_length) {
      if (glob->text.find('*') == std::string_view::npos) continue;
      bool shares = false;
      bool nested = false;
      for (const Glob* other : same_length) {
        if (other == glob) continue;
        shares = shares || SharesTextBeforeAStar(glob->text, other->text);
        nested = nested || Covers(glob->segments, other->segments) ||
                 Covers(other->segments, glob->segments);
      }
      if (shares && !nested) return true;
    }
  }
  return false;
}

bool IsRunCharacter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         c == '$';
}

struct Reference {
  std::string_view whole;
  std::string_view run;
};

std::vector<Reference> FindReferences(std::string_view text) {
  std::vector<Reference> references;
  size_t at = 0;
  while ((at = text.find('$', at)) != std::string_view::npos) {
    size_t run = at + 1;
    if (run < text.size() && text[run] == '{') ++run;
    size_t end = run;
    while (end < text.size() && IsRunCharacter(text[end])) ++end;
    if (end == run) {
      ++at;
      continue;
    }
    const size_t whole_end = end < text.size() && text[end] == '}' ? end + 1 : end;
    references.push_back({text.substr(at, whole_end - at), text.substr(run, end - run)});
    at = whole_end;
  }
  return references;
}

// The number of a capture, from 1, or 0 if the run is none.
size_t CaptureNumber(std::string_view run, size_t stars) {
  uint64_t number = 0;
  for (const char c : run) {
    if (c < '0' || c > '9') return 0;
    number = std::min<uint64_t>(number * 10 + static_cast<uint64_t>(c - '0'), UINT32_MAX);
  }
  return number <= stars ? static_cast<size_t>(number) : 0;
}

std::string Hex(std::string_view text, const char* digits) {
  std::string hex;
  for (const char c : text) {
    hex.push_back(digits[static_cast<unsigned char>(c) >> 4]);
    hex.push_back(digits[static_cast<unsigned char>(c) & 15]);
  }
  return hex;
}

// Go's fmt.Sprintf for arguments that are all text. Of widths only their being there is known.
class GoFormatter {
 public:
  GoFormatter(std::string_view format, const std::vector<std::string_view>& arguments)
      : format_(format), arguments_(arguments) {}

  std::string Run() {
    while (!format_.empty()) {
      const size_t percent = format_.find('%');
      absl::StrAppend(&out_, View(format_.substr(0, percent)));
      if (percent == std::string_view::npos) break;
      format_.remove_prefix(percent + 1);
      Directive();
    }
    AppendUnused();
    return out_;
  }

 private:
  void Directive() {
    format_.remove_prefix(std::min(format_.size(), format_.find_first_not_of("+-# 0")));
    format_.remove_prefix(std::min(format_.size(), format_.find_first_not_of("0123456789.")));
    if (format_.empty()) {
      absl::StrAppend(&out_, "%!(NOVERB)");
      return;
    }
    const std::string_view verb = TakeCharacter();
    if (verb == "%") {
      out_.push_back('%');
    } else if (next_ == arguments_.size()) {
      absl::StrAppend(&out_, "%!", View(verb), "(MISSING)");
    } else {
      Write(verb, arguments_[next_++]);
    }
  }

  std::string_view TakeCharacter() {
    size_t size = 1;
    while (size < format_.size() && (static_cast<unsigned char>(format_[size]) & 0xc0) == 0x80) {
      ++size;
    }
    const std::string_view character = format_.substr(0, size);
    format_.remove_prefix(size);
    return character;
  }

  void Write(std::string_view verb, std::string_view text) {
    if (verb == "s" || verb == "v") {
      absl::StrAppend(&out_, View(text));
    } else if (verb == "x" || verb == "X") {
      out_ += Hex(text, verb == "x" ? "0123456789abcdef" : "0123456789ABCDEF");
    } else if (verb == "q") {
      absl::StrAppend(&out_, "\"", View(text), "\"");
    } else {
      absl::StrAppend(&out_, "%!", View(verb), "(string=", View(text), ")");
    }
  }

  void AppendUnused() {
    if (next_ == arguments_.size()) return;
    absl::StrAppend(&out_, "%!(EXTRA ");
    for (size_t first = next_; next_ < arguments_.size(); ++next_) {
      absl::StrAppend(&out_, next_ > first ? ", " : "", "string=", View(arguments_[next_]));
    }
    out_.push_back(')');
  }

  std::string_view format_;
  const std::vector<std::string_view>& arguments_;
  size_t next_ = 0;
  std::string out_;
};

SampleType SampleOf(MatchedType type) {
  if (type == MatchedType::kCounter) return SampleType::kCounter;
  return type == MatchedType::kGauge ? SampleType::kGauge : SampleType::kTimer;
}

size_t StarsIn(std::string_view glob) {
  return static_cast<size_t>(std::count(glob.begin(), glob.end(), '*'));
}

}  // namespace

std::string ExpandPeerTemplate(std::string_view text, const std::vector<std::string_view>& captures,
                               size_t stars) {
  std::string format(text);
  std::vector<std::string_view> arguments;
  for (const Reference& reference : FindReferences(text)) {
    const size_t number = CaptureNumber(reference.run, stars);
    // Every occurrence at once, also within a longer reference: "$1" within "$11".
    const absl::string_view whole(reference.whole.data(), reference.whole.size());
    absl::StrReplaceAll({{whole, number == 0 ? "" : "%s"}}, &format);
    if (number != 0) arguments.push_back(captures[number - 1]);
  }
  if (arguments.empty()) return format;
  return GoFormatter(format, arguments).Run();
}

// A segment on the way from the first to the last of some rules.
struct PeerMapping::Node {
  std::map<std::string_view, std::unique_ptr<Node>> next;
  const MappingRule* rule = nullptr;   // that ends here
  const MappingRule* first = nullptr;  // that made this node
  int priority = 0;
  size_t fewest_left = SIZE_MAX;  // segments to the end of the shortest rule through here
  size_t most_left = 0;
};

struct PeerMapping::Search {
  std::vector<std::string_view> fields;
  std::vector<std::string_view> captures;
  size_t captured = 0;
  bool first_wins = false;

  const Node* found = nullptr;
  std::vector<std::string_view> found_captures;
};

PeerMapping::PeerMapping(std::shared_ptr<const Mapping> mapping) : mapping_(std::move(mapping)) {
  const MappingConfig& config = mapping_->config();
  for (auto& root : roots_) root = std::make_unique<Node>();
  MappingConfig regexes = config;
  regexes.rules.clear();
  std::vector<Glob> globs;
  for (const MappingRule& rule : config.rules) {
    if (rule.match_type == MatchType::kRegex) {
      regexes.rules.push_back(rule);
      regex_places_.push_back(static_cast<size_t>(&rule - config.rules.data()));
      continue;
    }
    for (const MatchedType type : kTypes) {
      if (rule.matched_type != MatchedType::kAny && rule.matched_type != type) continue;
      AddGlob(rule, type, static_cast<int>(globs.size()), roots_[RootOf(type)].get());
    }
    globs.push_back({rule.match, Segments(rule.match)});
  }
  has_globs_ = !globs.empty();
  backtracks_ = !config.glob_disable_ordering || NeedsBacktracking(globs);
  if (!regexes.rules.empty()) {
    auto compiled = Mapping::Compile(std::move(regexes));
    if (compiled.ok()) regexes_ = *std::move(compiled);
  }
}

PeerMapping::~PeerMapping() = default;

void PeerMapping::AddGlob(const MappingRule& rule, MatchedType type, int priority, Node* root) {
  const std::vector<std::string_view> segments = Segments(rule.match);
  Node* node = root;
  for (size_t i = 0; i < segments.size(); ++i) {
    std::unique_ptr<Node>& child = node->next[segments[i]];
    const bool is_last = i + 1 == segments.size();
    if (child == nullptr) {
      child = std::make_unique<Node>();
      child->first = &rule;
      // Only who makes the last node of a rule gets it.
      if (is_last) child->rule = &rule;
    } else if (is_last) {
      const bool duplicate = child->rule != nullptr;
      defects_.push_back({duplicate ? Defect::Kind::kDuplicate : Defect::Kind::kHidden, &rule,
                          duplicate ? child->rule : child->first, type});
    }
    const size_t left = segments.size() - i - 1;
    child->fewest_left = std::min(child->fewest_left, left);
    child->most_left = std::max(child->most_left, left);
    node = child.get();
  }
  node->priority = priority;
}

bool PeerMapping::Map(std::string_view name, MatchedType type, PeerMapped* mapped) const {
  return (has_globs_ && MapGlob(name, type, mapped)) || MapRegex(name, type, mapped);
}

void PeerMapping::Walk(const Node& node, size_t field, Search* search) const {
  const size_t left = search->fields.size() - field - 1;
  const auto child_for = [&node, left](std::string_view segment) -> const Node* {
    const auto found = node.next.find(segment);
    if (found == node.next.end()) return nullptr;
    const Node* const child = found->second.get();
    return child->fewest_left <= left && left <= child->most_left ? child : nullptr;
  };
  const Node* const literal = child_for(search->fields[field]);
  if (literal != nullptr) Visit(*literal, field, false, search);
  if (literal != nullptr && !backtracks_) return;
  if (search->found != nullptr && search->first_wins) return;
  const Node* const star = child_for("*");
  // A segment that is a star itself has been there already.
  if (star != nullptr && star != literal) Visit(*star, field, true, search);
}

void PeerMapping::Visit(const Node& child, size_t field, bool captures, Search* search) const {
  const size_t captured_before = search->captured;
  if (captures) search->captures[search->captured++] = search->fields[field];
  const bool at_end = field + 1 == search->fields.size();
  if (at_end && child.rule != nullptr) {
    if (search->found == nullptr || search->found->priority > child.priority) {
      search->found = &child;
      search->found_captures = search->captures;
    }
  } else if (!at_end) {
    Walk(child, field + 1, search);
  }
  search->captured = captured_before;
}

bool PeerMapping::MapGlob(std::string_view name, MatchedType type, PeerMapped* mapped) const {
  Search search;
  search.fields = Segments(name);
  search.captures.resize(search.fields.size());
  search.first_wins = mapping_->config().glob_disable_ordering;
  Walk(*roots_[RootOf(type)], 0, &search);
  if (search.found == nullptr) return false;
  const MappingRule& rule = *search.found->rule;
  const size_t stars = StarsIn(rule.match);
  mapped->rule = &rule;
  mapped->name = ExpandPeerTemplate(rule.name, search.found_captures, stars);
  mapped->labels.clear();
  for (const auto& [label, text] : rule.labels) {
    mapped->labels.emplace_back(label, ExpandPeerTemplate(text, search.found_captures, stars));
  }
  return true;
}

bool PeerMapping::MapRegex(std::string_view name, MatchedType type, PeerMapped* mapped) const {
  Mapped found;
  if (regexes_ == nullptr || !regexes_->Map(name, SampleOf(type), &found)) return false;
  const auto place = static_cast<size_t>(found.rule - regexes_->config().rules.data());
  mapped->rule = &mapping_->config().rules[regex_places_[place]];
  mapped->name = std::move(found.name);
  mapped->labels.clear();
  for (auto& [label, value] : found.labels) mapped->labels.emplace_back(label, std::move(value));
  return true;
}

}  // namespace tallyd
