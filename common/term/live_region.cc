#include "common/term/live_region.h"

#include <algorithm>

namespace moe::term {

void LiveRegion::Draw(const std::string& lines_above, const std::string& region) {
  std::string output;
  // To the first column of the region's first line, then clear to the end of the screen.
  if (drawn_lines_ > 0) output += "\x1b[" + std::to_string(drawn_lines_) + "A\r\x1b[J";
  output += lines_above + region;
  // One write, so that the terminal never shows half a region.
  out_ << output << std::flush;
  drawn_lines_ = static_cast<int>(std::count(region.begin(), region.end(), '\n'));
}

}  // namespace moe::term
