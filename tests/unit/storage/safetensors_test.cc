#include "storage/artefacts/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "common/crc32c.h"
#include "common/json.h"
#include "common/status.h"
#include "tests/unit/common/temporary_folder.h"

namespace moe::artefacts {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string File(const std::string& header, const std::string& data) {
  const uint64_t size = header.size();
  return std::string(reinterpret_cast<const char*>(&size), sizeof size) + header + data;
}

class SafetensorsTest : public testing::Test {
 protected:
  absl::StatusOr<SafetensorsFile> Open(const std::string& content) {
    return SafetensorsFile::Open(folder_.Write("m.safetensors", content));
  }
  void ExpectRefused(const std::string& content, const std::string& message,
                     absl::StatusCode code = absl::StatusCode::kDataLoss) {
    const auto file = Open(content);
    EXPECT_EQ(file.status().code(), code) << message;
    EXPECT_THAT(Message(file.status()), HasSubstr(message));
    EXPECT_THAT(Message(file.status()), HasSubstr("m.safetensors"));
  }
  TemporaryFolder folder_;
};

using SafetensorsFileTest = SafetensorsTest;
using SafetensorsWriterTest = SafetensorsTest;

TEST_F(SafetensorsFileTest, Open_ReadsTensorsInFileOrderAndMetadata) {
  const auto file = Open(File(R"({"__metadata__":{"format":"pt"},
      "a":{"dtype":"I32","shape":[2],"data_offsets":[4,12]},
      "b":{"dtype":"BF16","shape":[2,1],"data_offsets":[0,4]},
      "none":{"dtype":"F32","shape":[0,7],"data_offsets":[4,4]}})",
                              std::string("\0\1\2\3\4\0\0\0\5\0\0\0", 12)));
  ASSERT_TRUE(file.ok()) << ToString(file.status());
  ASSERT_EQ(file->tensors().size(), 3u);
  EXPECT_EQ(file->tensors()[0].name, "b");
  EXPECT_EQ(file->tensors()[1].name, "none");
  EXPECT_EQ(file->tensors()[1].numel(), 0);
  EXPECT_EQ(file->metadata().at("format"), "pt");
  const TensorInfo* a = file->Find("a");
  ASSERT_NE(a, nullptr);
  EXPECT_THAT(a->shape, ElementsAre(2));
  int32_t values[2];
  std::memcpy(values, file->data(*a), sizeof values);
  EXPECT_THAT(values, ElementsAre(4, 5));
  EXPECT_EQ(file->Find("c"), nullptr);
}

TEST_F(SafetensorsFileTest, Open_BadHeader_IsRefused) {
  ExpectRefused("", "has 0 bytes");
  ExpectRefused("1234567", "has 7 bytes");
  const uint64_t huge = 100'000'001, beyond = 17;
  ExpectRefused(std::string(reinterpret_cast<const char*>(&huge), 8), "a header of 100000001 bytes",
                absl::StatusCode::kInvalidArgument);
  ExpectRefused(std::string(reinterpret_cast<const char*>(&beyond), 8) + std::string(16, ' '),
                "a header of 17 bytes in a file of 24; it is truncated");
  ExpectRefused(File("{", ""), "not a JSON object");
  ExpectRefused(File("[]", ""), "not a JSON object");
  ExpectRefused(File(std::string(100000, '['), ""), "not a JSON object");
  ExpectRefused(File(R"({"__metadata__":{"a":1}})", ""), "__metadata__: a is not a string");
  ExpectRefused(File(R"({"__metadata__":1})", ""), "__metadata__ is not an object");
}

TEST_F(SafetensorsFileTest, Open_BadTensors_AreRefused) {
  const auto one = [](const std::string& body) { return File("{\"t\":" + body + "}", "12345678"); };
  ExpectRefused(one("1"), "t: expected a JSON object");
  ExpectRefused(one(R"({"shape":[2],"data_offsets":[0,8]})"), "t: dtype: missing");
  ExpectRefused(one(R"({"dtype":"F64","shape":[1],"data_offsets":[0,8]})"),
                "tensor t has the type F64, which is not supported",
                absl::StatusCode::kInvalidArgument);
  ExpectRefused(one(R"({"dtype":"F32","shape":[2],"data_offsets":[0,80]})"),
                "bytes 0 to 80 of the data, but the file has 8; it is truncated");
  ExpectRefused(one(R"({"dtype":"F32","shape":[2],"data_offsets":[8,0]})"), "impossible data_off");
  ExpectRefused(one(R"({"dtype":"F32","shape":[2],"data_offsets":[0,8,9]})"), "impossible data_of");
  ExpectRefused(one(R"({"dtype":"F32","shape":[2],"data_offsets":[-8,0]})"), "impossible data_off");
  ExpectRefused(one(R"({"dtype":"F32","shape":[-2],"data_offsets":[0,8]})"), "impossible shape");
  ExpectRefused(one(R"({"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]})"),
                "impossible shape");
  ExpectRefused(one(R"({"dtype":"F32","shape":[3],"data_offsets":[0,8]})"),
                "shape [3] of F32 needs 12 bytes, data_offsets gives 8");
  ExpectRefused(one(R"({"dtype":"U8","shape":[4],"data_offsets":[4,8]})"),
                "4 bytes before tensor t belong to no tensor");
  ExpectRefused(one(R"({"dtype":"U8","shape":[4],"data_offsets":[0,4]})"),
                "4 bytes at the end belong to no tensor");
}

