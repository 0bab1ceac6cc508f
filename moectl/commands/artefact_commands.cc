// moectl artefact: what jobs have made.
#include <memory>
#include <string>

#include "common/nearest.h"
#include "common/status.h"
#include "moectl/commands/commands.h"
#include "moectl/render/cluster_table.h"
#include "moectl/render/output.h"

namespace moe::moectl {
namespace {

struct ListOptions {
  std::string kind;
  std::string job;
  std::string output;
};

struct DescribeOptions {
  std::string artefact;
  std::string output;
};

std::string FullName(const moe::v1::Artefact& artefact) {
  return "artefact/" + artefact.name() + ":" + std::to_string(artefact.version());
}

moe::v1::ArtefactKind KindOfName(const std::string& name) {
  const auto* kinds = moe::v1::ArtefactKind_descriptor();
  for (int i = 0; i < kinds->value_count(); ++i) {
    const auto kind = static_cast<moe::v1::ArtefactKind>(kinds->value(i)->number());
    if (ArtefactKindName(kind) == name) return kind;
  }
  return moe::v1::ARTEFACT_KIND_UNSPECIFIED;
}

absl::StatusOr<ExitCode> List(const ListOptions& options, const CommandContext& context) {
  MOE_ASSIGN_OR_RETURN(CoordinatorClient client, context.Connect());
  moe::v1::ListArtefactsRequest request;
  request.set_kind(KindOfName(options.kind));
  if (!options.job.empty()) {
    // The server filters by id; people know names.
    MOE_ASSIGN_OR_RETURN(const moe::v1::Job job, client.GetJob(WithoutNoun(options.job)));
    request.set_job_id(job.job_id());
  }
  MOE_ASSIGN_OR_RETURN(const auto response, client.ListArtefacts(request));
  std::ostream& out = context.world.out;
  const Output output = OutputOf(options.output);
  if (output == Output::kJson) {
    out << ToJson(response);
  } else if (output == Output::kYaml) {
    out << ToYaml(response);
  } else if (output == Output::kName) {
    for (const auto& artefact : response.artefacts()) out << FullName(artefact) << "\n";
  } else if (response.artefacts().empty()) {
    context.Note("no artefacts");
  } else {
    out << RenderArtefactTable(response, output == Output::kWide, context.world.clock.UnixMillis(),
                               context.TableLayout());
  }
  return ExitCode::kDone;
}

absl::StatusOr<ExitCode> Describe(const DescribeOptions& options, const CommandContext& context) {
  MOE_ASSIGN_OR_RETURN(CoordinatorClient client, context.Connect());
  MOE_ASSIGN_OR_RETURN(const auto artefact, client.GetArtefact(WithoutNoun(options.artefact)));
  std::ostream& out = context.world.out;
  switch (OutputOf(options.output)) {
    case Output::kJson:
    case Output::kYaml: {
      moe::v1::GetArtefactResponse response;
      *response.mutable_artefact() = artefact;
      out << (options.output == "json" ? ToJson(response) : ToYaml(response));
      break;
    }
    case Output::kName:
      out << FullName(artefact) << "\n";
      break;
    case Output::kTable:
    case Output::kWide:
      out << RenderArtefactPage(artefact, context.world.clock.UnixMillis(), context.TableLayout());
      break;
  }
  return ExitCode::kDone;
}

}  // namespace

void AddArtefactCommands(CLI::App& root, CommandContext& context) {
  CLI::App* noun = root.add_subcommand("artefact", "Datasets, models, checkpoints and reports");
  noun->require_subcommand(1);

  auto list_options = std::make_shared<ListOptions>();
  CLI::App* list = noun->add_subcommand("list", "List artefacts, newest first");
  list->add_option("--kind", list_options->kind, "Only this kind")
      ->check(CLI::IsMember({"dataset", "model", "checkpoint", "report"}))
      ->type_name("KIND");
  list->add_option("--job", list_options->job, "Only what this job made")->type_name("JOB");
  AddOutputOption(*list, &list_options->output, {"table", "wide", "json", "yaml", "name"});
  list->callback([list_options, &context] {
    context.run = [list_options, &context] { return List(*list_options, context); };
  });

  auto describe_options = std::make_shared<DescribeOptions>();
  CLI::App* describe = noun->add_subcommand("describe", "Show everything about an artefact");
  describe
      ->add_option("ARTEFACT", describe_options->artefact,
                   "NAME for the newest version, or NAME:VERSION")
      ->required();
  AddOutputOption(*describe, &describe_options->output, {"table", "json", "yaml", "name"});
  describe->callback([describe_options, &context] {
    context.run = [describe_options, &context] { return Describe(*describe_options, context); };
  });
}

}  // namespace moe::moectl
