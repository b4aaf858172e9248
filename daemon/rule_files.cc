#include "daemon/rule_files.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "daemon/catalog_file.h"
#include "daemon/exit_code.h"
#include "daemon/mapping_file.h"
#include "daemon/web/web_access.h"

namespace tallyd {
namespace {

// Takes what there is of a file, or notes why there is none.
template <typename T>
void TakeOr(absl::StatusOr<T> loaded, T* value, std::vector<std::string>* problems) {
  if (loaded.ok()) {
    *value = *std::move(loaded);
  } else {
    problems->emplace_back(loaded.status().message());
  }
}

Rules::Options ReadRules(const Options& options, std::vector<std::string>* problems) {
  Rules::Options rules;
  rules.default_ttl_ms = absl::ToInt64Milliseconds(options.series_ttl);
  rules.tags = options.tags;
  rules.limits = options.key_limits;
  rules.container_id_label = options.container_id_label;
  TakeOr(LoadCatalogIndex(options.catalog_files, options.series_limit), &rules.catalog, problems);
  if (!options.mapping_config.empty()) {
    TakeOr(LoadMapping(options.mapping_config), &rules.mapping, problems);
  }
  return rules;
}

absl::StatusOr<Rules::Options> UnlessWrong(Rules::Options rules,
                                           const std::vector<std::string>& problems) {
  if (!problems.empty()) return UsageError(absl::StrJoin(problems, "\n"));
  return rules;
}

}  // namespace

absl::StatusOr<Rules::Options> LoadRules(const Options& options) {
  std::vector<std::string> problems;
  Rules::Options rules = ReadRules(options, &problems);
  return UnlessWrong(std::move(rules), problems);
}

absl::StatusOr<Rules::Options> LoadRulesToStart(const Options& options) {
  std::vector<std::string> problems;
  Rules::Options rules = ReadRules(options, &problems);
  const absl::Status web = WebAccess::CheckFile(options.web_config_file);
  if (!web.ok()) problems.emplace_back(web.message());
  return UnlessWrong(std::move(rules), problems);
}

}  // namespace tallyd
