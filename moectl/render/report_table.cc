#include "moectl/render/report_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace moe::moectl {
namespace {

using google::protobuf::Value;

std::string CellText(const Value& value) {
  switch (value.kind_case()) {
    case Value::kStringValue:
      return value.string_value();
    case Value::kNumberValue: {
      const double number = value.number_value();
      return number == std::floor(number) && std::abs(number) < 1e15
                 ? fmt::format("{:.0f}", number)
                 : fmt::format("{:.3f}", number);
    }
    case Value::kBoolValue:
      return value.bool_value() ? "true" : "false";
    default:
      return "";
  }
}

}  // namespace

std::string RenderReportTable(const google::protobuf::Struct& metadata,
                              const term::TableLayout& layout) {
  const auto found = metadata.fields().find("table");
  if (found == metadata.fields().end()) return "";
  const auto& rows = found->second.list_value().values();
  if (rows.empty()) return "";

  std::vector<term::Column> columns;
  for (const Value& title : rows[0].list_value().values()) {
    // The first column names the row; the others hold numbers.
    columns.push_back(
        {CellText(title), columns.empty() ? term::Align::kLeft : term::Align::kRight});
  }
  if (columns.empty()) return "";
  term::Table table(columns);
  for (int i = 1; i < rows.size(); ++i) {
    std::vector<term::Cell> cells;
    for (const Value& value : rows[i].list_value().values()) cells.emplace_back(CellText(value));
    cells.resize(columns.size(), term::Cell(""));
    table.AddRow(std::move(cells));
  }
  return table.Render(layout);
}

}  // namespace moe::moectl
