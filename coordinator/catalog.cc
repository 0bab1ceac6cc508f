#include "coordinator/catalog.h"

#include <charconv>
#include <iterator>
#include <utility>

#include "common/status.h"

namespace moe::coordinator {

absl::Status Catalog::Load() {
  MOE_ASSIGN_OR_RETURN(const storage::Store::Counters counters, store_->ReadCounters());
  last_version_ = counters.last_artefact_version;
  return store_->ForEachArtefact([&](v1::ArtefactRecord record) {
    const std::string name = record.artefact().name();
    const int32_t version = record.artefact().version();
    Index(by_name_[name][version] = std::move(record));
  });
}

void Catalog::Index(const v1::ArtefactRecord& record) {
  by_revision_[record.revision()] = &record;
  by_job_[{record.artefact().job_id(), record.revision()}] = &record;
}

const v1::Artefact* Catalog::Find(const std::string& reference) const {
  const size_t colon = reference.find(':');
  const auto it = by_name_.find(reference.substr(0, colon));
  if (it == by_name_.end() || it->second.empty()) return nullptr;
  if (colon == std::string::npos) return &it->second.rbegin()->second.artefact();
  int32_t version = 0;
  const char* end = reference.data() + reference.size();
  const auto [rest, error] = std::from_chars(reference.data() + colon + 1, end, version);
  if (error != std::errc() || rest != end) return nullptr;
  const auto found = it->second.find(version);
  return found == it->second.end() ? nullptr : &found->second.artefact();
}

std::vector<const v1::Artefact*> Catalog::MadeBy(const std::string& job_id) const {
  std::vector<const v1::Artefact*> made;
  for (auto it = by_job_.lower_bound({job_id, 0}); it != by_job_.end() && it->first.first == job_id;
       ++it) {
    made.push_back(&it->second->artefact());
  }
  return made;
}

v1::ListArtefactsResponse Catalog::List(const v1::ListArtefactsRequest& request, int page_size,
                                        int64_t before_revision) const {
  v1::ListArtefactsResponse response;
  int64_t last = 0;
  for (auto it = std::make_reverse_iterator(by_revision_.lower_bound(before_revision));
       it != by_revision_.rend(); ++it) {
    const v1::Artefact& artefact = it->second->artefact();
    if (request.kind() != v1::ARTEFACT_KIND_UNSPECIFIED && artefact.kind() != request.kind()) {
      continue;
    }
    if (!request.job_id().empty() && artefact.job_id() != request.job_id()) continue;
    if (response.artefacts_size() == page_size) {
      response.set_next_page_token(fmt::format("r{}", last));
      break;
    }
    *response.add_artefacts() = artefact;
    last = it->first;
  }
  return response;
}

const v1::Artefact& Catalog::Add(Turn& turn, v1::Artefact artefact, int64_t revision) {
  const std::string name = artefact.name();
  const int32_t version = ++last_version_[name];
  turn.batch.PutVersionCounter(name, version);
  v1::ArtefactRecord& record = by_name_[name][version];
  *record.mutable_artefact() = std::move(artefact);
  record.mutable_artefact()->set_version(version);
  record.set_revision(revision);
  Index(record);
  turn.batch.PutArtefact(record);
  return record.artefact();
}

void Catalog::Remove(Turn& turn, const std::string& name, int32_t version) {
  const auto it = by_name_.find(name);
  if (it == by_name_.end() || !it->second.contains(version)) return;
  const v1::ArtefactRecord& record = it->second.at(version);
  by_revision_.erase(record.revision());
  by_job_.erase({record.artefact().job_id(), record.revision()});
  it->second.erase(version);
  turn.batch.DeleteArtefact(name, version);
}

}  // namespace moe::coordinator
