// The environment of a rank.
#pragma once

#include <string>
#include <vector>

namespace moe::worker {

// "NAME=value" lines: of this process's environment what a program needs to find itself, its
// libraries and its devices, nothing that could be a secret; and the number of threads for every
// library that has its own idea of it.
std::vector<std::string> RankEnvironment(int threads);

}  // namespace moe::worker
