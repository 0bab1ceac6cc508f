#include "common/file.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <utility>

#include "common/status.h"
#include "tests/unit/common/temporary_folder.h"

namespace moe {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class FileTest : public testing::Test {
 protected:
  TemporaryFolder folder_;
};

TEST_F(FileTest, ReadFile_GivesEveryByte) {
  const std::string content = std::string(200'000, 'x') + std::string("\0\n", 2);
  EXPECT_EQ(*ReadFile(folder_.Write("f", content)), content);
  EXPECT_EQ(*ReadFile(folder_.Write("empty", "")), "");
  const auto missing = ReadFile(folder_.File("absent"));
  EXPECT_EQ(missing.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(Message(missing.status()), HasSubstr(folder_.File("absent")));
}

TEST_F(FileTest, WriteFileAtomically_ReplacesAndLeavesNothingElse) {
  const std::string path = folder_.File("f");
  ASSERT_TRUE(WriteFileAtomically(path, "old").ok());
  ASSERT_TRUE(WriteFileAtomically(path, "new").ok());
  EXPECT_EQ(*ReadFile(path), "new");
  EXPECT_THAT(*ListDirectory(folder_.path()), ElementsAre("f"));
}

TEST_F(FileTest, WriteFileAtomically_ThatFails_LeavesTheOldState) {
  EXPECT_EQ(WriteFileAtomically(folder_.File("no/f"), "x").code(), absl::StatusCode::kNotFound);
  // A folder in the way fails the rename, after the temporary file was written.
  folder_.Write("taken/inside", "x");
  EXPECT_FALSE(WriteFileAtomically(folder_.File("taken"), "x").ok());
  EXPECT_THAT(*ListDirectory(folder_.path()), ElementsAre("taken"));
}

TEST_F(FileTest, WriteAll_ToAFullDevice_IsResourceExhausted) {
  const FileDescriptor fd(::open("/dev/full", O_WRONLY | O_CLOEXEC));
  ASSERT_TRUE(fd.valid());
  const absl::Status status = WriteAll(fd.get(), "x", 1, "/dev/full");
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(Message(status), HasSubstr("cannot write /dev/full"));
}

TEST_F(FileTest, Directories_AreMadeListedAndRemoved) {
  const std::string deep = folder_.File("a/b/c");
  ASSERT_TRUE(MakeDirectories(deep).ok());
  EXPECT_TRUE(MakeDirectories(deep).ok());
  folder_.Write("a/z", "1");
  folder_.Write("a/m", "22");
  EXPECT_THAT(*ListDirectory(folder_.File("a")), ElementsAre("b", "m", "z"));
  EXPECT_EQ(*FileSize(folder_.File("a/m")), 2u);
  EXPECT_TRUE(SyncDirectory(deep).ok());
  EXPECT_FALSE(MakeDirectories(folder_.File("a/z/under-a-file")).ok());
  ASSERT_TRUE(RemoveTree(folder_.File("a")).ok());
  EXPECT_FALSE(FileExists(folder_.File("a")));
  EXPECT_TRUE(RemoveTree(folder_.File("a")).ok());
  EXPECT_EQ(ListDirectory(folder_.File("a")).status().code(), absl::StatusCode::kNotFound);
}

TEST(JoinPath, KeepsAbsolutePaths) {
  EXPECT_EQ(JoinPath("a", "b"), "a/b");
  EXPECT_EQ(JoinPath("a/", "b"), "a/b");
  EXPECT_EQ(JoinPath("a", "/b"), "/b");
}

TEST_F(FileTest, MappedFile_ShowsTheContentAndMoves) {
  auto opened = MappedFile::Open(folder_.Write("f", "hello"));
  ASSERT_TRUE(opened.ok());
  MappedFile file = *std::move(opened);
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(file.data()), file.size()), "hello");
  MappedFile moved;
  moved = std::move(file);
  EXPECT_EQ(moved.size(), 5u);
  EXPECT_EQ(moved.path(), folder_.File("f"));
}

TEST_F(FileTest, MappedFile_OfNothing_IsEmptyOrRefused) {
  const auto empty = MappedFile::Open(folder_.Write("empty", ""));
  ASSERT_TRUE(empty.ok());
  EXPECT_EQ(empty->size(), 0u);
  EXPECT_EQ(MappedFile::Open(folder_.File("absent")).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(MappedFile::Open(folder_.path()).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(FileTest, FileDescriptor_ClosesOnce) {
  const std::string path = folder_.Write("f", "x");
  int number = -1;
  {
    FileDescriptor first(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    number = first.get();
    const FileDescriptor second = std::move(first);
    EXPECT_FALSE(first.valid());  // NOLINT(bugprone-use-after-move): that is the promise
    EXPECT_EQ(second.get(), number);
    EXPECT_NE(::fcntl(number, F_GETFD), -1);
  }
  EXPECT_EQ(::fcntl(number, F_GETFD), -1);
}

}  // namespace
}  // namespace moe
