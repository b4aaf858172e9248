// The C++ header: names as constants, labels as enumerations, and one struct for each metric whose
// functions take exactly its labels. What is renamed in the catalog does not compile any more.

#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "daemon/catalog/code_names.h"
#include "daemon/catalog/generated_text.h"
#include "daemon/catalog/generators.h"

namespace tallyd {
namespace {

// What every header has. A line is made on the stack and given to the sink as a whole.
constexpr char kLine[] = R"header(
// A line may have so many bytes. A longer one is not sent, and the function that made it says
// false.
inline constexpr std::size_t kMaxLineBytes = 1024;

namespace detail {

class Line {
 public:
  void Put(std::string_view text) {
    if (text.size() > kMaxLineBytes - size_) {
      fits_ = false;
      return;
    }
    std::memcpy(bytes_ + size_, text.data(), text.size());
    size_ += text.size();
  }
  // A value that somebody else chose: what would end a tag, a segment or the line becomes "_".
  void PutValue(std::string_view text, std::string_view ends) {
    for (const char c : text) {
      const bool fits_in = c != '\n' && c != '\r' && c != '|' && ends.find(c) == ends.npos;
      Put(fits_in ? std::string_view(&c, 1) : std::string_view("_"));
    }
  }
  void PutSegment(std::string_view text) { PutValue(text, ".:,#;[]"); }
  void PutTag(std::string_view text) { PutValue(text, ","); }
  void PutNumber(double value) {
    char digits[32];
    const std::to_chars_result end = std::to_chars(digits, digits + sizeof digits, value);
    Put(std::string_view(digits, static_cast<std::size_t>(end.ptr - digits)));
  }
  template <typename Sink>
  bool SendTo(Sink& sink) const {
    if (fits_) sink(std::string_view(bytes_, size_));
    return fits_;
  }

 private:
  char bytes_[kMaxLineBytes];
  std::size_t size_ = 0;
  bool fits_ = true;
};

}  // namespace detail

// A sink that packs lines into datagrams: `send` gets each as a std::string_view when it is full,
// on Flush(), and at the end. Not to be shared between threads.
template <typename Send, std::size_t bytes = 1432>
class Batch {
  static_assert(bytes >= kMaxLineBytes, "a line must fit");

 public:
  explicit Batch(Send send) : send_(static_cast<Send&&>(send)) {}
  Batch(const Batch&) = delete;
  Batch& operator=(const Batch&) = delete;
  ~Batch() { Flush(); }

  void operator()(std::string_view line) {
    if (size_ + 1 + line.size() > bytes) Flush();
    if (size_ > 0) bytes_[size_++] = '\n';
    std::memcpy(bytes_ + size_, line.data(), line.size());
    size_ += line.size();
  }
  void Flush() {
    if (size_ > 0) send_(std::string_view(bytes_, size_));
    size_ = 0;
  }

 private:
  Send send_;
  char bytes_[bytes];
  std::size_t size_ = 0;
};
)header";

class CppHeader {
 public:
  explicit CppHeader(const Catalog& catalog)
      : catalog_(catalog), names_({"detail", "kMaxLineBytes", "Batch", "Text", "kService"}) {}

  std::string Take() {
    NameEnumerations();
    const std::string name = catalog_.service + "_metrics";
    const std::string guard = UpperCase(name) + "_H_";
    absl::StrAppend(&text_, "// ", GeneratedFrom(catalog_), "\n//\n");
    text_ += Comment("// ",
                     absl::StrCat("The metrics of ", catalog_.service, ". ", catalog_.description));
    text_ += "//\n";
    text_ += Comment("// ",
                     "Each struct is a metric. Its functions make one StatsD line with DogStatsD "
                     "tags and give it to `sink`, which is called with a std::string_view; values "
                     "are in the unit of the metric. Needs C++17 and the standard library alone.");
    absl::StrAppend(&text_, "\n#ifndef ", guard, "\n#define ", guard, "\n\n",
                    "#include <charconv>\n#include <chrono>\n#include <cstddef>\n",
                    "#include <cstring>\n#include <string_view>\n\n", "namespace ", name, " {\n",
                    "\ninline constexpr std::string_view kService = ", CppLiteral(catalog_.service),
                    ";\n", kLine);
    for (const auto& [key, enumeration] : enumerations_) AddEnumeration(key.first, enumeration);
    for (const DeclaredMetric& metric : catalog_.metrics) AddMetric(metric);
    absl::StrAppend(&text_, "\n}  // namespace ", name, "\n\n#endif  // ", guard, "\n");
    return std::move(text_);
  }

