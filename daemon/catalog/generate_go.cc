// The Go package: the same records as the Python module has. Laid out as gofmt does: one line for
// each declaration, so that nothing has to be aligned.

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "daemon/catalog/code_names.h"
#include "daemon/catalog/generated_text.h"
#include "daemon/catalog/generators.h"

namespace tallyd {
namespace {

constexpr char kHelpers[] = R"go(
import (
	"fmt"
	"strconv"
	"strings"
)

// Label is what tells series of a metric apart.
type Label struct {
	Name string
	// Values are all there are; nil: any, as many as MaxValues.
	Values    []string
	MaxValues int
	// IsTag says that it is sent as a tag; else it is a part of the name that is sent.
	IsTag bool
}

// Metric is a declared metric.
type Metric struct {
	Name string
	Type string
	Unit string
	Help string
	// Source is the name as sent; each "*" is the value of one of Stars. Empty: never sent.
	Source   string
	Stars    []string
	SentType string
	// Factor is that of a value in the unit, to what is sent.
	Factor float64
	Labels []Label
}

// What would end a tag, a segment or the line becomes "_".
func clean(value, ends string) string {
	return strings.Map(func(c rune) rune {
		if strings.ContainsRune(ends, c) || strings.ContainsRune("|\r\n", c) {
			return '_'
		}
		return c
	}, value)
}

func (m Metric) check(labels map[string]string) error {
	wanted := map[string]bool{}
	for _, star := range m.Stars {
		wanted[star] = true
	}
	for _, label := range m.Labels {
		if label.IsTag {
			wanted[label.Name] = true
		}
	}
	for name := range wanted {
		if _, given := labels[name]; !given {
			return fmt.Errorf("%s wants the label %s", m.Name, name)
		}
	}
	for name := range labels {
		if !wanted[name] {
			return fmt.Errorf("%s has no label %s", m.Name, name)
		}
	}
	for _, label := range m.Labels {
		value, given := labels[label.Name]
		if !given || label.Values == nil {
			continue
		}
		if !contains(label.Values, value) {
			return fmt.Errorf("%q is no declared value of %s", value, label.Name)
		}
	}
	return nil
}

func contains(list []string, text string) bool {
	for _, item := range list {
		if item == text {
			return true
		}
	}
	return false
}

// Tags returns the tags of a sample, as "name:value"; an error for what is not declared.
func (m Metric) Tags(labels map[string]string) ([]string, error) {
	if err := m.check(labels); err != nil {
		return nil, err
	}
	var tags []string
	for _, label := range m.Labels {
		if label.IsTag {
			tags = append(tags, label.Name+":"+clean(labels[label.Name], ","))
		}
	}
	return tags, nil
}

// Line returns a StatsD line for a value in the metric's unit.
func (m Metric) Line(value float64, labels map[string]string) (string, error) {
	return m.LineOf(strconv.FormatFloat(value*m.Factor, 'g', -1, 64), labels)
}

// LineOf returns a StatsD line for what is sent as it is: a member of a set.
func (m Metric) LineOf(text string, labels map[string]string) (string, error) {
	if m.Source == "" {
		return "", fmt.Errorf("%s is read by tallyd, not sent", m.Name)
	}
	tags, err := m.Tags(labels)
	if err != nil {
		return "", err
	}
	name := m.Source
	for _, star := range m.Stars {
		name = strings.Replace(name, "*", clean(labels[star], ".:,#;[]*"), 1)
	}
	line := name + ":" + clean(text, "") + "|" + m.SentType
	if len(tags) > 0 {
		line += "|#" + strings.Join(tags, ",")
	}
	return line, nil
}
)go";

std::string Texts(const std::vector<std::string>& texts) {
  if (texts.empty()) return "nil";
  std::vector<std::string> items;
  for (const std::string& text : texts) items.push_back(CodeLiteral(text));
  return absl::StrCat("[]string{", absl::StrJoin(items, ", "), "}");
}

std::string Labels(const std::vector<DeclaredLabel>& labels) {
  if (labels.empty()) return "nil";
  std::vector<std::string> items;
  for (const DeclaredLabel& label : labels) {
    items.push_back(absl::StrCat("{", CodeLiteral(label.name), ", ", Texts(label.values), ", ",
                                 label.is_enumerable() ? label.values.size() : label.max_values,
                                 ", ", label.from.empty() ? "true" : "false", "}"));
  }
  return absl::StrCat("[]Label{", absl::StrJoin(items, ", "), "}");
}

std::string Record(const DeclaredMetric& metric, const std::string& name) {
  const Emission emission = IsSent(metric) ? EmissionOf(metric) : Emission();
  return absl::StrCat("\n", Comment("// ", absl::StrCat(name, " is: ", metric.help)), "var ", name,
                      " = Metric{", CodeLiteral(metric.name), ", ",
                      CodeLiteral(TypeName(metric.type)), ", ", CodeLiteral(UnitOf(metric)), ", ",
                      CodeLiteral(metric.help), ", ", CodeLiteral(emission.source), ", ",
                      Texts(StarsOf(emission)), ", ", CodeLiteral(emission.type), ", ",
                      CodeNumber(emission.factor), ", ", Labels(metric.labels), "}\n");
}

}  // namespace

std::vector<GeneratedFile> GenerateGo(const Catalog& catalog) {
  const std::string package = absl::StrReplaceAll(catalog.service, {{"_", ""}}) + "metrics";
  // The first line is what Go's tools take generated code by.
  std::string text = absl::StrCat("// Code generated by tallyctl from ", BaseName(catalog.file),
                                  ". DO NOT EDIT.\n\n// Package ", package, " has the metrics of ",
                                  catalog.service, ".\npackage ", package, "\n", kHelpers);
  absl::StrAppend(&text, "\n// Service is who declares them.\nconst Service = ",
                  CodeLiteral(catalog.service), "\n");
  UniqueNames names({"Label", "Metric", "Service", "Metrics"});
  std::vector<std::string> metrics;
  for (const DeclaredMetric& metric : catalog.metrics) {
    metrics.push_back(names.Take(TypeCase(metric.name)));
    text += Record(metric, metrics.back());
  }
  absl::StrAppend(&text, "\n// Metrics are all of them.\nvar Metrics = []Metric{",
                  absl::StrJoin(metrics, ", "), "}\n\n// Values of labels.\n");
  for (const ValueConstant& constant : ValueConstantsOf(catalog)) {
    const std::string name =
        names.Take(TypeCase(absl::StrCat(constant.label, "_", constant.value)));
    absl::StrAppend(&text, "const ", name, " = ", CodeLiteral(constant.value), "\n");
  }
  return {{absl::StrCat(package, "/", catalog.service, "_metrics.go"), text}};
}

}  // namespace tallyd
