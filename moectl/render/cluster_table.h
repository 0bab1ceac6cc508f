// Tables about artefacts and workers.
#pragma once

#include <cstdint>
#include <string>

#include "common/term/table.h"
#include "moe/v1/artefact_service.pb.h"
#include "moe/v1/cluster_service.pb.h"

namespace moe::moectl {

// "checkpoint".
std::string ArtefactKindName(moe::v1::ArtefactKind kind);

// NAME KIND STEP SIZE JOB AGE; wide adds PATH.
std::string RenderArtefactTable(const moe::v1::ListArtefactsResponse& artefacts, bool wide,
                                int64_t now_unix_millis, const term::TableLayout& layout);
std::string RenderArtefactPage(const moe::v1::Artefact& artefact, int64_t now_unix_millis,
                               const term::TableLayout& layout);

// WORKER STATE SLOTS BUSY DEVICE HEARD, and NOTE where a worker is drained or avoided; wide adds
// HOST VERSION ATTEMPTS.
std::string RenderWorkerTable(const moe::v1::ListWorkersResponse& workers, bool wide,
                              int64_t now_unix_millis, const term::TableLayout& layout);

}  // namespace moe::moectl
