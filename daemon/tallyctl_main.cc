// tallyctl: questions about tallyd that need no running tallyd.

#include <CLI/CLI.hpp>
#include <iostream>
#include <string>

#include "daemon/exit_code.h"
#include "daemon/explain.h"
#include "daemon/options.h"

namespace tallyd {
namespace {

// 0 if every sample of every line is accepted, 1 if one is refused.
ExitCode RunExplain(const std::vector<std::string>& lines, bool json) {
  bool accepted = true;
  for (const std::string& line : lines) {
    const Explanation explanation = Explain(line);
    std::cout << (json ? ExplanationJson(explanation) : ExplanationText(explanation));
    accepted = accepted && explanation.accepted();
  }
  return accepted ? ExitCode::kClean : ExitCode::kRuntimeFailure;
}

ExitCode Main(int argc, char** argv) {
  CLI::App app("tallyctl answers questions about tallyd.", "tallyctl");
  app.require_subcommand(1);
  app.set_version_flag("--version", VersionText());
  std::vector<std::string> lines;
  bool json = false;
  CLI::App* explain = app.add_subcommand(
      "explain", "say what becomes of StatsD lines: samples and series, or why they are refused");
  explain
      ->add_option("LINE", lines,
                   "lines as a client sends them; put -- before one that "
                   "begins with a dash")
      ->required();
  explain->add_flag("--json", json, "one JSON object a line");
  explain->footer("Exit code: 0 if every sample is accepted, 1 if one is refused, 2 usage.");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? ExitCode::kClean : ExitCode::kUsage;
  }
  return RunExplain(lines, json);
}

}  // namespace
}  // namespace tallyd

int main(int argc, char** argv) { return static_cast<int>(tallyd::Main(argc, argv)); }
