#include "daemon/catalog/command.h"

#include <CLI/CLI.hpp>
#include <iostream>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "daemon/catalog/generators.h"
#include "daemon/catalog/lint.h"
#include "daemon/catalog/output_files.h"
#include "daemon/catalog_file.h"
#include "daemon/exit_code.h"

namespace tallyd {
namespace {

std::string Plural(size_t number, const std::string& thing) {
  return absl::StrCat(number, " ", thing, number == 1 ? "" : "s");
}

// Lines of the catalogs, as they are: who clicks on file:line wants nothing before it.
ExitCode Refuse(const absl::Status& status) {
  std::cerr << status.message() << "\n";
  return ExitCode::kUsage;
}

std::string SummaryOf(const Catalog& catalog) {
  size_t tests = 0;
  for (const DeclaredAlert& alert : catalog.alerts) tests += alert.tests.size();
  return absl::StrCat(catalog.file, ": ", Plural(catalog.metrics.size(), "metric"), ", ",
                      Plural(catalog.recording_rules.size(), "recording rule"), ", ",
                      Plural(catalog.alerts.size(), "alert"), ", ", Plural(tests, "test"));
}

ExitCode Check(const std::vector<Catalog>& catalogs, bool lint) {
  size_t findings = 0;
  for (const Catalog& catalog : catalogs) {
    if (lint) {
      for (const LintFinding& finding : LintCatalog(catalog)) {
        std::cout << finding.ToText() << "\n";
        ++findings;
      }
    }
    std::cout << SummaryOf(catalog) << "\n";
  }
  if (findings > 0) std::cout << Plural(findings, "finding") << "\n";
  return findings > 0 ? ExitCode::kFindings : ExitCode::kClean;
}

// Two catalogs must not write one file.
absl::StatusOr<std::vector<GeneratedFile>> OutputsOf(const std::vector<Catalog>& catalogs,
                                                     const std::vector<std::string>& kinds) {
  std::vector<GeneratedFile> all;
  std::set<std::string> paths;
  for (const Catalog& catalog : catalogs) {
    for (GeneratedFile& file : Generate(catalog, kinds)) {
      if (!paths.insert(file.path).second) {
        return UsageError(absl::StrCat(catalog.file, ": ", file.path,
                                       " is written from an earlier catalog already; give "
                                       "services and alerts names of their own"));
      }
      all.push_back(std::move(file));
    }
  }
  return all;
}

std::string CheckedLine(OutputState state, const std::string& path) {
  return state == OutputState::kMissing
             ? absl::StrCat(path, ": is missing; generate it")
             : absl::StrCat(path, ": is not what the catalog says; generate it again");
}

ExitCode Write(const std::vector<GeneratedFile>& files, const CatalogArguments& arguments) {
  size_t changed = 0;
  for (const GeneratedFile& file : files) {
    const std::string path = absl::StrCat(arguments.out, "/", file.path);
    absl::StatusOr<OutputState> state = StateOf(arguments.out, file);
    absl::Status status = state.status();
    const bool is_right =
        state.ok() && (*state == OutputState::kSame || *state == OutputState::kEdited);
    if (state.ok() && !is_right) {
      ++changed;
      if (arguments.check) {
        std::cout << CheckedLine(*state, path) << "\n";
      } else {
        status = WriteOutput(arguments.out, file);
        if (status.ok()) std::cout << path << "\n";
      }
    }
    if (!status.ok()) {
      std::cerr << "tallyctl: " << status.message() << "\n";
      return ExitCode::kRuntimeFailure;
    }
  }
  return arguments.check && changed > 0 ? ExitCode::kRuntimeFailure : ExitCode::kClean;
}

void AddFiles(CLI::App* command, CatalogArguments* arguments) {
  command->add_option("FILE", arguments->files, "catalogs; docs/catalog.md has the format")
      ->required();
}

void AddCheck(CLI::App* catalog, CatalogArguments* arguments) {
  CLI::App* const check = catalog->add_subcommand(
      "check", "Say everything that is wrong with catalogs, each with file and line.");
  AddFiles(check, arguments);
  check->add_flag("--lint", arguments->lint,
                  "say what a reviewer would, too: ratios that do not divide like by like, alerts "
                  "that fire on any single failure or can never fire, sums of unrelated counters, "
                  "names and labels that are not declared, missing tests and runbooks");
  check->footer(
      "The `reason` of an alert silences what is a matter of judgement about it. Exit code: 0 "
      "nothing to say, 2 a catalog is broken or usage, 3 findings of --lint.");
}

void AddGenerate(CLI::App* catalog, CatalogArguments* arguments) {
  CLI::App* const generate = catalog->add_subcommand(
      "generate",
      "Write what follows from catalogs: a C++ header, modules for Python, Node and Go, a mapping "
      "file, rules and alerts of Prometheus with their tests, a Grafana dashboard, a reference "
      "and the beginnings of runbooks. The same catalog gives the same bytes.");
  AddFiles(generate, arguments);
  generate
      ->add_option("--out", arguments->out,
                   "the folder to write into; it is made if it is missing, and files that are "
                   "right already stay untouched")
      ->required()
      ->type_name("DIR");
  generate
      ->add_option("--only", arguments->only,
                   absl::StrCat("some of the outputs alone, with commas: ",
                                absl::StrJoin(OutputKinds(), ", ")))
      ->delimiter(',')
      ->check(CLI::IsMember(OutputKinds()))
      ->type_name("LIST");
  generate->add_flag("--check", arguments->check,
                     "write nothing; name the files that are missing or differ");
  generate->footer(
      "Runbooks that somebody has edited stay as they are. What is written is named. Exit code: 0 "
      "all is there, 1 --check found a difference or a file cannot be written, 2 a catalog is "
      "broken or usage.");
}

}  // namespace

CLI::App* AddCatalogCommand(CLI::App* app, CatalogArguments* arguments) {
  CLI::App* const catalog = app->add_subcommand(
      "catalog",
      "Check the catalog of a service's metrics, or write from it what others read: see \"catalog "
      "check\" and \"catalog generate\".");
  catalog->require_subcommand(1);
  AddCheck(catalog, arguments);
  AddGenerate(catalog, arguments);
  return catalog;
}

ExitCode RunCatalogCommand(const CLI::App& command, const CatalogArguments& arguments) {
  const absl::StatusOr<std::vector<Catalog>> catalogs = LoadCatalogs(arguments.files);
  if (!catalogs.ok()) return Refuse(catalogs.status());
  if (command.got_subcommand("check")) return Check(*catalogs, arguments.lint);
  const auto files = OutputsOf(*catalogs, arguments.only.empty() ? OutputKinds() : arguments.only);
  return files.ok() ? Write(*files, arguments) : Refuse(files.status());
}

}  // namespace tallyd
