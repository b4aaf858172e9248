// The Python module: one record for each metric, and functions that refuse what is not declared.

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "daemon/catalog/code_names.h"
#include "daemon/catalog/generated_text.h"
#include "daemon/catalog/generators.h"

namespace tallyd {
namespace {

constexpr char kHelpers[] = R"py(
from typing import Dict, List, NamedTuple, Tuple, Union


class Label(NamedTuple):
    name: str
    values: Tuple[str, ...]  # all there are; empty: any, as many as max_values
    max_values: int
    is_tag: bool  # sent as a tag; else a part of the name that is sent


class Metric(NamedTuple):
    name: str  # as exposed
    type: str
    unit: str
    help: str
    source: str  # as sent; each "*" is the value of one of stars. Empty: never sent
    stars: Tuple[str, ...]
    sent_type: str  # of StatsD
    factor: float  # of a value in the unit, to what is sent
    labels: Tuple[Label, ...]


def _clean(value: str, ends: str) -> str:
    """What would end a tag, a segment or the line becomes "_"."""
    return "".join("_" if c in ends or c in "|\r\n" else c for c in value)


def _checked(metric: Metric, labels: Dict[str, str]) -> None:
    free = {star for star in metric.stars if star.startswith("segment_")}
    wanted = {label.name for label in metric.labels if label.is_tag} | set(metric.stars) | free
    if set(labels) != wanted:
        raise ValueError(f"{metric.name} takes the labels {sorted(wanted)}, not {sorted(labels)}")
    for label in metric.labels:
        if label.values and label.name in labels and labels[label.name] not in label.values:
            raise ValueError(f"{labels[label.name]!r} is no declared value of {label.name}")


def tags(metric: Metric, /, **labels: str) -> List[str]:
    """The tags of a sample, as "name:value"; ValueError for what is not declared."""
    _checked(metric, labels)
    return [f"{label.name}:{_clean(labels[label.name], ',')}"
            for label in metric.labels if label.is_tag]


def source(metric: Metric, /, **labels: str) -> str:
    """The name to send, with the values of labels that stand in it."""
    _checked(metric, labels)
    name = metric.source
    for star in metric.stars:
        name = name.replace("*", _clean(labels[star], ".:,#;[]*"), 1)
    return name


def line(metric: Metric, value: Union[float, str], /, **labels: str) -> str:
    """A StatsD line for a value in the metric's unit; of a set, for a member."""
    if not metric.source:
        raise ValueError(f"{metric.name} is read by tallyd, not sent")
    if isinstance(value, str):
        text = _clean(value, "")
    else:
        text = repr(value if metric.factor == 1 else value * metric.factor)
    tail = ",".join(tags(metric, **labels))
    return f"{source(metric, **labels)}:{text}|{metric.sent_type}{'|#' + tail if tail else ''}"


)py";

std::string Texts(const std::vector<std::string>& texts) {
  std::string text = "(";
  for (const std::string& item : texts) {
    absl::StrAppend(&text, text.size() > 1 ? ", " : "", CodeLiteral(item));
  }
  // A tuple of one needs its comma.
  return text + (texts.size() == 1 ? ",)" : ")");
}

std::string LabelRecord(const DeclaredLabel& label) {
  return absl::StrCat("        Label(", CodeLiteral(label.name), ", ", Texts(label.values), ", ",
                      label.is_enumerable() ? label.values.size() : label.max_values, ", ",
                      label.from.empty() ? "True" : "False", ")");
}

std::string MetricRecord(const DeclaredMetric& metric, const std::string& name) {
  const Emission emission = IsSent(metric) ? EmissionOf(metric) : Emission();
  std::string labels = "(";
  for (const DeclaredLabel& label : metric.labels) {
    absl::StrAppend(&labels, "\n", LabelRecord(label), ",");
  }
  labels += metric.labels.empty() ? ")" : "\n    )";
  return absl::StrCat(name, " = Metric(\n    ", CodeLiteral(metric.name), ",\n    ",
                      CodeLiteral(TypeName(metric.type)), ",\n    ", CodeLiteral(UnitOf(metric)),
                      ",\n    ", CodeLiteral(metric.help), ",\n    ", CodeLiteral(emission.source),
                      ",\n    ", Texts(StarsOf(emission)), ",\n    ", CodeLiteral(emission.type),
                      ",\n    ", CodeNumber(emission.factor), ",\n    ", labels, ",\n)\n");
}

}  // namespace

std::vector<GeneratedFile> GeneratePython(const Catalog& catalog) {
  std::string text = absl::StrCat("# ", GeneratedFrom(catalog), "\n");
  absl::StrAppend(&text, "\"\"\"The metrics of ", catalog.service, ".\"\"\"\n", kHelpers);
  absl::StrAppend(&text, "SERVICE = ", CodeLiteral(catalog.service), "\n\n");
  UniqueNames names({"SERVICE", "METRICS"});
  std::string all = "\nMETRICS = {metric.name: metric for metric in (\n";
  for (const DeclaredMetric& metric : catalog.metrics) {
    const std::string name = names.Take(ConstantName(metric.name));
    text += MetricRecord(metric, name);
    absl::StrAppend(&all, "    ", name, ",\n");
  }
  for (const ValueConstant& constant : ValueConstantsOf(catalog)) {
    absl::StrAppend(&text, names.Take(ConstantName(constant.label + "_" + constant.value)), " = ",
                    CodeLiteral(constant.value), "\n");
  }
  return {{catalog.service + "_metrics.py", text + all + ")}\n"}};
}

}  // namespace tallyd
