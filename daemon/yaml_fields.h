// Maps of known keys and typed values out of a YAML tree, with a complaint for whatever is
// otherwise.

#ifndef TALLYD_DAEMON_YAML_FIELDS_H_
#define TALLYD_DAEMON_YAML_FIELDS_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/rules/complaints.h"
#include "core/rules/mapping.h"
#include "daemon/yaml_tree.h"

namespace tallyd {

// What a message shows of a node: its text, or what it is.
std::string Shown(const YamlNode& node);

inline bool IsNull(const YamlNode& node) { return node.kind == YamlNode::Kind::kNull; }

// The reader of a kind of file derives from it. A value of the wrong type is complained of and
// leaves `out` as it was, so that the rest of the file is looked at too; null says nothing.
// Thread-compatible.
class YamlFields {
 public:
  // Where a value is: its key with those around it, and the key's line.
  struct Place {
    std::string key;
    int line = 1;
  };

 protected:
  using ReadValue = std::function<void(const YamlNode& value, const Place& place)>;
  using ReadKey =
      std::function<void(const std::string& key, const Place& place, const YamlNode& value)>;
  using ReadItem = std::function<void(const YamlNode& item)>;
  struct Field {
    std::string_view key;
    ReadValue read;
  };

  // Most keys that the author of a file chooses in one map.
  static constexpr size_t kMostNames = 1000;

  // Both outlive this.
  YamlFields(const YamlTree& tree, Complaints* complaints) : tree_(tree), complaints_(complaints) {}

  const YamlTree& tree() const { return tree_; }
  size_t complaints() const { return complaints_->size(); }
  void Complain(const Place& place, std::string_view text);

  // `node` is a map of these keys, each at most once; `lines` are told which are there, and where.
  void ReadMap(const YamlNode& node, const Place& place, std::initializer_list<Field> fields,
               std::vector<KeyLine>* lines = nullptr);
  void ForEachKey(const YamlNode& map, const Place& place, const ReadKey& each);
  // The same of keys that the author chooses, each once.
  void ForEachName(const YamlNode& map, const Place& place, const ReadKey& each);
  void ForEachItem(const YamlNode& value, const Place& place, const ReadItem& each);

  void Read(const YamlNode& value, const Place& place, std::string* out);
  void Read(const YamlNode& value, const Place& place, bool* out);
  void Read(const YamlNode& value, const Place& place, double* out);
  // A text or a list of texts.
  void Read(const YamlNode& value, const Place& place, std::vector<std::string>* out);
  // A map of texts.
  void Read(const YamlNode& value, const Place& place,
            std::vector<std::pair<std::string, std::string>>* out);
  // A duration as Prometheus writes them: 1h30m, 15s, 500ms, 1d; units descend, each once. 0 needs
  // none.
  void ReadMs(const YamlNode& value, const Place& place, int64_t* out);

 private:
  void ComplainOfUnknown(const std::string& key, const Place& place,
                         std::initializer_list<Field> fields);

  const YamlTree& tree_;
  Complaints* const complaints_;
};

}  // namespace tallyd

#endif  // TALLYD_DAEMON_YAML_FIELDS_H_
