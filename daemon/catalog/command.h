// tallyctl catalog check | generate.

#ifndef TALLYD_DAEMON_CATALOG_COMMAND_H_
#define TALLYD_DAEMON_CATALOG_COMMAND_H_

#include <CLI/App.hpp>
#include <string>
#include <vector>

#include "daemon/exit_code.h"

namespace tallyd {

struct CatalogArguments {
  std::vector<std::string> files;
  bool lint = false;
  std::string out;
  std::vector<std::string> only;
  bool check = false;
};

// Adds the command with its two below it.
CLI::App* AddCatalogCommand(CLI::App* app, CatalogArguments* arguments);

// Runs what was parsed.
ExitCode RunCatalogCommand(const CLI::App& command, const CatalogArguments& arguments);

}  // namespace tallyd

#endif  // TALLYD_DAEMON_CATALOG_COMMAND_H_