 private:
  struct Enumeration {
    std::string type;
    const DeclaredLabel* label = nullptr;
    std::vector<std::string> enumerators;
  };
  // A label with the same values is one enumeration, whatever metrics have it.
  using Key = std::pair<std::string, std::vector<std::string>>;

  void NameEnumerations() {
    std::map<std::string, std::set<std::vector<std::string>>> sets;
    for (const DeclaredMetric& metric : catalog_.metrics) {
      for (const DeclaredLabel& label : metric.labels) sets[label.name].insert(label.values);
    }
    for (const DeclaredMetric& metric : catalog_.metrics) {
      for (const DeclaredLabel& label : metric.labels) {
        if (!label.is_enumerable()) continue;
        Enumeration& enumeration = enumerations_[{label.name, label.values}];
        if (enumeration.label != nullptr) continue;
        const bool is_shared = sets[label.name].size() == 1;
        enumeration.label = &label;
        enumeration.type =
            names_.Take(TypeCase(is_shared ? label.name : metric.name + "_" + label.name));
        UniqueNames enumerators;
        for (const std::string& value : label.values) {
          enumeration.enumerators.push_back(enumerators.Take("k" + CamelCase(value)));
        }
      }
    }
  }

  void AddEnumeration(const std::string& label, const Enumeration& enumeration) {
    text_ += "\n";
    text_ += Comment("// ", absl::StrCat("Label ", label, ". ", enumeration.label->help));
    absl::StrAppend(&text_, "enum class ", enumeration.type, " {\n");
    for (const std::string& name : enumeration.enumerators) {
      absl::StrAppend(&text_, "  ", name, ",\n");
    }
    absl::StrAppend(&text_, "};\n\nconstexpr std::string_view Text(", enumeration.type,
                    " value) {\n  switch (value) {\n");
    for (size_t i = 0; i < enumeration.enumerators.size(); ++i) {
      absl::StrAppend(&text_, "    case ", enumeration.type, "::", enumeration.enumerators[i],
                      ":\n      return ", CppLiteral(enumeration.label->values[i]), ";\n");
    }
    text_ += "  }\n  return {};\n}\n";
  }

  std::string TypeOf(const DeclaredLabel& label) const {
    const auto found = enumerations_.find({label.name, label.values});
    return found == enumerations_.end() ? "std::string_view" : found->second.type;
  }

  static std::string FreeParameter(int number) { return absl::StrCat("segment_", number); }

  void AddMetric(const DeclaredMetric& metric) {
    text_ += "\n";
    text_ += Comment("// ", metric.help);
    const std::string unit = UnitOf(metric);
    text_ += Comment("// ", absl::StrCat("A ", TypeName(metric.type),
                                         unit.empty() ? "" : absl::StrCat(" in ", unit),
                                         IsSent(metric) ? "." : ", read by tallyd: never sent."));
    const std::string name = names_.Take(TypeCase(metric.name));
    absl::StrAppend(&text_, "struct ", name,
                    " {\n  static constexpr std::string_view kName = ", CppLiteral(metric.name),
                    ";\n");
    if (IsSent(metric)) AddFunctions(metric);
    text_ += "};\n";
  }

  void AddFunctions(const DeclaredMetric& metric) {
    const Emission emission = EmissionOf(metric);
    absl::StrAppend(&text_,
                    "  static constexpr std::string_view kSource = ", CppLiteral(emission.source),
                    ";\n");
    parameters_.clear();
    arguments_.clear();
    for (const DeclaredLabel* const label : ParametersOf(metric, emission)) {
      AddParameter(TypeOf(*label), CppParameter(label->name));
    }
    for (const Emission::Part& part : emission.name) {
      if (part.free != 0) AddParameter("std::string_view", FreeParameter(part.free));
    }
    AddSend(emission);
    switch (metric.type) {
      case DeclaredType::kCounter:
        AddFunction("Add", "double value = 1", {Value("", emission.factor)});
        break;
      case DeclaredType::kGauge:
        AddGauge(metric, emission.factor);
        break;
      case DeclaredType::kSet:
        AddFunction("Insert", "std::string_view member", {"line.PutTag(member);"});
        break;
      case DeclaredType::kHistogram:
      case DeclaredType::kSummary:
        AddFunction("Observe", "double value", {Value("", emission.factor)});
        if (UnitOf(metric) == "seconds") AddDuration();
        break;
    }
  }