TEST_F(SafetensorsFileTest, Open_DuplicateOrOverlappingTensors_AreRefused) {
  const std::string t = R"({"dtype":"U8","shape":[4],"data_offsets":[0,4]})";
  const std::string u = R"({"dtype":"U8","shape":[4],"data_offsets":[2,6]})";
  ExpectRefused(File("{\"t\":" + t + ",\"t\":" + t + "}", "1234"), "tensor t occurs twice");
  ExpectRefused(File("{\"t\":" + t + ",\"u\":" + u + "}", "123456"),
                "tensor u overlaps the one before it by 2 bytes");
}

TEST_F(SafetensorsFileTest, Open_TruncatedAtAnyByte_IsRefused) {
  const std::string content =
      File(R"({"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", "12345678");
  ASSERT_TRUE(Open(content).ok());
  for (size_t size = 0; size < content.size(); ++size) {
    EXPECT_FALSE(Open(content.substr(0, size)).ok()) << size;
  }
}

std::vector<uint8_t> Pattern(size_t size) {
  std::vector<uint8_t> bytes(size);
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<uint8_t>(i * 31 + i / 251);
  return bytes;
}

// Sizes around the blocks of direct writing and the writer's buffer.
TEST_F(SafetensorsWriterTest, Finish_FileIsReadBackWhateverTheSize) {
  for (const size_t size :
       {0, 1, 4095, 4096, 4097, (4 << 20) - 4096, (4 << 20) - 4095, 4 << 20, (8 << 20) + 4097}) {
    const std::vector<uint8_t> bytes = Pattern(size);
    const std::string path = folder_.File("w.safetensors");
    auto writer = SafetensorsWriter::Create(path, {{"t", DType::kU8, {static_cast<int64_t>(size)}}},
                                            {{"step", "40"}});
    ASSERT_TRUE(writer.ok()) << ToString(writer.status());
    for (size_t done = 0; done < size;) {  // pieces of odd sizes
      const size_t piece = std::min(size - done, done % 3 == 0 ? size_t{100'003} : size_t{7});
      ASSERT_TRUE((*writer)->Append(bytes.data() + done, piece).ok());
      done += piece;
    }
    const auto result = (*writer)->Finish();
    ASSERT_TRUE(result.ok()) << ToString(result.status());

    const auto file = SafetensorsFile::Open(path);
    ASSERT_TRUE(file.ok()) << ToString(file.status());
    const TensorInfo& tensor = file->tensors().front();
    EXPECT_EQ(tensor.offset % 4096, 0u);
    EXPECT_EQ(tensor.size_bytes, size);
    EXPECT_TRUE(std::equal(bytes.begin(), bytes.end(), file->data(tensor))) << size;
    EXPECT_EQ(file->metadata().at("step"), "40");
    const auto content = ReadFile(path);
    EXPECT_EQ(result->size_bytes, content->size());
    EXPECT_EQ(result->crc32c, Crc32c(content->data(), content->size()));
  }
}

TEST_F(SafetensorsWriterTest, WrongNumberOfBytes_IsAnError) {
  const std::string path = folder_.File("w.safetensors");
  auto writer = SafetensorsWriter::Create(path, {{"t", DType::kF32, {2}}}, {});
  ASSERT_TRUE(writer.ok());
  EXPECT_EQ((*writer)->Append("123456789", 9).code(), absl::StatusCode::kInternal);
  ASSERT_TRUE((*writer)->Append("1234", 4).ok());
  const auto result = (*writer)->Finish();
  EXPECT_EQ(result.status().code(), absl::StatusCode::kInternal);
  EXPECT_THAT(Message(result.status()), HasSubstr("finished with 4100 of 4104 bytes"));
}

TEST_F(SafetensorsWriterTest, Unfinished_LeavesNoFile) {
  const std::string path = folder_.File("w.safetensors");
  {
    auto writer = SafetensorsWriter::Create(path, {{"t", DType::kF32, {2}}}, {});
    ASSERT_TRUE(writer.ok());
    EXPECT_TRUE(FileExists(path));
  }
  EXPECT_FALSE(FileExists(path));
}

TEST_F(SafetensorsWriterTest, BadEntries_AreRefused) {
  const std::string path = folder_.File("w.safetensors");
  EXPECT_FALSE(
      SafetensorsWriter::Create(path, {{"t", DType::kU8, {1}}, {"t", DType::kU8, {1}}}, {}).ok());
  EXPECT_FALSE(SafetensorsWriter::Create(path, {{"t", DType::kU8, {-1}}}, {}).ok());
  EXPECT_FALSE(
      SafetensorsWriter::Create(path, {{"t", DType::kF32, {int64_t{1} << 62, 4}}}, {}).ok());
  EXPECT_FALSE(FileExists(path));
  const auto nowhere =
      SafetensorsWriter::Create(folder_.File("no/w"), {{"t", DType::kU8, {1}}}, {});
  EXPECT_EQ(nowhere.status().code(), absl::StatusCode::kNotFound);
}

// /dev/full refuses every write as a full disk does; the writer opens it through a link, which is
// what it removes.
TEST_F(SafetensorsWriterTest, FullDisk_IsReportedAndLeavesNoFile) {
  const std::string path = folder_.File("w.safetensors");
  std::filesystem::create_symlink("/dev/full", path);
  auto writer = SafetensorsWriter::Create(path, {{"t", DType::kU8, {64 << 20}}}, {});
  ASSERT_TRUE(writer.ok()) << ToString(writer.status());
  const std::vector<uint8_t> bytes(64 << 20);  // more than waits to be written
  const absl::Status status = (*writer)->Append(bytes.data(), bytes.size());
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(Message(status), HasSubstr("cannot write " + path));
  EXPECT_FALSE(std::filesystem::is_symlink(path));
  EXPECT_EQ((*writer)->Append(bytes.data(), 1).code(), absl::StatusCode::kResourceExhausted);
}

TEST_F(SafetensorsWriterTest, MoreThanTheDiskHolds_IsRefusedBeforeAnythingIsWritten) {
  const std::string path = folder_.File("w.safetensors");
  const auto free_bytes = FreeSpaceBytes(folder_.path());
  ASSERT_TRUE(free_bytes.ok());
  const int64_t too_much = static_cast<int64_t>(*free_bytes) + (int64_t{1} << 42);
  const auto writer = SafetensorsWriter::Create(path, {{"t", DType::kU8, {too_much}}}, {});
  ASSERT_FALSE(writer.ok());
  EXPECT_EQ(writer.status().code(), absl::StatusCode::kResourceExhausted)
      << ToString(writer.status());
  EXPECT_FALSE(FileExists(path));
}

TEST_F(SafetensorsWriterTest, TheReferenceImplementation_ReadsAndWritesTheSame) {
  const char* cache = std::getenv("MOE_CACHE_DIR");
  const char* home = std::getenv("HOME");
  const std::string python =
      (cache != nullptr ? std::string(cache) : std::string(home) + "/.cache/moe") +
      "/oracle-venv/bin/python";
  if (!FileExists(python))
    GTEST_SKIP() << "no " << python << "; deploy/install_deps.sh test makes it";
  const std::string ours = folder_.File("ours.safetensors");
  const std::vector<float> values = {0.0f, 1.5f, -2.25f, 1e-30f, 3e38f, 7.0f};
  auto writer = SafetensorsWriter::Create(
      ours, {{"b", DType::kF32, {2, 2}}, {"a", DType::kF32, {2}}}, {{"format", "pt"}});
  ASSERT_TRUE(writer.ok());
  ASSERT_TRUE((*writer)->Append(values.data(), values.size() * sizeof(float)).ok());
  ASSERT_TRUE((*writer)->Finish().ok());

  const std::string theirs = folder_.File("theirs.safetensors");
  const char* source_dir = std::getenv("MOE_SOURCE_DIR");
  const std::string command =
      fmt::format("'{}' '{}/tests/unit/storage/oracle.py' rewrite '{}' '{}'", python,
                  source_dir != nullptr ? source_dir : ".", ours, theirs);
  ASSERT_EQ(std::system(command.c_str()), 0) << command;
  const auto file = SafetensorsFile::Open(theirs);
  ASSERT_TRUE(file.ok()) << ToString(file.status());
  EXPECT_THAT(file->Find("b")->shape, ElementsAre(2, 2));
  EXPECT_EQ(std::memcmp(file->data(*file->Find("b")), values.data(), 16), 0);
  EXPECT_EQ(std::memcmp(file->data(*file->Find("a")), values.data() + 4, 8), 0);
}

}  // namespace
}  // namespace moe::artefacts
