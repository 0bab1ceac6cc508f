#include "common/term/table.h"

#include <algorithm>

#include "common/check.h"

namespace moe::term {
namespace {

constexpr size_t kGap = 2;
constexpr size_t kSmallestShrunk = 8;

}  // namespace

void Table::AddRow(std::vector<Cell> cells) {
  MOE_CHECK(cells.size() == columns_.size());
  for (Cell& cell : cells) {
    if (cell.text.empty()) cell.text = "<none>";
    // A line break would tear the table.
    std::replace(cell.text.begin(), cell.text.end(), '\n', ' ');
  }
  rows_.push_back(std::move(cells));
}

std::string Table::Render(const TableLayout& layout) const {
  std::vector<size_t> widths;
  for (const Column& column : columns_) {
    widths.push_back(layout.header ? DisplayWidth(column.title) : 0);
  }
  for (const auto& row : rows_) {
    for (size_t c = 0; c < row.size(); ++c) {
      widths[c] = std::max(widths[c], DisplayWidth(row[c].text));
    }
  }
  size_t total = kGap * (columns_.size() - 1);
  for (size_t width : widths) total += width;
  for (size_t c = 0; c < columns_.size() && layout.width > 0; ++c) {
    const auto limit = static_cast<size_t>(layout.width);
    if (!columns_[c].shrinkable || total <= limit) continue;
    const size_t excess = total - limit;
    const size_t floor = std::min(widths[c], std::max(kSmallestShrunk, columns_[c].title.size()));
    const size_t shrunk = widths[c] > excess + floor ? widths[c] - excess : floor;
    total -= widths[c] - shrunk;
    widths[c] = shrunk;
  }

  std::string out;
  auto add_line = [&](const std::vector<Cell>& row) {
    std::string pending_spaces;
    for (size_t c = 0; c < row.size(); ++c) {
      const std::string text = Truncate(row[c].text, widths[c]);
      const std::string padding(widths[c] - DisplayWidth(text), ' ');
      if (c > 0) pending_spaces += std::string(kGap, ' ');
      if (columns_[c].align == Align::kRight) pending_spaces += padding;
      if (!text.empty()) {
        out += pending_spaces + Paint(text, row[c].style, layout.color);
        pending_spaces.clear();
      }
      if (columns_[c].align == Align::kLeft) pending_spaces += padding;
    }
    out += '\n';
  };
  if (layout.header) {
    std::vector<Cell> titles;
    for (const Column& column : columns_) titles.emplace_back(column.title, Style::kBold);
    add_line(titles);
  }
  for (const auto& row : rows_) add_line(row);
  return out;
}

}  // namespace moe::term
