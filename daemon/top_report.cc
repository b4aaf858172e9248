#include "daemon/top_report.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "daemon/json_object.h"

namespace tallyd {
namespace {

// The fields of a part of the report, each named once: for a Writer with a part to write, or a
// Reader with one to fill.
template <typename Io, typename Part>
void FieldsOf(Io* io, Part& part);

// Counts are written as integers: a double would lose the last digits.
class Writer {
 public:
  void Field(const char* name, const std::string& text) { object_.AddText(name, text); }
  void Field(const char* name, bool value) { object_.AddBool(name, value); }
  void Field(const char* name, double value) {
    object_.Add(name, std::isfinite(value) ? absl::StrFormat("%.12g", value) : "null");
  }
  template <typename Int, std::enable_if_t<std::is_integral_v<Int>, int> = 0>
  void Field(const char* name, Int value) {
    object_.Add(name, absl::StrCat(value));
  }
  template <typename T>
  void Field(const char* name, const std::optional<T>& value) {
    if (value.has_value()) Field(name, *value);
  }
  template <typename Row>
  void List(const char* name, const std::vector<Row>& rows) {
    object_.Add(name, JsonList(rows, [](const Row& row) {
                  Writer writer;
                  FieldsOf(&writer, row);
                  return writer.Take();
                }));
  }
  template <typename Part>
  void Object(const char* name, const Part& part) {
    Writer writer;
    FieldsOf(&writer, part);
    object_.Add(name, writer.Take());
  }
  template <typename Part>
  void Object(const char* name, const std::optional<Part>& part) {
    if (part.has_value()) Object(name, *part);
  }
  std::string Take() { return object_.Take(); }

 private:
  JsonObject object_;
};

// JSON is YAML.
class Reader {
 public:
  explicit Reader(const YAML::Node& node) : node_(node) {}

  void Field(const char* name, std::string& text) {
    const YAML::Node value = node_[name];
    if (value && value.IsScalar()) text = value.Scalar();
  }
  void Field(const char* name, bool& value) {
    std::string text;
    Field(name, text);
    value = text == "true";
  }
  void Field(const char* name, double& value) {
    std::string text;
    Field(name, text);
    double number = 0;
    if (absl::SimpleAtod(text, &number) && std::isfinite(number)) value = number;
  }
  template <typename Int, std::enable_if_t<std::is_integral_v<Int>, int> = 0>
  void Field(const char* name, Int& value) {
    std::string text;
    Field(name, text);
    Int number = 0;
    if (absl::SimpleAtoi(text, &number)) value = number;
  }
  template <typename T>
  void Field(const char* name, std::optional<T>& value) {
    if (!node_[name]) return;
    T read{};
    Field(name, read);
    value = read;
  }
  template <typename Row>
  void List(const char* name, std::vector<Row>& rows) {
    const YAML::Node list = node_[name];
    if (!list || !list.IsSequence()) return;
    for (const YAML::Node& item : list) {
      if (!item.IsMap()) continue;
      Reader reader(item);
      FieldsOf(&reader, rows.emplace_back());
    }
  }
  template <typename Part>
  void Object(const char* name, Part& part) {
    const YAML::Node object = node_[name];
    if (!object || !object.IsMap()) return;
    Reader reader(object);
    FieldsOf(&reader, part);
  }
  template <typename Part>
  void Object(const char* name, std::optional<Part>& part) {
    if (node_[name]) Object(name, part.emplace());
  }

