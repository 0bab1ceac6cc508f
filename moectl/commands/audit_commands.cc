// moectl audit: who did what, taken out and checked.
#include <google/protobuf/util/json_util.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <sstream>
#include <string>

#include "absl/strings/escaping.h"
#include "common/audit/audit_chain.h"
#include "common/file.h"
#include "common/status.h"
#include "moectl/commands/commands.h"

namespace moe::moectl {
namespace {

struct AuditFlags {
  int64_t after_seq = 0;
  std::string file;
  std::string expected;  // "SEQ:HASH"
};

using Visit = std::function<absl::Status(const moe::v1::AuditEntry&)>;

absl::Status ForEachOf(CoordinatorClient& client, int64_t after_seq, const Visit& visit) {
  moe::v1::ListAuditEntriesRequest request;
  request.set_after_seq(after_seq);
  while (true) {
    MOE_ASSIGN_OR_RETURN(const auto page, client.ListAuditEntries(request));
    for (const moe::v1::AuditEntry& entry : page.entries()) MOE_RETURN_IF_ERROR(visit(entry));
    if (page.entries().empty()) return absl::OkStatus();
    request.set_after_seq(page.entries().rbegin()->seq());
    if (request.after_seq() >= page.last_seq()) return absl::OkStatus();
  }
}

absl::Status ForEachIn(const std::string& file, const Visit& visit) {
  const absl::StatusOr<std::string> text = ReadFile(file);
  if (!text.ok()) return FailedPrecondition("{}", Message(text.status()));
  std::istringstream lines(*text);
  int number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    moe::v1::AuditEntry entry;
    const auto parsed = google::protobuf::util::JsonStringToMessage(line, &entry);
    if (!parsed.ok()) {
      return DataLoss("{}: line {} is not an entry of an audit journal: {}", file, number,
                      parsed.ToString());
    }
    MOE_RETURN_IF_ERROR(visit(entry));
  }
  return absl::OkStatus();
}

absl::StatusOr<ExitCode> Export(const AuditFlags& flags, const CommandContext& context) {
  MOE_ASSIGN_OR_RETURN(CoordinatorClient client, context.Connect());
  MOE_RETURN_IF_ERROR(
      ForEachOf(client, flags.after_seq, [&](const moe::v1::AuditEntry& entry) -> absl::Status {
        google::protobuf::util::JsonPrintOptions options;
        options.preserve_proto_field_names = true;
        std::string line;
        const auto printed = google::protobuf::util::MessageToJsonString(entry, &line, options);
        if (!printed.ok()) return Internal("entry {}: {}", entry.seq(), printed.ToString());
        context.world.out << line << "\n";
        return absl::OkStatus();
      }));
  return ExitCode::kDone;
}

absl::StatusOr<AuditChainEnd> ParseEnd(const std::string& text) {
  const size_t colon = text.find(':');
  AuditChainEnd end;
  end.hash = absl::HexStringToBytes(text.substr(colon == std::string::npos ? 0 : colon + 1));
  end.seq = std::strtoll(text.c_str(), nullptr, 10);
  if (colon == std::string::npos || end.seq < 1 || end.hash.size() != 32) {
    return InvalidArgument("--expect '{}': expected SEQ:HASH, as audit verify prints it", text);
  }
  return end;
}

absl::StatusOr<ExitCode> Verify(const AuditFlags& flags, const CommandContext& context) {
  std::optional<AuditChainEnd> expected;
  if (!flags.expected.empty()) {
    MOE_ASSIGN_OR_RETURN(expected, ParseEnd(flags.expected));
  }
  std::optional<AuditChain> chain;
  int64_t count = 0;
  bool met = false;
  const Visit follow = [&](const moe::v1::AuditEntry& entry) -> absl::Status {
    if (!chain.has_value()) {
      // An export may begin in the middle: what is before it is not vouched for.
      chain.emplace(entry.seq() == 1 ? AuditChainEnd{}
                                     : AuditChainEnd{entry.seq() - 1, entry.previous_hash()});
    }
    MOE_RETURN_IF_ERROR(chain->Follow(entry));
    ++count;
    met |= expected.has_value() && entry.seq() == expected->seq && entry.hash() == expected->hash;
    return absl::OkStatus();
  };
  if (flags.file.empty()) {
    MOE_ASSIGN_OR_RETURN(CoordinatorClient client, context.Connect());
    MOE_RETURN_IF_ERROR(ForEachOf(client, 0, follow));
  } else {
    MOE_RETURN_IF_ERROR(ForEachIn(flags.file, follow));
  }
  if (expected.has_value() && !met) {
    return DataLoss(
        "entry {} does not have the hash that was expected, or is not there: the "
        "journal was cut or written anew",
        expected->seq);
  }
  const AuditChainEnd end = chain.has_value() ? chain->end() : AuditChainEnd{};
  context.world.out << fmt::format("{} entries are whole; the last is {}:{}\n", count, end.seq,
                                   absl::BytesToHexString(end.hash));
  return ExitCode::kDone;
}

}  // namespace

void AddAuditCommands(CLI::App& root, CommandContext& context) {
  CLI::App* noun = root.add_subcommand("audit", "The journal of who did what; for admins");
  noun->require_subcommand(1);

  auto flags = std::make_shared<AuditFlags>();
  CLI::App* take = noun->add_subcommand("export", "Print the journal, one JSON object a line");
  take->add_option("--after", flags->after_seq, "Only entries after this one")
      ->check(CLI::NonNegativeNumber);
  take->footer("Examples:\n  moectl audit export > audit.jsonl");
  take->callback(
      [flags, &context] { context.run = [flags, &context] { return Export(*flags, context); }; });

  CLI::App* verify = noun->add_subcommand(
      "verify",
      "Check that no entry was changed, removed or moved: of the coordinator's journal, "
      "or of an exported one");
  verify->add_option("FILE", flags->file, "What audit export printed [the coordinator's]");
  verify
      ->add_option("--expect", flags->expected,
                   "SEQ:HASH that an earlier audit verify printed: it must still be there")
      ->type_name("SEQ:HASH");
  verify->footer(
      "Keep the line that it prints somewhere else: whoever can write to the store could write\n"
      "the whole journal anew, and only a hash from elsewhere would tell.\n\n"
      "Examples:\n"
      "  moectl audit verify\n"
      "  moectl audit verify audit.jsonl --expect 4711:5feceb66...");
  verify->callback(
      [flags, &context] { context.run = [flags, &context] { return Verify(*flags, context); }; });
}

}  // namespace moe::moectl
