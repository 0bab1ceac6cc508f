// The last lines of a terminal, drawn again and again, with finished lines scrolling away above.
#pragma once

#include <ostream>
#include <string>

namespace moe::term {

// Not thread-safe. Nobody else may write to the terminal between the first Draw and Finish.
class LiveRegion {
 public:
  explicit LiveRegion(std::ostream& out) : out_(out) {}

  // Replaces the region by `lines_above`, which stay, and `region`, which the next call replaces.
  // Both are empty or end with a line break, and no line of `region` may be wider than the
  // terminal: a wrapped line would not be taken back.
  void Draw(const std::string& lines_above, const std::string& region);
  // Leaves the region where it is; the next Draw starts below.
  void Finish() { drawn_lines_ = 0; }

 private:
  std::ostream& out_;
  int drawn_lines_ = 0;
};

}  // namespace moe::term
