// Reads catalogs (docs/catalog.md).

#ifndef TALLYD_DAEMON_CATALOG_FILE_H_
#define TALLYD_DAEMON_CATALOG_FILE_H_

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "core/rules/catalog.h"
#include "core/rules/catalog_index.h"

namespace tallyd {

// Largest file that is read, and most YAML nodes with all aliases followed.
inline constexpr size_t kMaxCatalogBytes = 4 << 20;
inline constexpr size_t kMaxCatalogNodes = 500'000;

// Reads and checks. `file` is for messages. An error is of the class kInvalidArgument: one line for
// each thing that is wrong, up to 20, each "file:line: key: what is wrong; what to do", in the
// order of the file, and "and N more".
absl::StatusOr<Catalog> ParseCatalog(std::string_view yaml, std::string_view file);

// The same of a file; one that cannot be read is an error of the class that the system's fits.
absl::StatusOr<Catalog> LoadCatalog(const std::string& path);

// Catalogs that hold beside each other, in the order given. What is wrong with any of them is said
// at once: first of the first file.
absl::StatusOr<std::vector<Catalog>> LoadCatalogs(const std::vector<std::string>& paths);

// The same, ready for the rules; null without any. Refuses catalogs whose series that are there
// from the start come to more than `series_limit`.
absl::StatusOr<std::shared_ptr<const CatalogIndex>> LoadCatalogIndex(
    const std::vector<std::string>& paths, size_t series_limit);

}  // namespace tallyd

#endif  // TALLYD_DAEMON_CATALOG_FILE_H_
