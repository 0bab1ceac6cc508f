// The result of an evaluate job.
#pragma once

#include <google/protobuf/struct.pb.h>

#include <string>

#include "common/term/table.h"

namespace moe::moectl {

// `metadata` of a report artefact: its `table` is a list of rows of cells, the first row being the
// titles (docs/formats/artefact.md). Empty where there is no table.
std::string RenderReportTable(const google::protobuf::Struct& metadata,
                              const term::TableLayout& layout);

}  // namespace moe::moectl
