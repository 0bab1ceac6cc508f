// Rows and columns of text, laid out for a terminal or a pipe.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "common/term/style.h"

namespace moe::term {

enum class Align { kLeft, kRight };

struct Column {
  std::string title;
  Align align = Align::kLeft;
  // Cut where the table is wider than the terminal. At most one column of a table should be.
  bool shrinkable = false;
};

struct Cell {
  // Implicit, so that a row is a list of texts.
  // NOLINTNEXTLINE(google-explicit-constructor)
  Cell(std::string text, Style style = Style::kPlain) : text(std::move(text)), style(style) {}
  // NOLINTNEXTLINE(google-explicit-constructor)
  Cell(const char* text) : text(text) {}
  std::string text;
  Style style = Style::kPlain;
};

struct TableLayout {
  // Columns to fit into; 0 for no limit.
  int width = 0;
  bool color = false;
  bool header = true;
};

// Columns are as wide as their widest cell and two spaces apart; lines have no trailing spaces and
// end with a line break. An empty cell shows as "<none>", so that every row has the same number of
// words to awk.
class Table {
 public:
  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

  // One cell per column.
  void AddRow(std::vector<Cell> cells);
  bool empty() const { return rows_.empty(); }

  std::string Render(const TableLayout& layout) const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<Cell>> rows_;
};

}  // namespace moe::term
