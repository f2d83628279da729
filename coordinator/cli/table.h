// Columns that line up: text to the left, numbers (every column marked so) to the right, two blanks between.
#pragma once

#include <string>
#include <vector>

namespace godwit::cli {

class Table {
 public:
  struct Column {
    std::string title;
    bool number = false;
  };
  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

  void add(std::vector<std::string> row);
  std::string text(const std::string& indent = {}) const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace godwit::cli
