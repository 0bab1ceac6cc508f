// What is wrong with a command line, with the word that was probably meant.
#pragma once

#include <CLI/App.hpp>
#include <string>
#include <vector>

namespace moe::moectl {

// `error` is what `root` threw for `arguments`. Two lines without a last line break:
// "unknown command 'jbo'; did you mean 'job'?" and where to find help.
std::string DescribeParseError(const CLI::App& root, const std::vector<std::string>& arguments,
                               const CLI::ParseError& error);

}  // namespace moe::moectl
