// Reads the Prometheus text format 0.0.4 back, strictly: anything a scraper might object to, and
// anything the merger promises beyond that, is an error.

#ifndef TALLYD_TESTS_CORE_MERGE_EXPOSITION_H_
#define TALLYD_TESTS_CORE_MERGE_EXPOSITION_H_

#include <cstddef>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>

namespace tallyd {

class Exposition {
 public:
  // Families must be sorted, named once and have HELP and TYPE before their samples; names, labels
  // and values must be well formed, labels sorted, series unique; a histogram's buckets must not
  // fall, and end with +Inf and the count.
  explicit Exposition(std::string_view text) {
    while (!text.empty() && ok()) {
      const size_t end = text.find('\n');
      if (end == std::string_view::npos) {
        Fail("no LF at the end", text);
        return;
      }
      ReadLine(text.substr(0, end));
      text.remove_prefix(end + 1);
    }
    if (ok()) EndSeries();
  }

  bool ok() const { return error_.empty(); }
  // What is wrong, and with which line.
  const std::string& error() const { return error_; }
  // Sample name with labels -> value as written.
  const std::map<std::string, std::string>& values() const { return values_; }

 private:
  static bool IsName(std::string_view text) {
    if (text.empty() || (text[0] >= '0' && text[0] <= '9')) return false;
    for (const char c : text) {
      const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
      if (!letter && c != '_' && !(c >= '0' && c <= '9')) return false;
    }
    return true;
  }

  void Fail(std::string_view what, std::string_view line) {
    if (ok()) error_ = std::string(what) + ": " + std::string(line);
  }

  void ReadLine(std::string_view line) {
    if (line.substr(0, 7) == "# HELP ") return BeginFamily(line);
    if (line.substr(0, 7) == "# TYPE ") return ReadType(line);
    ReadSample(line);
  }

  void BeginFamily(std::string_view line) {
    EndSeries();
    const std::string_view rest = line.substr(7);
    const std::string name(rest.substr(0, rest.find(' ')));
    if (!IsName(name)) return Fail("bad family name", line);
    if (!family_.empty() && name <= family_) return Fail("families out of order", line);
    if (!has_samples_ && !family_.empty()) return Fail("a family without samples", line);
    family_ = name;
    type_.clear();
    has_samples_ = false;
  }

  void ReadType(std::string_view line) {
    const std::string start = "# TYPE " + family_ + " ";
    if (family_.empty() || line.substr(0, start.size()) != start) return Fail("stray TYPE", line);
    if (!type_.empty()) return Fail("second TYPE", line);
    type_ = line.substr(start.size());
    if (type_ != "counter" && type_ != "gauge" && type_ != "histogram") Fail("bad type", line);
  }

  void ReadSample(std::string_view line) {
    const size_t name_size = line.find_first_of("{ ");
    if (name_size == std::string_view::npos) return Fail("no value", line);
    const std::string_view name = line.substr(0, name_size);
    std::string_view rest = line.substr(name_size);
    std::string labels;
    std::string le;
    if (rest[0] == '{' && !ReadLabels(&rest, &labels, &le)) return Fail("bad labels", line);
    if (rest.size() < 2 || rest[0] != ' ') return Fail("no value", line);
    const std::string value(rest.substr(1));
    double number = 0;
    if (!ReadValue(value, &number)) return Fail("bad value", line);
    if (type_.empty()) return Fail("sample before TYPE", line);
    has_samples_ = true;
    if (!values_.emplace(std::string(line.substr(0, line.size() - rest.size())), value).second) {
      return Fail("series shown twice", line);
    }
    if (type_ == "histogram") return ReadHistogramLine(name, labels, le, number, line);
    if (name != family_) return Fail("sample of another family", line);
    if (type_ == "counter" && !(number >= 0)) Fail("negative counter", line);
  }

  // "{", then name="value" with commas between, "}". Takes `le` out of the labels.
  static bool ReadLabels(std::string_view* rest, std::string* labels, std::string* le) {
    std::string last;
    rest->remove_prefix(1);
    while (true) {
      const size_t equals = rest->find("=\"");
      if (equals == std::string_view::npos) return false;
      const std::string name(rest->substr(0, equals));
      if (!IsName(name) || (name != "le" && !last.empty() && name <= last)) return false;
      rest->remove_prefix(equals + 2);
      std::string value;
      while (!rest->empty() && (*rest)[0] != '"') {
        const bool escape = (*rest)[0] == '\\';
        if (escape && (rest->size() < 2 ||
                       std::string_view("\\\"n").find((*rest)[1]) == std::string_view::npos)) {
          return false;
        }
        value += rest->substr(0, escape ? 2 : 1);
        rest->remove_prefix(escape ? 2 : 1);
      }
      if (rest->size() < 2) return false;
      if (name == "le") {
        *le = value;
      } else {
        *labels += name + "=" + value + ",";
        last = name;
      }
      const char after = (*rest)[1];
      rest->remove_prefix(2);
      if (after == '}') return true;
      if (after != ',') return false;
    }
  }

  static bool ReadValue(const std::string& text, double* number) {
    if (text.find_first_not_of("0123456789.e+-NaInf") != std::string::npos) return false;
    size_t end = 0;
    try {
      *number = std::stod(text, &end);
    } catch (const std::out_of_range&) {  // a subnormal number, to this library
      return true;
    } catch (const std::invalid_argument&) {
      return false;
    }
    return end == text.size();
  }

  void ReadHistogramLine(std::string_view name, const std::string& labels, const std::string& le,
                         double number, std::string_view line) {
    if (name == family_ + "_bucket") {
      if (!in_buckets_) EndSeries();
      if (in_buckets_ && labels != labels_) return Fail("buckets end without +Inf", line);
      if (in_buckets_ && number < bucket_) return Fail("buckets fall", line);
      in_buckets_ = le != "+Inf";
      needs_count_ = !in_buckets_;
      labels_ = labels;
      bucket_ = number;
    } else if (name == family_ + "_count") {
      if (!needs_count_ || labels != labels_) return Fail("stray count", line);
      if (number != bucket_) return Fail("count is not the +Inf bucket", line);
      needs_count_ = false;
    } else if (name != family_ + "_sum") {
      Fail("sample of another family", line);
    }
  }

  void EndSeries() {
    if (in_buckets_ || needs_count_) Fail("a histogram without its end", family_);
  }

  std::map<std::string, std::string> values_;
  std::string error_;
  std::string family_;
  std::string type_;
  bool has_samples_ = false;
  // Of the histogram being read.
  bool in_buckets_ = false;
  bool needs_count_ = false;
  std::string labels_;
  double bucket_ = 0;
};

}  // namespace tallyd

#endif  // TALLYD_TESTS_CORE_MERGE_EXPOSITION_H_
