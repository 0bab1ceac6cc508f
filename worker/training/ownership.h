// Who has and who owns what of the arenas.
//
// Ranks r E to r E + E - 1 are a group among whom the experts of every layer are shared out; E is 1
// where every rank has all of them. Each region of the arena is then the same on some of the ranks,
// and of these each owns one range of it, for which it alone keeps the optimizer's state (ZeRO-1).
#pragma once

#include <cstdint>
#include <vector>

#include "worker/model/parameters.h"
#include "worker/parallel/communicator.h"

namespace moe::training {

// The part of the experts that a rank holds; `expert_parallel` is E.
model::ExpertShare ShareOf(int rank, int64_t expert_parallel);

// The ranks among whom this rank's tokens find all experts, in the order of their shares.
std::vector<int> ExpertGroup(const model::ParameterLayout& layout,
                             const parallel::Communicator& communicator);

// The ranks that have the same region of the arena as this one, ascending.
std::vector<int> RanksWith(model::Region region, const model::ParameterLayout& layout,
                           const parallel::Communicator& communicator);

// What this rank owns, in the order of the arena: of each region that has elements one range.
std::vector<parallel::Range> OwnedRanges(const model::ParameterLayout& layout,
                                         const parallel::Communicator& communicator);

int64_t TotalNumel(const std::vector<parallel::Range>& ranges);

}  // namespace moe::training
