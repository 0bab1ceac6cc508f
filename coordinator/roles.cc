#include "coordinator/roles.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <string_view>

namespace moe::coordinator {
namespace {

using Kind = Requirement::Kind;

struct Row {
  std::string_view path;
  Requirement requirement;
};

constexpr Requirement kAnyone = {Kind::kAnyone, v1::ROLE_UNSPECIFIED};
constexpr Requirement kWorker = {Kind::kWorker, v1::ROLE_UNSPECIFIED};
constexpr Requirement kViewer = {Kind::kUser, v1::ROLE_VIEWER};
constexpr Requirement kSubmitter = {Kind::kUser, v1::ROLE_SUBMITTER};
constexpr Requirement kOperator = {Kind::kUser, v1::ROLE_OPERATOR};
constexpr Requirement kAdmin = {Kind::kUser, v1::ROLE_ADMIN};

constexpr std::array kTable = {
    Row{"/moe.v1.JobService/SubmitPipeline", kSubmitter},
    Row{"/moe.v1.JobService/EstimatePipeline", kViewer},
    Row{"/moe.v1.JobService/PlanPipeline", kViewer},
    Row{"/moe.v1.JobService/GetGoodput", kViewer},
    Row{"/moe.v1.JobService/GetJob", kViewer},
    Row{"/moe.v1.JobService/ListJobs", kViewer},
    Row{"/moe.v1.JobService/WatchJobs", kViewer},
    // One's own as a submitter; the handler asks for an operator where the job is another's.
    Row{"/moe.v1.JobService/CancelJob", kSubmitter},
    Row{"/moe.v1.JobService/HoldJob", kSubmitter},
    Row{"/moe.v1.JobService/ReleaseJob", kSubmitter},
    Row{"/moe.v1.JobService/PreemptJob", kOperator},
    Row{"/moe.v1.JobService/ExplainJob", kViewer},
    Row{"/moe.v1.JobService/ReadLogs", kViewer},
    Row{"/moe.v1.JobService/ListEvents", kViewer},
    Row{"/moe.v1.JobService/ListSteps", kViewer},
    Row{"/moe.v1.ArtefactService/GetArtefact", kViewer},
    Row{"/moe.v1.ArtefactService/ListArtefacts", kViewer},
    Row{"/moe.v1.AuditService/ListAuditEntries", kAdmin},
    Row{"/moe.v1.ClusterService/GetCoordinator", kViewer},
    Row{"/moe.v1.ClusterService/ListWorkers", kViewer},
    Row{"/moe.v1.ClusterService/DrainWorker", kOperator},
    Row{"/moe.v1.ClusterService/UndrainWorker", kOperator},
    Row{"/moe.v1.ClusterService/ListQueues", kViewer},
    Row{"/moe.v1.SamplerService/GetSampler", kViewer},
    Row{"/moe.v1.SamplerService/ListDecisions", kViewer},
    Row{"/moe.v1.SamplerService/PinWeights", kSubmitter},
    Row{"/moe.v1.SamplerService/UnpinWeights", kSubmitter},
    Row{"/moe.v1.SamplerService/RollBackWeights", kSubmitter},
    Row{"/moe.v1.SamplerService/ReplayDecisions", kViewer},
    Row{"/moe.v1.WorkerService/Session", kWorker},
    Row{"/moe.v1.AccessService/CreateToken", kAdmin},
    Row{"/moe.v1.AccessService/ListTokens", kAdmin},
    Row{"/moe.v1.AccessService/RevokeToken", kAdmin},
    Row{"/grpc.health.v1.Health/Check", kAnyone},
    Row{"/grpc.health.v1.Health/Watch", kAnyone},
    Row{"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", kViewer},
};

}  // namespace

std::optional<Requirement> RequirementOf(const std::string& path) {
  const auto* row =
      std::find_if(kTable.begin(), kTable.end(), [&](const Row& r) { return r.path == path; });
  if (row == kTable.end()) return std::nullopt;
  return row->requirement;
}

std::string RoleName(v1::Role role) {
  std::string name = v1::Role_Name(role).substr(std::string_view("ROLE_").size());
  for (char& letter : name) letter = static_cast<char>(std::tolower(letter));
  return name;
}

}  // namespace moe::coordinator