  // A signed value is a change, so a negative one is set by way of 0.
  void AddGauge(const DeclaredMetric& metric, double factor) {
    if (!metric.non_negative) {
      absl::StrAppend(&text_, "  template <typename Sink>\n  static bool Set(Sink&& sink",
                      parameters_, ", double value) {\n",
                      "    const auto put_zero = [](detail::Line& line) { line.Put(\"0\"); };\n",
                      "    if (value < 0 && !Send(sink", arguments_, ", put_zero)) return false;\n",
                      "    return Send(sink", arguments_, ", [value](detail::Line& line) { ",
                      Value("", factor), " });\n  }\n");
    } else {
      AddFunction("Set", "double value", {"if (value < 0) value = 0;", Value("", factor)});
    }
    text_ += "  // Changes it: for listeners of the statsd dialect, where a sign makes a change.\n";
    AddFunction("Add", "double value", {"if (!(value < 0)) line.Put(\"+\");", Value("", factor)});
  }

  void AddDuration() {
    absl::StrAppend(&text_, "  template <typename Sink, typename Count, typename Period>\n",
                    "  static bool Observe(Sink&& sink", parameters_,
                    ", std::chrono::duration<Count, Period> value) {\n", "    return Observe(sink",
                    arguments_, ", std::chrono::duration<double>(value).count());\n  }\n");
  }

  static std::string Value(const std::string& before, double factor) {
    const std::string number =
        factor == 1 ? "value"
                    : (factor > 1 ? absl::StrCat("value * ", CodeNumber(factor))
                                  : absl::StrCat("value / ", CodeNumber(1 / factor)));
    return absl::StrCat(before, "line.PutNumber(", number, ");");
  }

  void AddParameter(const std::string& type, const std::string& name) {
    absl::StrAppend(&parameters_, ", ", type, " ", name);
    absl::StrAppend(&arguments_, ", ", name);
  }

  void AddFunction(const std::string& name, const std::string& value,
                   const std::vector<std::string>& puts) {
    const std::string captured = value.find(" member") == std::string::npos ? "value" : "member";
    absl::StrAppend(&text_, "  template <typename Sink>\n  static bool ", name, "(Sink&& sink",
                    parameters_, ", ", value, ") {\n    return Send(sink", arguments_, ", [",
                    captured, "](detail::Line& line)",
                    absl::StrContains(puts.front(), "value = ") ? " mutable" : "", " {\n");
    for (const std::string& put : puts) absl::StrAppend(&text_, "      ", put, "\n");
    text_ += "    });\n  }\n";
  }

  // The function that the others share: it writes all of the line but the value.
  void AddSend(const Emission& emission) {
    absl::StrAppend(&send_, "\n private:\n  template <typename Sink, typename PutNumbers>\n",
                    "  static bool Send(Sink& sink", parameters_, ", PutNumbers put_value) {\n",
                    "    detail::Line line;\n");
    const auto put = [&](const std::string& text) {
      absl::StrAppend(&send_, "    line.Put(", CppLiteral(text), ");\n");
    };
    for (const Emission::Part& part : emission.name) {
      if (!part.text.empty()) {
        put(part.text);
      } else {
        PutLabel("PutSegment", part.label, part.free);
      }
    }
    send_ += "    line.Put(\":\");\n    put_value(line);\n";
    put(absl::StrCat("|", emission.type));
    for (const DeclaredLabel* const label : emission.tags) {
      put(absl::StrCat(label == emission.tags.front() ? "|#" : ",", label->name, ":"));
      PutLabel("PutTag", label, 0);
    }
    send_ += "    return line.SendTo(sink);\n  }\n";
    text_ += std::exchange(send_, "");
    text_ += "\n public:\n";
  }

  void PutLabel(const std::string& how, const DeclaredLabel* label, int free) {
    const std::string name = free != 0 ? FreeParameter(free) : CppParameter(label->name);
    const bool is_enumerated = free == 0 && label->is_enumerable();
    absl::StrAppend(&send_, "    line.", how, "(", is_enumerated ? "Text(" + name + ")" : name,
                    ");\n");
  }

  const Catalog& catalog_;
  UniqueNames names_;
  std::map<Key, Enumeration> enumerations_;
  std::string parameters_;  // of the metric at hand: ", Status status"
  std::string arguments_;   // ", status"
  std::string send_;
  std::string text_;
};

}  // namespace

std::vector<GeneratedFile> GenerateCpp(const Catalog& catalog) {
  return {{catalog.service + "_metrics.h", CppHeader(catalog).Take()}};
}

}  // namespace tallyd
