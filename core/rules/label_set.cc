#include "core/rules/label_set.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "core/rules/sanitize.h"

namespace tallyd {
namespace {

constexpr auto kNone = std::string_view::npos;

void Count(uint16_t* count) {
  if (*count < UINT16_MAX) ++*count;
}

void Append(std::string_view list, std::vector<Label>* labels) {
  ForEachTag(list, [labels](std::string_view text) {
    const Tag tag = SplitTag(text, ':');
    labels->push_back({std::string(tag.key), std::string(tag.value)});
  });
}

bool ByName(const Label& a, const Label& b) { return a.name < b.name; }

}  // namespace

SessionLabels TakeSession(std::string_view* tags) {
  SessionLabels session;
  const size_t at = tags->rfind("|=");
  if (at == kNone) return session;
  const std::string_view text = tags->substr(at + 2);
  *tags = tags->substr(0, at);
  const char* const end = text.data() + text.size();
  const char* const comma = std::from_chars(text.data(), end, session.ttl_ms).ptr;
  if (comma != end) Append({comma + 1, static_cast<size_t>(end - comma - 1)}, &session.labels);
  std::sort(session.labels.begin(), session.labels.end(), ByName);
  return session;
}

uint16_t PutLabels(const std::vector<Label>& over, std::vector<Label>* labels) {
  uint16_t overridden = 0;
  for (const Label& label : over) {
    const auto place = std::lower_bound(labels->begin(), labels->end(), label, ByName);
    if (place != labels->end() && place->name == label.name) {
      *place = label;
      Count(&overridden);
    } else {
      labels->insert(place, label);
    }
  }
  return overridden;
}

void LabelSet::ReadName(const SplitName& name) {
  if (name.lone_bracket) Count(&bad_name_tags_);
  ForEachTag(name.tags, [this](std::string_view text) {
    ++tags_;
    const Tag tag = SplitTag(text, '=');
    if (!tag.good()) return Count(&bad_name_tags_);
    Add(tag.key, tag.value);
  });
}

void LabelSet::ReadSections(std::string_view tags) {
  size_t bar = tags.find('|');
  ReadSection(tags.substr(0, bar));
  while (bar != kNone) {
    tags.remove_prefix(bar + 1);
    bar = tags.find('|');
    const std::string_view section = tags.substr(0, bar);
    if (section[0] == '#') {
      ReadSection(section.substr(1));
    } else if (container_id_label_) {
      Add("container_id", section.substr(2));  // "c:" and the id
    }
  }
}

void LabelSet::ReadSection(std::string_view list) {
  if (!dialects_.dogstatsd) return;
  ForEachTag(list, [this](std::string_view text) {
    ++tags_;
    if (!text.empty() && text[0] == '#') text.remove_prefix(1);
    const Tag tag = SplitTag(text, ':');
    if (!tag.good()) return Count(&bad_tags_);
    Add(tag.key, tag.value);
  });
}

void LabelSet::Add(std::string_view name, std::string_view value) {
  Label& label = labels_.emplace_back();
  AppendSanitizedName(name, &label.name);
  label.value = value;
}

uint16_t LabelSet::KeepLast() {
  uint16_t overridden = 0;
  std::stable_sort(labels_.begin(), labels_.end(), ByName);
  std::vector<Label> kept;
  for (Label& label : labels_) {
    if (!kept.empty() && kept.back().name == label.name) {
      kept.pop_back();
      Count(&overridden);
    }
    kept.push_back(std::move(label));
  }
  labels_ = std::move(kept);
  return overridden;
}

void LabelSet::Overlay(std::vector<std::pair<std::string_view, std::string>>* labels,
                       bool honor_tags) {
  for (auto& [name, value] : *labels) {
    Label label{std::string(name), std::move(value)};
    const auto place = std::lower_bound(labels_.begin(), labels_.end(), label, ByName);
    const bool is_there = place != labels_.end() && place->name == label.name;
    if (is_there && honor_tags) continue;
    if (label.value.empty()) {
      if (is_there) labels_.erase(place);
    } else if (is_there) {
      *place = std::move(label);
    } else {
      labels_.insert(place, std::move(label));
    }
  }
}

}  // namespace tallyd
