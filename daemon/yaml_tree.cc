#include "daemon/yaml_tree.h"

#include <yaml-cpp/depthguard.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <exception>
#include <sstream>
#include <unordered_map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/rules/abseil_view.h"
#include "core/wire/utf8.h"

namespace tallyd {
namespace {

constexpr char kKey[] = "YAML";

int LineOf(const YAML::Mark& mark) { return mark.line + 1; }

// Of the tags, those that leave it to the text what a scalar is. "?" is what plain scalars have.
bool IsPlain(const std::string& tag) {
  constexpr std::string_view kYaml = "tag:yaml.org,2002:";
  if (tag == "?") return true;
  if (tag.compare(0, kYaml.size(), kYaml) != 0) return false;
  const std::string type = tag.substr(kYaml.size());
  return type == "int" || type == "float" || type == "bool" || type == "merge";
}

// What to do about it, where people often stumble.
std::string_view AdviceFor(const std::string& problem) {
  if (problem.find("anchor") != std::string::npos || problem.find("alias") != std::string::npos) {
    return "write values that begin with * or & in quotes";
  }
  if (problem.find("document indicator") != std::string::npos) return "close the quotes";
  return "check the indentation, and put text with special characters in quotes";
}

// The text with an end of the document behind it, which the parser does not let pass in a quoted
// text: one that is not closed would otherwise go on to the end of the file without a word.
std::string WithEnd(std::string_view text) {
  std::string closed(text);
  // In UTF-16 and UTF-32, four bytes would be other characters.
  const bool is_wide = closed.compare(0, 2, "\xff\xfe") == 0 ||
                       closed.compare(0, 2, "\xfe\xff") == 0 ||
                       closed.substr(0, 4).find('\0') != std::string::npos;
  if (is_wide) return closed;
  if (!closed.empty() && closed.back() != '\n') closed += '\n';
  return closed + "...\n";
}

// What we refuse ourselves. The message says what to do, too.
class Refusal : public YAML::ParserException {
 public:
  using ParserException::ParserException;
};

}  // namespace

// Takes the parser's events. The parser is left by an exception, which Parse() catches.
class YamlTree::Builder : public YAML::EventHandler {
 public:
  Builder(YamlTree* tree, size_t max_nodes) : tree_(tree), max_nodes_(max_nodes) {}

  void OnDocumentStart(const YAML::Mark& /*mark*/) override { tree_->nodes_.clear(); }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    AddLeaf(mark, anchor, YamlNode::Kind::kNull);
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    if (!IsUtf8(value)) throw Refusal(mark, "text that is not UTF-8; save the file as UTF-8");
    if (tag == "tag:yaml.org,2002:binary") {
      throw Refusal(mark, "the tag !!binary is not known here; write the text itself");
    }
    const bool is_null = tag == "tag:yaml.org,2002:null";
    YamlNode& node =
        AddLeaf(mark, anchor, is_null ? YamlNode::Kind::kNull : YamlNode::Kind::kScalar);
    node.is_plain = IsPlain(tag);
    node.text = value;
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto named = anchors_.find(anchor);
    if (named == anchors_.end())
      throw Refusal(mark, "an alias without its anchor; write the anchor before it");
    if (std::find(open_.begin(), open_.end(), named->second) != open_.end()) {
      throw Refusal(mark, "an alias within what it stands for; write it elsewhere");
    }
    Attach(mark, named->second);
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& /*tag*/, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value /*style*/) override {
    open_.push_back(AddNode(mark, anchor, YamlNode::Kind::kSequence));
  }
  void OnSequenceEnd() override { Close(); }

  void OnMapStart(const YAML::Mark& mark, const std::string& /*tag*/, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value /*style*/) override {
    open_.push_back(AddNode(mark, anchor, YamlNode::Kind::kMap));
  }
  void OnMapEnd() override { Close(); }

 private:
  uint32_t AddNode(const YAML::Mark& mark, YAML::anchor_t anchor, YamlNode::Kind kind) {
    const auto number = static_cast<uint32_t>(tree_->nodes_.size());
    YamlNode& node = tree_->nodes_.emplace_back();
    node.kind = kind;
    node.line = LineOf(mark);
    sizes_.push_back(1);
    if (anchor != 0) anchors_[anchor] = number;
    // A collection is counted where it ends.
    CheckSize(mark, sizes_.size());
    return number;
  }

  YamlNode& AddLeaf(const YAML::Mark& mark, YAML::anchor_t anchor, YamlNode::Kind kind) {
    const uint32_t number = AddNode(mark, anchor, kind);
    Attach(mark, number);
    return tree_->nodes_[number];
  }

  void Close() {
    const uint32_t closed = open_.back();
    open_.pop_back();
    YAML::Mark mark;
    mark.line = tree_->nodes_[closed].line - 1;
    Attach(mark, closed);
  }

  // Puts a finished node into the collection that is being read.
  void Attach(const YAML::Mark& mark, uint32_t number) {
    if (open_.empty()) return;
    const uint32_t parent = open_.back();
    tree_->nodes_[parent].children.push_back(number);
    sizes_[parent] += sizes_[number];
    CheckSize(mark, sizes_[parent]);
  }

  void CheckSize(const YAML::Mark& mark, size_t size) const {
    if (size <= max_nodes_) return;
    throw Refusal(mark, absl::StrCat("more than ", max_nodes_,
                                     " values, counted each time an alias repeats them; shorten "
                                     "the file"));
  }

  YamlTree* tree_;
  size_t max_nodes_;
  std::vector<uint32_t> open_;  // the collections that are being read
  std::vector<size_t>
      sizes_;  // by node: nodes that walking it visits; never above max_nodes_ twice
  std::unordered_map<YAML::anchor_t, uint32_t> anchors_;
};

YamlTree YamlTree::Parse(std::string_view text_untrusted, size_t max_nodes,
                         Complaints* complaints) {
  YamlTree tree;
  try {
    std::istringstream stream(WithEnd(text_untrusted));
    YAML::Parser parser(stream);
    Builder builder(&tree, max_nodes);
    parser.HandleNextDocument(builder);
  } catch (const Refusal& refusal) {
    complaints->Add(LineOf(refusal.mark), kKey, refusal.msg);
  } catch (const YAML::DeepRecursion& error) {
    complaints->Add(LineOf(error.mark), kKey,
                    "nested too deeply; no key needs more than six levels");
  } catch (const YAML::Exception& error) {
    complaints->Add(LineOf(error.mark), kKey,
                    absl::StrCat(error.msg, "; ", View(AdviceFor(error.msg))));
  } catch (const std::exception& error) {
    complaints->Add(1, kKey, absl::StrCat("cannot be read, ", error.what()));
  }
  if (tree.nodes_.empty()) tree.nodes_.emplace_back();
  return tree;
}

}  // namespace tallyd
