#include "storage/artefacts/direct_io.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>

#include "common/crc32c.h"
#include "common/file.h"
#include "common/status.h"
#include "storage/artefacts/direct_reader.h"
#include "storage/artefacts/direct_writer.h"
#include "tests/unit/common/temporary_folder.h"

namespace moe::artefacts {
namespace {

using testing::AllOf;
using testing::HasSubstr;

std::string RandomText(size_t size) {
  std::mt19937_64 random(size);
  std::string text(size, '\0');
  for (size_t i = 0; i < size; i += sizeof(uint64_t)) {
    const uint64_t word = random();
    std::memcpy(text.data() + i, &word, std::min(sizeof word, size - i));
  }
  return text;
}

// Around a sector and a block, and more blocks than are in memory at once.
constexpr size_t kSizes[] = {0,
                             1,
                             4095,
                             4096,
                             kDirectBlockBytes - 1,
                             kDirectBlockBytes,
                             kDirectBlockBytes + 1,
                             7 * kDirectBlockBytes + 4097};

absl::Status Write(const std::string& path, const std::string& text, size_t piece,
                   uint32_t* crc32c) {
  MOE_ASSIGN_OR_RETURN(const auto writer,
                       DirectWriter::Create(path, text.size(), ReadBack::kEachBlock));
  for (size_t i = 0; i < text.size(); i += piece) {
    MOE_RETURN_IF_ERROR(writer->Append(text.data() + i, std::min(piece, text.size() - i)));
  }
  MOE_RETURN_IF_ERROR(writer->Finish());
  *crc32c = writer->crc32c();
  return absl::OkStatus();
}

TEST(DirectIo, EverySize_IsReadAsItWasWritten) {
  const TemporaryFolder folder;
  const std::string path = folder.File("file");
  for (const size_t size : kSizes) {
    SCOPED_TRACE(size);
    const std::string text = RandomText(size);
    uint32_t written = 0;
    ASSERT_TRUE(Write(path, text, 1'000'003, &written).ok());
    EXPECT_EQ(written, Crc32c(text.data(), size));
    EXPECT_TRUE(*ReadFile(path) == text);

    const auto content = ReadDirect(path);
    ASSERT_TRUE(content.ok()) << ToString(content.status());
    EXPECT_EQ(content->size_bytes, size);
    EXPECT_EQ(content->crc32c, written);
  }
}

// In two parts that leave out the first byte and the last, read in place or copied.
TEST(DirectIo, PartsOfAFile_GoToTheirDestinations) {
  const TemporaryFolder folder;
  const std::string path = folder.File("file");
  for (const size_t size : kSizes) {
    if (size < 3) continue;
    const std::string text = RandomText(size);
    folder.Write("file", text);
    for (const size_t middle : {size / 2, AlignUp(size / 2)}) {
      for (const size_t shift : {size_t{0}, size_t{4}}) {
        if (middle + 1 >= size) continue;
        SCOPED_TRACE(
            fmt::format("{} bytes, {} in the first part, {} further", size, middle, shift));
        const AlignedBuffer room = AllocateAligned(AlignUp(size + shift));
        uint8_t* to = room.get() + shift;
        std::memset(room.get(), '?', size + shift);
        const auto content =
            ReadDirect(path, {{.begin = 1, .end = middle, .to = to + 1},
                              {.begin = middle, .end = size - 1, .to = to + middle}});
        ASSERT_TRUE(content.ok()) << ToString(content.status());
        EXPECT_EQ(content->crc32c, Crc32c(text.data(), size));
        EXPECT_EQ(to[0], '?');
        EXPECT_EQ(to[size - 1], '?');
        EXPECT_TRUE(std::memcmp(to + 1, text.data() + 1, size - 2) == 0);
      }
    }
  }
}

// Of any alignment, before and after bytes that are copied.
TEST(DirectWriter, AppendKept_WritesTheSameWithoutACopy) {
  const TemporaryFolder folder;
  const std::string path = folder.File("file");
  for (const size_t size : kSizes) {
    for (const size_t skipped : {size_t{0}, size_t{1}}) {
      for (const size_t copied : {size_t{0}, size_t{100}, kDirectAlignment}) {
        SCOPED_TRACE(fmt::format("{} bytes, {} skipped, {} copied", size, skipped, copied));
        const AlignedBuffer kept = AllocateAligned(AlignUp(size + 1));
        const std::string text = RandomText(size);
        std::memcpy(kept.get() + skipped, text.data(), size);
        const std::string head(copied, 'h');
        const auto writer = DirectWriter::Create(path, copied + size + 4, ReadBack::kEachBlock);
        ASSERT_TRUE(writer.ok());
        ASSERT_TRUE((*writer)->Append(head.data(), copied).ok());
        ASSERT_TRUE((*writer)->AppendKept(kept.get() + skipped, size).ok());
        ASSERT_TRUE((*writer)->Append("tail", 4).ok());
        ASSERT_TRUE((*writer)->Finish().ok());
        const std::string whole = head + text + "tail";
        EXPECT_TRUE(*ReadFile(path) == whole);
        EXPECT_EQ((*writer)->crc32c(), Crc32c(whole.data(), whole.size()));
        EXPECT_EQ((*writer)->size_bytes(), whole.size());
      }
    }
  }
}

TEST(DirectIo, FileThatIsNone_IsRefused) {
  const TemporaryFolder folder;
  EXPECT_EQ(ReadDirect(folder.File("absent")).status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(Message(ReadDirect(folder.path()).status()), HasSubstr("is not a regular file"));
  EXPECT_THAT(Message(DirectWriter::Create(folder.File("a/b"), 1, ReadBack::kNever).status()),
              HasSubstr("cannot create"));
}

TEST(DirectIo, FileShorterThanAsked_IsDataLoss) {
  const TemporaryFolder folder;
  folder.Write("file", "123456789");
  const std::string path = folder.File("file");
  const auto fd = OpenDirect(path, O_RDONLY);
  const AlignedBuffer buffer = AllocateAligned(kDirectAlignment);
  EXPECT_TRUE(ReadAt(fd->get(), buffer.get(), 9, 0, path).ok());
  EXPECT_EQ(ReadAt(fd->get(), buffer.get(), 10, 0, path).code(), absl::StatusCode::kDataLoss);
}

TEST(DirectWriter, FileThatHoldsOtherBytes_IsTold) {
  const TemporaryFolder folder;
  std::string text = RandomText(2 * kDirectAlignment);
  folder.Write("file", text);
  const std::string path = folder.File("file");
  const auto fd = OpenDirect(path, O_RDONLY);
  const AlignedBuffer expected = AllocateAligned(kDirectAlignment);
  const AlignedBuffer scratch = AllocateAligned(kDirectAlignment);
  std::memcpy(expected.get(), text.data() + kDirectAlignment, kDirectAlignment);
  const auto check = [&] {
    return CheckWritten(fd->get(), expected.get(), kDirectAlignment, kDirectAlignment,
                        scratch.get(), path);
  };
  EXPECT_TRUE(check().ok());
  expected[kDirectAlignment - 1] ^= 1;
  const absl::Status other = check();
  EXPECT_EQ(other.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(Message(other), AllOf(HasSubstr(path), HasSubstr("at bytes 4096 to 8192")));
}

TEST(DirectWriter, NotFinished_LeavesNoFile) {
  const TemporaryFolder folder;
  const std::string text = RandomText(3 * kDirectBlockBytes), path = folder.File("file");
  {
    const auto writer = DirectWriter::Create(path, text.size(), ReadBack::kNever);
    ASSERT_TRUE((*writer)->Append(text.data(), text.size()).ok());
    EXPECT_TRUE(FileExists(path));
  }
  EXPECT_FALSE(FileExists(path));
}

// A write that fails is of a block that Append has given away: a later call tells, and all that
// follow. In a child, which alone may have no larger files.
TEST(DirectWriter, WriteThatFails_IsToldByALaterCallAndLeavesNoFile) {
  const TemporaryFolder folder;
  const std::string text = RandomText(24 * kDirectBlockBytes), path = folder.File("file");
  const auto body = [&] {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit = {.rlim_cur = 3 * kDirectBlockBytes, .rlim_max = 3 * kDirectBlockBytes};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    const auto writer = DirectWriter::Create(path, 0, ReadBack::kNever);
    const absl::Status appended = (*writer)->Append(text.data(), text.size());
    const bool told = !appended.ok() && Message(appended).find("cannot write " + path) == 0;
    const bool again = (*writer)->Append("x", 1) == appended && (*writer)->Finish() == appended;
    std::_Exit(told && again && !FileExists(path) ? 0 : 1);
  };
  EXPECT_EXIT(body(), testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace moe::artefacts
