// Everything about one job, on a page.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/term/table.h"
#include "moe/v1/artefact.pb.h"
#include "moe/v1/job_service.pb.h"

namespace moe::moectl {

struct JobPage {
  moe::v1::Job job;
  moe::v1::ListEventsResponse events;
  // The job's outputs, as far as the catalogue has them.
  std::vector<moe::v1::Artefact> outputs;
};

std::string RenderJobPage(const JobPage& page, int64_t now_unix_millis,
                          const term::TableLayout& layout);

}  // namespace moe::moectl
