// What a command works with: the streams, the environment, the global options.
#pragma once

#include <cstdint>
#include <functional>
#include <istream>
#include <optional>
#include <ostream>
#include <string>

#include "absl/status/statusor.h"
#include "common/clock.h"
#include "common/term/table.h"
#include "common/term/terminal.h"
#include "moectl/coordinator_client.h"
#include "moectl/exit_code.h"
#include "moectl/global_options.h"
#include "moectl/interrupt.h"

namespace moe::moectl {

// The world outside, so that a test can be it.
struct World {
  std::istream& in;
  // Data.
  std::ostream& out;
  // Messages.
  std::ostream& err;
  // What `out` is connected to, at the moment.
  std::function<term::Terminal()> terminal;
  // An environment variable; empty where it is not set.
  std::function<std::string(const std::string&)> environment;
  const Clock& clock;
  Interrupt& interrupt;
};

struct CommandContext {
  World& world;
  GlobalOptions options = {};
  // Set by the command that the command line names; runs after all of it has been understood.
  std::function<absl::StatusOr<ExitCode>()> run = {};

  // The coordinator that the options, the environment or the configuration names.
  absl::StatusOr<CoordinatorClient> Connect() const;
  // The folder with the certificates; empty for none.
  std::string TlsDir() const;
  // What proves who the user is; empty for none.
  absl::StatusOr<std::string> Token() const;
  // --timeout; nothing where it was not given.
  absl::StatusOr<std::optional<int64_t>> TimeoutMillis() const;
  // The terminal, without colour where --no-color was given.
  term::Terminal Terminal() const;
  term::TableLayout TableLayout() const;
  // A line for people, to standard error.
  void Note(const std::string& line) const { world.err << line << std::endl; }
};

}  // namespace moe::moectl
