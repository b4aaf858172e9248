// A YAML document as a tree of bounded size, with the line of each node.

#ifndef TALLYD_DAEMON_YAML_TREE_H_
#define TALLYD_DAEMON_YAML_TREE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/rules/complaints.h"

namespace tallyd {

struct YamlNode {
  enum class Kind : uint8_t { kNull, kScalar, kSequence, kMap };
  Kind kind = Kind::kNull;
  bool is_plain = false;  // a scalar whose type follows from its text: neither quoted nor !!str
  int line = 0;           // from 1; of an alias, where its anchor is
  std::string text;       // of a scalar, as written; valid UTF-8
  std::vector<uint32_t> children;  // of a map: a key, its value, the next key ...
};

// Immutable and therefore thread-compatible. Aliases lead to the node that they name, so a node may
// be reached in several ways, but no node is below itself. Walking all ways from the root visits at
// most as many nodes as Parse() was told.
class YamlTree {
 public:
  // Reads the first document; text without any is null. What is wrong, the first thing alone, is
  // complained of. At most `max_nodes` nodes, counted each time that an alias leads to them.
  static YamlTree Parse(std::string_view text_untrusted, size_t max_nodes, Complaints* complaints);

  const YamlNode& root() const { return nodes_[0]; }
  const YamlNode& node(uint32_t number) const { return nodes_[number]; }

 private:
  class Builder;

  std::vector<YamlNode> nodes_ = {YamlNode()};
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_YAML_TREE_H_
