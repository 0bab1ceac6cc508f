// Options that every command has.
#pragma once

#include <string>

namespace moe::moectl {

// As given on the command line; empty where not given.
struct GlobalOptions {
  std::string endpoint;
  std::string context;
  std::string tls_dir;
  std::string token_file;
  std::string timeout;
  bool no_color = false;
};

}  // namespace moe::moectl
