// moectl: the user's client.
#include <unistd.h>

#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

#include "moectl/program.h"

int main(int argc, char** argv) {
  moe::RealClock clock;
  moe::moectl::Interrupt interrupt;
  moe::moectl::World world{.in = std::cin,
                           .out = std::cout,
                           .err = std::cerr,
                           .terminal = [] { return moe::term::DescribeTerminal(STDOUT_FILENO); },
                           .environment =
                               [](const std::string& name) {
                                 const char* value = std::getenv(name.c_str());
                                 return std::string(value == nullptr ? "" : value);
                               },
                           .clock = clock,
                           .interrupt = interrupt};
  return static_cast<int>(moe::moectl::RunMoectl({argv + 1, argv + argc}, world));
}