 private:
  const YAML::Node node_;
};

template <typename Part, typename Whole>
constexpr bool kIs = std::is_same_v<std::remove_const_t<Part>, Whole>;

template <typename Io, typename Part>
void FieldsOf(Io* io, Part& part) {
  if constexpr (kIs<Part, TopReport::Listener>) {
    io->Field("name", part.name);
    io->Field("samples", part.samples);
    io->Field("datagrams", part.datagrams);
    io->Field("bytes", part.bytes);
    io->Field("truncated", part.truncated);
    io->Field("kernel_dropped", part.kernel_dropped);
    io->Field("connections", part.connections);
    io->Field("samples_per_second", part.samples_rate);
    io->Field("datagrams_per_second", part.datagrams_rate);
  } else if constexpr (kIs<Part, TopReport::Reason>) {
    io->Field("reason", part.reason);
    io->Field("count", part.count);
    io->Field("per_second", part.rate);
  } else if constexpr (kIs<Part, TopReport::Family>) {
    io->Field("name", part.name);
    io->Field("type", part.type);
    io->Field("series", part.series);
    io->Field("limit", part.limit);
    io->Field("folded", part.folded);
    io->Field("changes", part.changes);
    io->Field("changes_per_second", part.changes_rate);
  } else if constexpr (kIs<Part, TopReport::Sender>) {
    io->Field("kind", part.kind);
    io->Field("pid", part.pid);
    io->Field("uid", part.uid);
    io->Field("gid", part.gid);
    io->Field("command", part.command);
    io->Field("unit", part.unit);
    io->Field("start_ticks", part.start_ticks);
    io->Field("ended", part.ended);
    io->Field("seen_seconds_ago", part.seen_seconds_ago);
    io->Field("datagrams", part.datagrams);
    io->Field("samples", part.samples);
    io->Field("dropped", part.dropped);
    io->Field("folded", part.folded);
    io->Field("series_made", part.series_made);
    io->Field("series", part.series);
    io->Field("samples_per_second", part.samples_rate);
    io->Field("dropped_per_second", part.dropped_rate);
  } else if constexpr (kIs<Part, TopReport::OverBudget>) {
    io->Field("of", part.of);
    io->Field("family", part.family);
    io->Field("label", part.label);
    io->Field("sender", part.sender);
    io->Field("series", part.series);
    io->Field("limit", part.limit);
    io->Field("folded", part.folded);
  } else if constexpr (kIs<Part, TopReport::Budgets>) {
    io->Field("family_limit", part.family_limit);
    io->Field("sender_limit", part.sender_limit);
    io->List("over", part.over);
  } else {
    static_assert(kIs<Part, TopReport>);
    io->Field("at_seconds", part.at_seconds);
    io->Field("up_seconds", part.up_seconds);
    io->Field("version", part.version);
    io->Field("pid", part.pid);
    io->Field("shards", part.shards);
    io->Field("cpu_seconds", part.cpu_seconds);
    io->Field("resident_bytes", part.resident_bytes);
    io->Field("received", part.received);
    io->Field("applied", part.applied);
    io->Field("dropped", part.dropped);
    io->Field("folded", part.folded);
    io->Field("datagrams", part.datagrams);
    io->Field("bytes", part.bytes);
    io->Field("kernel_dropped", part.kernel_dropped);
    io->Field("series", part.series);
    io->Field("series_limit", part.series_limit);
    io->Field("family_count", part.family_count);
    io->Field("sender_count", part.sender_count);
    io->Field("keys", part.keys);
    io->Field("key_bytes", part.key_bytes);
    io->Field("interval_seconds", part.interval_seconds);
    io->Field("received_per_second", part.received_rate);
    io->Field("applied_per_second", part.applied_rate);
    io->Field("dropped_per_second", part.dropped_rate);
    io->Field("folded_per_second", part.folded_rate);
    io->Field("datagrams_per_second", part.datagrams_rate);
    io->Field("bytes_per_second", part.bytes_rate);
    io->Field("cpu_share", part.cpu_share);
    io->List("listeners", part.listeners);
    io->List("drops", part.drops);
    io->List("repairs", part.repairs);
    io->List("families", part.families);
    io->List("senders", part.senders);
    io->Object("budgets", part.budgets);
  }
}

// A count's growth a second; none if it has shrunk, which it cannot.
std::optional<double> Rate(uint64_t before, uint64_t now, double seconds) {
  if (now < before) return {};
  return static_cast<double>(now - before) / seconds;
}

template <typename Row>
absl::flat_hash_map<std::string, const Row*> ByName(const std::vector<Row>& rows,
                                                    std::string Row::*name) {
  absl::flat_hash_map<std::string, const Row*> by_name;
  for (const Row& row : rows) by_name.emplace(row.*name, &row);
  return by_name;
}

void AddReasonRates(const std::vector<TopReport::Reason>& before, double seconds,
                    std::vector<TopReport::Reason>* now) {
  const auto known = ByName(before, &TopReport::Reason::reason);
  for (TopReport::Reason& reason : *now) {
    const auto found = known.find(reason.reason);
    if (found != known.end()) reason.rate = Rate(found->second->count, reason.count, seconds);
  }
}

void AddListenerRates(const TopReport& before, double seconds, TopReport* now) {
  const auto known = ByName(before.listeners, &TopReport::Listener::name);
  for (TopReport::Listener& listener : now->listeners) {
    const auto found = known.find(listener.name);
    if (found == known.end()) continue;
    listener.samples_rate = Rate(found->second->samples, listener.samples, seconds);
    listener.datagrams_rate = Rate(found->second->datagrams, listener.datagrams, seconds);
  }
}

void AddFamilyRates(const TopReport& before, double seconds, TopReport* now) {
  const auto known = ByName(before.families, &TopReport::Family::name);
  for (TopReport::Family& family : now->families) {
    const auto found = known.find(family.name);
    if (found == known.end()) continue;
    family.changes_rate = Rate(found->second->changes, family.changes, seconds);
  }
}

std::string IdentityOf(const TopReport::Sender& sender) {
  return absl::StrCat(sender.kind, " ", sender.pid, " ", sender.uid.value_or(UINT32_MAX), " ",
                      sender.gid.value_or(UINT32_MAX), " ", sender.start_ticks);
}

void AddSenderRates(const TopReport& before, double seconds, TopReport* now) {
  absl::flat_hash_map<std::string, const TopReport::Sender*> known;
  for (const TopReport::Sender& sender : before.senders) {
    known.emplace(IdentityOf(sender), &sender);
  }
  // Names, and with them the start, are looked up a little later than a sender is first seen.
  const auto find = [&known](TopReport::Sender sender) {
    auto found = known.find(IdentityOf(sender));
    if (found != known.end()) return found;
    sender.start_ticks = 0;
    return known.find(IdentityOf(sender));
  };
  const auto processes =
      std::count_if(before.senders.begin(), before.senders.end(),
                    [](const TopReport::Sender& sender) { return sender.kind == "process"; });
  const bool all_known = static_cast<uint64_t>(processes) == before.sender_count;
  for (TopReport::Sender& sender : now->senders) {
    const auto found = find(sender);
    if (found == known.end() && !all_known) continue;
    const TopReport::Sender none;
    const TopReport::Sender& former = found == known.end() ? none : *found->second;
    sender.samples_rate = Rate(former.samples, sender.samples, seconds);
    sender.dropped_rate = Rate(former.dropped, sender.dropped, seconds);
  }
}

}  // namespace

std::string TopJson(const TopReport& report) {
  Writer writer;
  FieldsOf(&writer, report);
  return writer.Take() + "\n";
}

absl::StatusOr<TopReport> ParseTop(const std::string& json_untrusted) {
  TopReport report;
  try {
    const YAML::Node node = YAML::Load(json_untrusted);
    if (!node.IsMap()) return absl::InvalidArgumentError("the answer is no JSON object");
    Reader reader(node);
    FieldsOf(&reader, report);
  } catch (const YAML::Exception& error) {
    return absl::InvalidArgumentError(absl::StrCat("the answer is no JSON: ", error.what()));
  }
  return report;
}

void AddRates(const TopReport& before, TopReport* now) {
  const double seconds = now->at_seconds - before.at_seconds;
  const bool same = before.pid == now->pid && now->up_seconds >= before.up_seconds;
  if (!same || seconds <= 0) return;
  now->interval_seconds = seconds;
  now->received_rate = Rate(before.received, now->received, seconds);
  now->applied_rate = Rate(before.applied, now->applied, seconds);
  now->dropped_rate = Rate(before.dropped, now->dropped, seconds);
  now->folded_rate = Rate(before.folded, now->folded, seconds);
  now->datagrams_rate = Rate(before.datagrams, now->datagrams, seconds);
  now->bytes_rate = Rate(before.bytes, now->bytes, seconds);
  now->cpu_share = std::max(0.0, now->cpu_seconds - before.cpu_seconds) / seconds;
  AddReasonRates(before.drops, seconds, &now->drops);
  AddReasonRates(before.repairs, seconds, &now->repairs);
  AddListenerRates(before, seconds, now);
  AddFamilyRates(before, seconds, now);
  AddSenderRates(before, seconds, now);
}

}  // namespace tallyd
