// The Node module (CommonJS) and its TypeScript types: the same records as the Python module has.

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "daemon/catalog/code_names.h"
#include "daemon/catalog/generated_text.h"
#include "daemon/catalog/generators.h"
#include "daemon/json_object.h"

namespace tallyd {
namespace {

constexpr char kHelpers[] = R"js(
// What would end a tag, a segment or the line becomes "_".
function clean(value, ends) {
  return Array.from(String(value), (c) => (ends.includes(c) || '|\r\n'.includes(c) ? '_' : c)).join('');
}

function check(metric, labels) {
  const wanted = new Set(metric.stars);
  for (const label of metric.labels) if (label.isTag) wanted.add(label.name);
  const given = Object.keys(labels);
  if (given.length !== wanted.size || !given.every((name) => wanted.has(name))) {
    throw new RangeError(`${metric.name} takes the labels ${[...wanted]}, not ${given}`);
  }
  for (const { name, values } of metric.labels) {
    if (values.length > 0 && name in labels && !values.includes(labels[name])) {
      throw new RangeError(`${JSON.stringify(labels[name])} is no declared value of ${name}`);
    }
  }
}

// The tags of a sample, as "name:value"; RangeError for what is not declared.
function tags(metric, labels = {}) {
  check(metric, labels);
  return metric.labels
    .filter((label) => label.isTag)
    .map((label) => `${label.name}:${clean(labels[label.name], ',')}`);
}

// The name to send, with the values of labels that stand in it.
function source(metric, labels = {}) {
  check(metric, labels);
  let name = metric.source;
  for (const star of metric.stars) name = name.replace('*', () => clean(labels[star], '.:,#;[]*'));
  return name;
}

// A StatsD line for a value in the metric's unit; of a set, for a member.
function line(metric, value, labels = {}) {
  if (metric.source === '') throw new RangeError(`${metric.name} is read by tallyd, not sent`);
  const text = typeof value === 'string' ? clean(value, '') : String(value * metric.factor);
  const tail = tags(metric, labels).join(',');
  return `${source(metric, labels)}:${text}|${metric.sentType}${tail ? '|#' + tail : ''}`;
}
)js";

constexpr char kTypes[] = R"ts(
export interface Label {
  /** All there are; empty: any, as many as maxValues. */
  readonly values: readonly string[];
  readonly name: string;
  readonly maxValues: number;
  /** Sent as a tag; else a part of the name that is sent. */
  readonly isTag: boolean;
}

export interface Metric<Labels> {
  readonly name: string;
  readonly type: 'counter' | 'gauge' | 'histogram' | 'summary' | 'set';
  readonly unit: string;
  readonly help: string;
  /** As sent; each "*" is the value of one of stars. Empty: never sent. */
  readonly source: string;
  readonly stars: readonly string[];
  readonly sentType: string;
  /** Of a value in the unit, to what is sent. */
  readonly factor: number;
  readonly labels: readonly Label[];
  /** Never there: carries the type of the labels. */
  readonly _labels?: Labels;
}

/** The tags of a sample, as "name:value"; RangeError for what is not declared. */
export function tags<Labels>(metric: Metric<Labels>, labels?: Labels): string[];
/** The name to send, with the values of labels that stand in it. */
export function source<Labels>(metric: Metric<Labels>, labels?: Labels): string;
/** A StatsD line for a value in the metric's unit; of a set, for a member. */
export function line<Labels>(metric: Metric<Labels>, value: number | string, labels?: Labels): string;

export const SERVICE: string;
export const METRICS: { readonly [name: string]: Metric<{ [label: string]: string }> };
)ts";

std::string Record(const DeclaredMetric& metric) {
  const Emission emission = IsSent(metric) ? EmissionOf(metric) : Emission();
  JsonObject record;
  record.AddText("name", metric.name);
  record.AddText("type", TypeName(metric.type));
  record.AddText("unit", UnitOf(metric));
  record.AddText("help", metric.help);
  record.AddText("source", emission.source);
  record.Add("stars", JsonTexts(StarsOf(emission)));
  record.AddText("sentType", emission.type);
  record.AddNumber("factor", emission.factor);
  record.Add("labels", JsonList(metric.labels, [](const DeclaredLabel& label) {
               JsonObject json;
               json.AddText("name", label.name);
               json.Add("values", JsonTexts(label.values));
               json.AddNumber("maxValues",
                              static_cast<double>(label.is_enumerable() ? label.values.size()
                                                                        : label.max_values));
               json.AddBool("isTag", label.from.empty());
               return json.Take();
             }));
  std::string text = IndentedJson(record.Take());
  text.pop_back();
  return text;
}

std::string LabelsType(const DeclaredMetric& metric) {
  if (!IsSent(metric)) return "{}";
  const Emission emission = EmissionOf(metric);
  std::vector<std::string> members;
  for (const DeclaredLabel* const label : ParametersOf(metric, emission)) {
    std::vector<std::string> values;
    for (const std::string& value : label->values) values.push_back(CodeLiteral(value));
    members.push_back(absl::StrCat(CodeLiteral(label->name), ": ",
                                   values.empty() ? "string" : absl::StrJoin(values, " | ")));
  }
  for (const Emission::Part& part : emission.name) {
    if (part.free != 0) members.push_back(absl::StrCat("segment_", part.free, ": string"));
  }
  return members.empty() ? "{}" : absl::StrCat("{ ", absl::StrJoin(members, "; "), " }");
}

}  // namespace

std::vector<GeneratedFile> GenerateNode(const Catalog& catalog) {
  const std::string header = absl::StrCat("// ", GeneratedFrom(catalog), "\n");
  std::string code = absl::StrCat(header, "'use strict';\n", kHelpers,
                                  "\nconst SERVICE = ", CodeLiteral(catalog.service), ";\n\n");
  std::string types = absl::StrCat(header, kTypes, "\n");
  UniqueNames names({"SERVICE", "METRICS"});
  std::vector<std::string> metrics;
  std::vector<std::string> exports = {"tags", "source", "line", "SERVICE", "METRICS"};
  for (const DeclaredMetric& metric : catalog.metrics) {
    const std::string name = names.Take(ConstantName(metric.name));
    absl::StrAppend(&code, "const ", name, " = ", Record(metric), ";\n");
    absl::StrAppend(&types, Comment("// ", metric.help), "export const ", name, ": Metric<",
                    LabelsType(metric), ">;\n");
    metrics.push_back(name);
    exports.push_back(name);
  }
  for (const ValueConstant& constant : ValueConstantsOf(catalog)) {
    const std::string name =
        names.Take(ConstantName(absl::StrCat(constant.label, "_", constant.value)));
    const std::string value = CodeLiteral(constant.value);
    absl::StrAppend(&code, "const ", name, " = ", value, ";\n");
    absl::StrAppend(&types, "export const ", name, ": ", value, ";\n");
    exports.push_back(name);
  }
  absl::StrAppend(&code, "\nconst METRICS = Object.fromEntries(\n  [\n    ",
                  absl::StrJoin(metrics, ",\n    "),
                  ",\n  ].map((metric) => [metric.name, metric]),\n);\n",
                  "\nmodule.exports = {\n  ", absl::StrJoin(exports, ",\n  "), ",\n};\n");
  return {{catalog.service + "_metrics.js", code}, {catalog.service + "_metrics.d.ts", types}};
}

}  // namespace tallyd
