#include "common/term/terminal.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

namespace moe::term {

bool WantsColor(bool is_terminal, const char* no_color, const char* term) {
  if (!is_terminal) return false;
  if (no_color != nullptr && *no_color != '\0') return false;
  return term == nullptr || std::strcmp(term, "dumb") != 0;
}

Terminal DescribeTerminal(int fd) {
  Terminal terminal;
  terminal.is_terminal = isatty(fd) == 1;
  if (!terminal.is_terminal) return terminal;
  winsize size{};
  const bool known = ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 && size.ws_row > 0;
  terminal.columns = known ? size.ws_col : 80;
  terminal.rows = known ? size.ws_row : 24;
  terminal.color = WantsColor(true, std::getenv("NO_COLOR"), std::getenv("TERM"));
  return terminal;
}

}  // namespace moe::term
