// What is written from a catalog. Each is a function of the catalog alone: the same catalog gives
// the same bytes, wherever and whenever.

#ifndef TALLYD_DAEMON_CATALOG_GENERATORS_H_
#define TALLYD_DAEMON_CATALOG_GENERATORS_H_

#include <string>
#include <vector>

#include "core/rules/catalog.h"

namespace tallyd {

struct GeneratedFile {
  std::string path;  // below the folder of outputs
  std::string text;
  bool is_stub = false;  // begins a file that people go on with: one that they edited stays
};

// The kinds of output, in the order in which they are written: "cpp", "python", "node", "go",
// "mapping", "rules", "dashboard", "markdown".
const std::vector<std::string>& OutputKinds();

// All outputs of these kinds.
std::vector<GeneratedFile> Generate(const Catalog& catalog, const std::vector<std::string>& kinds);

// A header that needs C++17 and the standard library alone.
std::vector<GeneratedFile> GenerateCpp(const Catalog& catalog);
std::vector<GeneratedFile> GeneratePython(const Catalog& catalog);
// CommonJS and its types.
std::vector<GeneratedFile> GenerateNode(const Catalog& catalog);
std::vector<GeneratedFile> GenerateGo(const Catalog& catalog);
// statsd_exporter's mapping language (docs/mapping.md).
std::vector<GeneratedFile> GenerateMapping(const Catalog& catalog);
// Recording rules and alerts of Prometheus, and their unit tests for promtool.
std::vector<GeneratedFile> GenerateRules(const Catalog& catalog);
// Grafana's JSON.
std::vector<GeneratedFile> GenerateDashboard(const Catalog& catalog);
// A reference, and the stub of a runbook for each alert.
std::vector<GeneratedFile> GenerateMarkdown(const Catalog& catalog);

}  // namespace tallyd

#endif  // TALLYD_DAEMON_CATALOG_GENERATORS_H_
