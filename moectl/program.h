// moectl as a function, so that tests can call it.
#pragma once

#include <string>
#include <vector>

#include "moectl/command_context.h"
#include "moectl/exit_code.h"

namespace moe::moectl {

// Runs one command line, without the program's name.
ExitCode RunMoectl(const std::vector<std::string>& arguments, World& world);

}  // namespace moe::moectl
