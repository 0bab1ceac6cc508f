// moectl cert and moectl token: who may speak to a coordinator with TLS.
#include <CLI/App.hpp>
#include <CLI/Validators.hpp>
#include <cctype>
#include <memory>
#include <string>

#include "common/net/token.h"
#include "common/status.h"
#include "common/term/table.h"
#include "moectl/certificates.h"
#include "moectl/commands/commands.h"
#include "moectl/render/job_text.h"
#include "moectl/render/output.h"

namespace moe::moectl {
namespace {

constexpr int64_t kMillisPerDay = 86'400'000;

struct NewToken {
  std::string user;
  std::string role;
  int days = 90;
  std::string file;
};

std::string RoleName(moe::v1::Role role) {
  std::string name = moe::v1::Role_Name(role).substr(std::string("ROLE_").size());
  for (char& letter : name) letter = static_cast<char>(std::tolower(letter));
  return name;
}

moe::v1::Role RoleOf(const std::string& name) {
  for (const moe::v1::Role role :
       {moe::v1::ROLE_VIEWER, moe::v1::ROLE_SUBMITTER, moe::v1::ROLE_OPERATOR}) {
    if (RoleName(role) == name) return role;
  }
  return moe::v1::ROLE_ADMIN;
}

absl::StatusOr<ExitCode> Create(const NewToken& wish, const CommandContext& context) {
  MOE_ASSIGN_OR_RETURN(CoordinatorClient client, context.Connect());
  MOE_ASSIGN_OR_RETURN(const std::string secret, DrawToken());
  moe::v1::CreateTokenRequest request;
  request.set_token_sha256(TokenSha256(secret));
  request.set_user(wish.user);
  request.set_role(RoleOf(wish.role));
  if (wish.days > 0) {
    const int64_t end = context.world.clock.UnixMillis() + wish.days * kMillisPerDay;
    request.mutable_expire_time()->set_seconds(end / 1000);
  }
  // Before the coordinator knows it: a token that nobody holds can only be revoked.
  if (!wish.file.empty()) MOE_RETURN_IF_ERROR(WriteSecretFile(wish.file, secret + "\n"));
  MOE_ASSIGN_OR_RETURN(const moe::v1::Token token, client.CreateToken(request));
  if (wish.file.empty()) {
    context.world.out << secret << "\n";
    context.Note(fmt::format("token {} of {} is above; it is shown this once", token.token_id(),
                             token.user()));
  } else {
    context.world.out << "token/" << token.token_id() << " is in " << wish.file << "\n";
  }
  return ExitCode::kDone;
}

std::string StateOf(const moe::v1::Token& token, int64_t now_unix_millis) {
  if (token.revoked()) return "REVOKED";
  if (token.has_expire_time() && now_unix_millis >= MillisOf(token.expire_time())) return "EXPIRED";
  return "GOOD";
}

absl::StatusOr<ExitCode> List(const std::string& output_name, const CommandContext& context) {
  MOE_ASSIGN_OR_RETURN(CoordinatorClient client, context.Connect());
  MOE_ASSIGN_OR_RETURN(const auto response, client.ListTokens());
  std::ostream& out = context.world.out;
  const Output output = OutputOf(output_name);
  if (output == Output::kJson) {
    out << ToJson(response);
  } else if (output == Output::kYaml) {
    out << ToYaml(response);
  } else {
    const int64_t now = context.world.clock.UnixMillis();
    term::Table table({{"TOKEN"}, {"USER"}, {"ROLE"}, {"STATE"}});
    for (const moe::v1::Token& token : response.tokens()) {
      table.AddRow({token.token_id(), token.user(), RoleName(token.role()), StateOf(token, now)});
    }
    out << table.Render(context.TableLayout());
  }
  return ExitCode::kDone;
}

absl::StatusOr<ExitCode> Revoke(const std::string& token_id, const CommandContext& context) {
  MOE_ASSIGN_OR_RETURN(CoordinatorClient client, context.Connect());
  MOE_ASSIGN_OR_RETURN(const moe::v1::Token token, client.RevokeToken(WithoutNoun(token_id)));
  context.world.out << "token/" << token.token_id() << " revoked\n";
  return ExitCode::kDone;
}

absl::StatusOr<ExitCode> InitCertificates(const CertificatePlan& plan,
                                          const CommandContext& context) {
  MOE_ASSIGN_OR_RETURN(const std::vector<std::string> folders, MakeCertificates(plan));
  for (const std::string& folder : folders) context.world.out << folder << "\n";
  if (folders.empty()) context.Note("all of it is there; --renew makes new ones");
  return ExitCode::kDone;
}

}  // namespace

void AddCertificateCommands(CLI::App& root, CommandContext& context) {
  CLI::App* noun = root.add_subcommand("cert", "Certificates for TLS");
  noun->require_subcommand(1);
  CLI::App* init = noun->add_subcommand(
      "init", "Make an authority, and certificates for coordinator, workers and clients");
  auto plan = std::make_shared<CertificatePlan>();
  init->add_option("DIR", plan->folder, "Where; what exists there is kept")->required();
  init->add_option("--host", plan->hosts, "A name or address of the coordinator; may be repeated");
  init->add_option("--worker", plan->workers, "The --worker-id of a worker; may be repeated");
  init->add_option("--client", plan->clients, "A user or a machine; may be repeated");
  init->add_option("--days", plan->days, "How long they are good; default 365")
      ->check(CLI::Range(1, 3650));
  init->add_flag("--renew", plan->renew, "Make anew what is named, under the same authority");
  init->footer(
      "Copy each folder to its machine, and keep DIR/ca somewhere else. Running daemons notice "
      "new\n"
      "files within seconds.\n\n"
      "Examples:\n"
      "  moectl cert init tls --host head.example.org --worker gpu1 --worker gpu2 --client alice\n"
      "  moe-coordinator --tls-dir tls/coordinator --listen 0.0.0.0:7070 ...\n"
      "  moe-worker --tls-dir tls/worker-gpu1 --worker-id gpu1 --coordinator head.example.org:7070 "
      "...");
  init->callback([plan, &context] {
    context.run = [plan, &context] { return InitCertificates(*plan, context); };
  });
}

void AddTokenCommands(CLI::App& root, CommandContext& context) {
  CLI::App* noun = root.add_subcommand("token", "Tokens of users, for coordinators with TLS");
  noun->require_subcommand(1);

  auto wish = std::make_shared<NewToken>();
  CLI::App* create = noun->add_subcommand("create", "Make a token; shown once");
  create->add_option("--user", wish->user, "Whom it stands for")->required();
  create->add_option("--role", wish->role, "viewer, submitter, operator or admin")
      ->required()
      ->check(CLI::IsMember({"viewer", "submitter", "operator", "admin"}));
  create->add_option("--days", wish->days, "How long it is good, 0 for ever; default 90")
      ->check(CLI::Range(0, 3650));
  create->add_option("--file", wish->file, "Write it to this file, for its owner only");
  create->footer(
      "Examples:\n  moectl token create --user alice --role submitter --file alice.token");
  create->callback(
      [wish, &context] { context.run = [wish, &context] { return Create(*wish, context); }; });

  auto output = std::make_shared<std::string>();
  CLI::App* list = noun->add_subcommand("list", "List tokens, without their secrets");
  AddOutputOption(*list, output.get(), {"table", "json", "yaml"});
  list->callback(
      [output, &context] { context.run = [output, &context] { return List(*output, context); }; });

  auto token_id = std::make_shared<std::string>();
  CLI::App* revoke = noun->add_subcommand("revoke", "Refuse a token from now on");
  revoke->add_option("TOKEN", *token_id, "Its id, as token list shows it")->required();
  revoke->callback([token_id, &context] {
    context.run = [token_id, &context] { return Revoke(*token_id, context); };
  });
}

}  // namespace moe::moectl
