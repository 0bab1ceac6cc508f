#include "coordinator/roles.h"

#include <google/protobuf/descriptor.h>
#include <gtest/gtest.h>

#include "moe/v1/access_service.pb.h"
#include "moe/v1/artefact_service.pb.h"
#include "moe/v1/audit_service.pb.h"
#include "moe/v1/cluster_service.pb.h"
#include "moe/v1/job_service.pb.h"
#include "moe/v1/sampler_service.pb.h"
#include "moe/v1/worker_service.pb.h"

namespace moe::coordinator {
namespace {

TEST(RolesTest, EveryRpcOfEveryService_HasARequirement) {
  int rpcs = 0;
  for (const auto* file :
       {v1::CreateTokenRequest::descriptor()->file(), v1::GetArtefactRequest::descriptor()->file(),
        v1::ListAuditEntriesRequest::descriptor()->file(),
        v1::ListWorkersRequest::descriptor()->file(), v1::GetJobRequest::descriptor()->file(),
        v1::GetSamplerRequest::descriptor()->file(), v1::SessionRequest::descriptor()->file()}) {
    for (int s = 0; s < file->service_count(); ++s) {
      for (int m = 0; m < file->service(s)->method_count(); ++m) {
        const std::string path =
            "/" + file->service(s)->full_name() + "/" + file->service(s)->method(m)->name();
        EXPECT_TRUE(RequirementOf(path).has_value())
            << path << " is missing in coordinator/roles.cc";
        ++rpcs;
      }
    }
  }
  EXPECT_GE(rpcs, 20);
}

TEST(RolesTest, WhatIsNotInTheTable_HasNone) {
  EXPECT_FALSE(RequirementOf("/moe.v1.JobService/DropEverything").has_value());
  EXPECT_FALSE(RequirementOf("").has_value());
}

TEST(RolesTest, OnlyHealthIsOpenToAnyone) {
  EXPECT_EQ(RequirementOf("/grpc.health.v1.Health/Check")->kind, Requirement::Kind::kAnyone);
  EXPECT_EQ(RequirementOf("/moe.v1.WorkerService/Session")->kind, Requirement::Kind::kWorker);
  EXPECT_EQ(RequirementOf("/moe.v1.AccessService/CreateToken")->role, v1::ROLE_ADMIN);
  EXPECT_EQ(RequirementOf("/moe.v1.AuditService/ListAuditEntries")->role, v1::ROLE_ADMIN);
  EXPECT_EQ(RequirementOf("/moe.v1.JobService/ListJobs")->role, v1::ROLE_VIEWER);
}

}  // namespace
}  // namespace moe::coordinator
