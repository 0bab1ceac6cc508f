// Completion scripts, made from the command tree.
#pragma once

#include <CLI/App.hpp>
#include <string>

namespace moe::moectl {

// `shell` is bash, zsh or fish.
std::string CompletionScript(const CLI::App& root, const std::string& shell);

}  // namespace moe::moectl
