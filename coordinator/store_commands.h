// moe-coordinator fsck, backup, restore and compact: the store while no coordinator has it.
#pragma once

#include <CLI/CLI.hpp>

namespace moe::coordinator {

// Adds the commands to `app`. The one that is called sets `*exit_code`: 0 done, 1 failed or, for
// fsck, something is wrong.
void AddStoreCommands(CLI::App& app, int* exit_code);

}  // namespace moe::coordinator
