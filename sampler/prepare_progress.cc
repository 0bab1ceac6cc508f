#include "sampler/prepare_progress.h"

#include "common/file.h"
#include "common/status.h"
#include "sampler/utf8.h"

namespace moe::sampler {
namespace {

constexpr char kFileName[] = "progress.json";
constexpr char kFormat[] = "moe-prepare-progress";
constexpr int64_t kVersion = 1;

// Of a dropped document's text, to find it by in the data card.
constexpr int64_t kExampleCharacters = 60;

constexpr std::array kStageNames = {"both", "select", "write", "done"};

template <size_t kSize>
Json ToJson(const std::array<int64_t, kSize>& counts) {
  return Json(std::vector<int64_t>(counts.begin(), counts.end()));
}

template <size_t kSize>
void FromJson(JsonReader& reader, const char* key, std::array<int64_t, kSize>& counts,
              absl::Status& status) {
  const Json& list = reader.Array(key);
  if (!reader.status().ok()) return;
  if (list.size() != kSize) {
    status = DataLoss("{}: {} has {} entries, not {}", reader.path(), key, list.size(), kSize);
    return;
  }
  for (size_t i = 0; i < kSize; ++i) {
    if (!list[i].is_number_integer()) {
      status = DataLoss("{}: {} holds what is no count", reader.path(), key);
      return;
    }
    counts[i] = list[i].get<int64_t>();
  }
}

Json ToJson(const DocumentReader::Cursor& cursor) {
  const ReadCounts& counts = cursor.counts;
  return {{"next_file", cursor.next_file},
          {"in_file", cursor.in_file},
          {"line", cursor.line},
          {"bytes", cursor.bytes},
          {"files", counts.files},
          {"file_bytes", counts.bytes},
          {"documents", counts.documents},
          {"characters_repaired", counts.characters_repaired},
          {"other_sets", counts.other_sets},
          {"skipped", ToJson(counts.skipped)},
          {"skipped_examples", counts.skipped_examples},
          {"other_set_names", counts.other_set_names}};
}

absl::StatusOr<DocumentReader::Cursor> CursorFrom(const Json& json) {
  JsonReader reader(json, "progress.json: cursor");
  DocumentReader::Cursor cursor;
  absl::Status status;
  cursor.next_file = reader.Int("next_file");
  cursor.in_file = reader.Bool("in_file");
  cursor.line = reader.Int("line");
  cursor.bytes = reader.Int("bytes");
  ReadCounts& counts = cursor.counts;
  counts.files = reader.Int("files");
  counts.bytes = reader.Int("file_bytes");
  counts.documents = reader.Int("documents");
  counts.characters_repaired = reader.Int("characters_repaired");
  counts.other_sets = reader.Int("other_sets");
  FromJson(reader, "skipped", counts.skipped, status);
  counts.skipped_examples = reader.Strings("skipped_examples");
  for (const std::string& name : reader.Strings("other_set_names")) {
    counts.other_set_names.insert(name);
  }
  MOE_RETURN_IF_ERROR(reader.status());
  MOE_RETURN_IF_ERROR(status);
  return cursor;
}

Json ToJson(const TokenShardWriter::Extent& extent) {
  return {{"tokens", extent.tokens}, {"documents", extent.documents}};
}

TokenShardWriter::Extent ExtentFrom(JsonReader& reader, const char* key) {
  const Json& json = reader.Object(key);
  if (!reader.status().ok()) return {};
  JsonReader extent(json, reader.path());
  return {.tokens = extent.Int("tokens", 0), .documents = extent.Int("documents", 0)};
}

Json ToJson(const FilterOutcome& filters) {
  Json json = {{"documents", filters.documents},
               {"dropped_fluency", filters.dropped_fluency},
               {"dropped_advertisement", filters.dropped_advertisement}};
  if (filters.fluency_threshold) json["fluency_threshold"] = *filters.fluency_threshold;
  if (filters.advertisement_threshold) {
    json["advertisement_threshold"] = *filters.advertisement_threshold;
  }
  return json;
}

absl::StatusOr<FilterOutcome> FiltersFrom(const Json& json) {
  JsonReader reader(json, "progress.json: filters");
  FilterOutcome filters = {.documents = reader.Int("documents"),
                           .dropped_fluency = reader.Int("dropped_fluency"),
                           .dropped_advertisement = reader.Int("dropped_advertisement")};
  // A float goes through JSON's double unchanged.
  if (reader.Has("fluency_threshold")) {
    filters.fluency_threshold = static_cast<float>(reader.Double("fluency_threshold"));
  }
  if (reader.Has("advertisement_threshold")) {
    filters.advertisement_threshold = static_cast<float>(reader.Double("advertisement_threshold"));
  }
  MOE_RETURN_IF_ERROR(reader.status());
  return filters;
}

Json ToJson(const DomainProgress& domain) {
  Json json = {{"stage", kStageNames[static_cast<size_t>(domain.stage)]},
               {"cursor", ToJson(domain.cursor)},
               {"records", domain.records},
               {"records_written", domain.records_written},
               {"dropped", ToJson(domain.dropped.by_verdict)},
               {"dropped_examples", domain.dropped.examples},
               {"train", ToJson(domain.train)},
               {"heldout", ToJson(domain.heldout)},
               {"stopped_at_limit", domain.stopped_at_limit},
               {"split_within_document", domain.split_within_document},
               {"cut", domain.cut},
               {"train_targets", domain.train_targets},
               {"heldout_targets", domain.heldout_targets}};
  if (domain.filters.has_value()) json["filters"] = ToJson(*domain.filters);
  return json;
}

absl::StatusOr<DomainProgress> DomainFrom(const Json& json) {
  JsonReader reader(json, "progress.json: domains");
  DomainProgress domain;
  absl::Status status;
  const std::string stage = reader.String("stage");
  domain.records = reader.Int("records");
  domain.records_written = reader.Int("records_written");
  FromJson(reader, "dropped", domain.dropped.by_verdict, status);
  domain.dropped.examples = reader.Strings("dropped_examples");
  domain.train = ExtentFrom(reader, "train");
  domain.heldout = ExtentFrom(reader, "heldout");
  domain.stopped_at_limit = reader.Bool("stopped_at_limit");
  domain.split_within_document = reader.Bool("split_within_document");
  domain.cut = reader.Int("cut", 0);
  domain.train_targets = reader.Int("train_targets", 0);
  domain.heldout_targets = reader.Int("heldout_targets", 0);
  const Json& cursor = reader.Object("cursor");
  MOE_RETURN_IF_ERROR(reader.status());
  MOE_RETURN_IF_ERROR(status);
  MOE_ASSIGN_OR_RETURN(domain.cursor, CursorFrom(cursor));
  if (reader.Has("filters")) {
    MOE_ASSIGN_OR_RETURN(domain.filters, FiltersFrom(json["filters"]));
  }
  for (size_t i = 0; i < kStageNames.size(); ++i) {
    if (stage != kStageNames[i]) continue;
    domain.stage = static_cast<DomainProgress::Stage>(i);
    return domain;
  }
  return DataLoss("progress.json: no stage is called '{}'", stage);
}

}  // namespace

void DropCounts::Count(Verdict verdict, const std::string& text) {
  ++by_verdict[static_cast<size_t>(verdict)];
  if (verdict == Verdict::kKept || examples.size() >= kMaxDropExamples) return;
  examples.push_back(fmt::format("{}: begins '{}'", kVerdictNames[static_cast<size_t>(verdict)],
                                 FirstCharacters(text, kExampleCharacters)));
}

absl::Status PrepareProgressFile::Save(const std::string& work_folder) const {
  Json list = Json::array();
  for (const DomainProgress& domain : domains) list.push_back(ToJson(domain));
  const Json json = {{"format", kFormat},
                     {"version", kVersion},
                     {"fingerprint", fingerprint},
                     {"signatures", signatures},
                     {"domains", std::move(list)}};
  return WriteFileAtomically(JoinPath(work_folder, kFileName), json.dump(1) + "\n");
}

absl::StatusOr<std::optional<PrepareProgressFile>> PrepareProgressFile::Load(
    const std::string& work_folder) {
  const std::string path = JoinPath(work_folder, kFileName);
  if (!FileExists(path)) return std::nullopt;
  MOE_ASSIGN_OR_RETURN(const Json json, ReadJsonFile(path));
  JsonReader reader(json, path);
  const std::string format = reader.String("format");
  const int64_t version = reader.Int("version");
  PrepareProgressFile progress;
  progress.fingerprint = reader.String("fingerprint");
  progress.signatures = reader.Int("signatures");
  const Json& domains = reader.Array("domains");
  MOE_RETURN_IF_ERROR(reader.status());
  if (format != kFormat || version != kVersion) {
    return DataLoss("{} is of format {} version {}; this program writes {} version {}", path,
                    format, version, kFormat, kVersion);
  }
  for (const Json& item : domains) {
    MOE_ASSIGN_OR_RETURN(DomainProgress domain, DomainFrom(item));
    progress.domains.push_back(std::move(domain));
  }
  return progress;
}

}  // namespace moe::sampler
