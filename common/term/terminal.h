// What a stream is connected to.
#pragma once

namespace moe::term {

struct Terminal {
  bool is_terminal = false;
  // 0 where it is not a terminal: no limit.
  int columns = 0;
  int rows = 0;
  bool color = false;
};

// Whether to colour: only on a terminal that is not "dumb", and not where NO_COLOR is set to
// anything but an empty string (no-color.org). Null means that the variable is not set.
bool WantsColor(bool is_terminal, const char* no_color, const char* term);

// The terminal behind `fd`, as it is now: sizes change. Reads NO_COLOR and TERM.
Terminal DescribeTerminal(int fd);

}  // namespace moe::term
