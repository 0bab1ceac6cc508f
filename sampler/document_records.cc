#include "sampler/document_records.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>

#include "common/check.h"
#include "common/status.h"
#include "sampler/filters/linear_text_model.h"

namespace moe::sampler {
namespace {

// On disk: do not change without a new version (docs/formats/dataset.md).
constexpr char kMagic[8] = {'M', 'O', 'E', 'D', 'O', 'C', 'S', '\0'};
constexpr uint32_t kVersion = 1;
struct Header {
  char magic[8];
  uint32_t version;
  uint32_t record_bytes;
  uint32_t fluency_model;
  uint32_t advertisement_model;
  uint64_t zero;
};
static_assert(sizeof(Header) == 32);

}  // namespace

std::string RecordsPath(const std::string& domain) { return "documents/" + domain + ".documents"; }

absl::StatusOr<DocumentRecordWriter> DocumentRecordWriter::Resume(const std::string& path,
                                                                  int64_t count) {
  const uint64_t size =
      count == 0 ? 0 : sizeof(Header) + static_cast<uint64_t>(count) * sizeof(DocumentRecord);
  MOE_ASSIGN_OR_RETURN(AppendFile file, AppendFile::Open(path, size));
  if (size == 0) {
    Header header{};
    std::memcpy(header.magic, kMagic, sizeof kMagic);
    header.version = kVersion;
    header.record_bytes = sizeof(DocumentRecord);
    header.fluency_model = FluencyModel().crc32c();
    header.advertisement_model = AdvertisementModel().crc32c();
    MOE_RETURN_IF_ERROR(file.Append(&header, sizeof header));
  }
  return DocumentRecordWriter(std::move(file));
}

absl::Status DocumentRecordWriter::Append(const DocumentRecord& record) {
  return file_.Append(&record, sizeof record);
}

int64_t DocumentRecordWriter::count() const {
  return static_cast<int64_t>((file_.size() - sizeof(Header)) / sizeof(DocumentRecord));
}

absl::StatusOr<DocumentRecords> DocumentRecords::Open(const std::string& path) {
  DocumentRecords records;
  MOE_ASSIGN_OR_RETURN(records.file_, MappedFile::Open(path));
  const size_t size = records.file_.size();
  Header header{};
  if (size >= sizeof header) std::memcpy(&header, records.file_.data(), sizeof header);
  if (std::memcmp(header.magic, kMagic, sizeof kMagic) != 0) {
    return DataLoss("{} does not begin with MOEDOCS: it holds no document records", path);
  }
  if (header.version != kVersion || header.record_bytes != sizeof(DocumentRecord)) {
    return DataLoss("{} has version {} of the document records; this program reads version {}",
                    path, header.version, kVersion);
  }
  if ((size - sizeof header) % sizeof(DocumentRecord) != 0) {
    return DataLoss("{} ends within a record; it is truncated", path);
  }
  records.count_ = static_cast<int64_t>((size - sizeof header) / sizeof(DocumentRecord));
  records.fluency_model_ = header.fluency_model;
  records.advertisement_model_ = header.advertisement_model;
  return records;
}

DocumentRecord DocumentRecords::at(int64_t index) const {
  MOE_CHECK(index >= 0 && index < count_);
  DocumentRecord record;
  std::memcpy(&record, file_.data() + sizeof(Header) + static_cast<size_t>(index) * sizeof record,
              sizeof record);
  return record;
}

absl::StatusOr<VerdictEditor> VerdictEditor::Open(const std::string& path) {
  FileDescriptor fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd.valid()) return ErrnoStatus(errno, "cannot open " + path);
  return VerdictEditor(path, std::move(fd));
}

absl::Status VerdictEditor::Set(int64_t index, Verdict verdict) {
  const auto offset =
      static_cast<off_t>(sizeof(Header) + static_cast<size_t>(index) * sizeof(DocumentRecord) +
                         offsetof(DocumentRecord, verdict));
  if (::pwrite(fd_.get(), &verdict, sizeof verdict, offset) != sizeof verdict) {
    return ErrnoStatus(errno, "cannot write to " + path_);
  }
  return absl::OkStatus();
}

absl::Status VerdictEditor::Sync() {
  if (::fdatasync(fd_.get()) != 0) return ErrnoStatus(errno, "cannot sync " + path_);
  return absl::OkStatus();
}

}  // namespace moe::sampler
