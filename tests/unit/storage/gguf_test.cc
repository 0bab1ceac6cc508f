#include "storage/artefacts/gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "common/philox.h"
#include "common/status.h"
#include "tests/unit/common/temporary_folder.h"
#include "tests/unit/storage/gguf_builder.h"

namespace moe::artefacts {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class GgufFileTest : public testing::Test {
 protected:
  absl::StatusOr<GgufFile> Open(const std::string& content) {
    return GgufFile::Open(folder_.Write("model.gguf", content));
  }
  absl::StatusOr<GgufFile> Open(const GgufBuilder& builder) { return Open(builder.Build()); }

  void ExpectRefused(const GgufBuilder& builder, absl::StatusCode code,
                     const std::string& message) {
    ExpectRefused(builder.Build(), code, message);
  }
  void ExpectRefused(const std::string& content, absl::StatusCode code,
                     const std::string& message) {
    const auto file = Open(content);
    EXPECT_EQ(file.status().code(), code) << ToString(file.status());
    EXPECT_THAT(Message(file.status()), HasSubstr(message));
    EXPECT_THAT(Message(file.status()), HasSubstr("model.gguf"));
  }

  TemporaryFolder folder_;
};

constexpr auto kDamaged = absl::StatusCode::kDataLoss;
constexpr auto kUnsupported = absl::StatusCode::kInvalidArgument;

// One of everything.
GgufBuilder Sample() {
  GgufBuilder builder;
  builder.Raw("u8", GgufValueType::kUint8, Bytes<uint8_t>(200))
      .Raw("i8", GgufValueType::kInt8, Bytes<int8_t>(-100))
      .Raw("u16", GgufValueType::kUint16, Bytes<uint16_t>(60000))
      .Raw("i16", GgufValueType::kInt16, Bytes<int16_t>(-30000))
      .Raw("u32", GgufValueType::kUint32, Bytes<uint32_t>(4'000'000'000))
      .Raw("i32", GgufValueType::kInt32, Bytes<int32_t>(-2'000'000'000))
      .Raw("u64", GgufValueType::kUint64, Bytes<uint64_t>(1ull << 62))
      .Raw("i64", GgufValueType::kInt64, Bytes<int64_t>(-(1ll << 62)))
      .Raw("f32", GgufValueType::kFloat32, Bytes(0.5f))
      .Raw("f64", GgufValueType::kFloat64, Bytes(0.1))
      .Raw("bool", GgufValueType::kBool, Bytes<uint8_t>(1))
      .String("string", "caf\xC3\xA9")
      .Strings("strings", {"a", "", "bcd"})
      .Array("ints", GgufValueType::kInt32, 3, Bytes(std::vector<int32_t>{1, -2, 3}))
      .Array("floats", GgufValueType::kFloat32, 2, Bytes(std::vector<float>{1.5f, -2.0f}))
      .Array("nested", GgufValueType::kArray, 1,
             Bytes(GgufValueType::kUint8) + Bytes<uint64_t>(2) + "xy")
      .Floats("first", {2, 3}, {1, 2, 3, 4, 5, 6})
      .Add({"second", {2, 32}, 8, std::string(2 * 34, '\1'), std::nullopt});
  return builder;
}

TEST_F(GgufFileTest, Open_ReadsEveryValueType) {
  for (const uint32_t version : {2, 3}) {
    GgufBuilder builder = Sample();
    builder.version = version;
    const auto file = Open(builder);
    ASSERT_TRUE(file.ok()) << ToString(file.status());
    EXPECT_EQ(file->version(), version);
    EXPECT_EQ(*file->Int("u8"), 200);
    EXPECT_EQ(*file->Int("i8"), -100);
    EXPECT_EQ(*file->Int("u16"), 60000);
    EXPECT_EQ(*file->Int("i16"), -30000);
    EXPECT_EQ(*file->Int("u32"), 4'000'000'000);
    EXPECT_EQ(*file->Int("i32"), -2'000'000'000);
    EXPECT_EQ(*file->Int("u64"), int64_t{1} << 62);
    EXPECT_EQ(*file->Int("i64"), -(int64_t{1} << 62));
    EXPECT_EQ(*file->Double("f32"), 0.5);
    EXPECT_EQ(*file->Double("f64"), 0.1);
    EXPECT_EQ(*file->Bool("bool"), true);
    EXPECT_EQ(*file->String("string"), "caf\xC3\xA9");
    EXPECT_THAT(*file->Strings("strings"), ElementsAre("a", "", "bcd"));
    EXPECT_THAT(*file->Ints("ints"), ElementsAre(1, -2, 3));
    EXPECT_THAT(*file->Doubles("floats"), ElementsAre(1.5, -2.0));
    EXPECT_EQ(*file->ArraySize("strings"), 3);
    EXPECT_EQ(*file->ArraySize("nested"), 1);
  }
}

TEST_F(GgufFileTest, Metadata_OfAnotherType_IsRefusedWithBothTypes) {
  GgufBuilder builder = Sample();
  builder.Raw("big", GgufValueType::kUint64, Bytes(std::numeric_limits<uint64_t>::max()));
  builder.Raw("bad_bool", GgufValueType::kBool, Bytes<uint8_t>(2));
  const auto file = Open(builder);
  ASSERT_TRUE(file.ok()) << ToString(file.status());
  EXPECT_THAT(Message(file->Int("string").status()),
              HasSubstr("string is string, expected an int"));
  EXPECT_THAT(Message(file->Int("ints").status()), HasSubstr("ints is an array of int32"));
  EXPECT_EQ(file->Int("missing").status().code(), absl::StatusCode::kNotFound);
  EXPECT_FALSE(file->Int("big").ok());
  EXPECT_FALSE(file->Double("u32").ok());
  EXPECT_FALSE(file->Bool("bad_bool").ok());
  EXPECT_FALSE(file->String("strings").ok());
  EXPECT_FALSE(file->Strings("ints").ok());
  EXPECT_FALSE(file->Ints("nested").ok());
  EXPECT_FALSE(file->Doubles("ints").ok());
}

TEST_F(GgufFileTest, Dequantise_ReadsTheRowsAskedFor) {
  const auto file = Open(Sample());
  ASSERT_TRUE(file.ok()) << ToString(file.status());
  const GgufTensor* tensor = file->Find("first");
  ASSERT_NE(tensor, nullptr);
  EXPECT_THAT(tensor->shape, ElementsAre(2, 3));
  float row[3];
  file->Dequantise(*tensor, row, 1, 1);
  EXPECT_THAT(row, ElementsAre(4, 5, 6));
  EXPECT_EQ(file->Find("third"), nullptr);
}

TEST_F(GgufFileTest, Open_WrongMagicOrVersion_IsRefused) {
  GgufBuilder builder = Sample();
  builder.magic = "GGML";
  ExpectRefused(builder, kUnsupported, "does not start with 'GGUF'");
  builder = Sample();
  builder.version = 1;
  ExpectRefused(builder, kUnsupported, "GGUF version 1; versions 2 and 3");
  builder.version = 3u << 24;
  ExpectRefused(builder, kUnsupported, "big-endian");
  ExpectRefused(std::string(), kUnsupported, "does not start with 'GGUF'");
  EXPECT_EQ(GgufFile::Open(folder_.File("absent")).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(GgufFileTest, Open_TruncatedAtAnyByte_IsRefused) {
  const GgufBuilder builder = Sample();
  std::string content = builder.Build();
  // The padding after the last tensor may be missing.
  content.resize(content.size() - (96 - 2 * 34));
  ASSERT_TRUE(Open(content).ok());
  for (size_t size = 0; size < content.size(); ++size) {
    const auto file = Open(content.substr(0, size));
    ASSERT_EQ(file.status().code(), size < 4 ? kUnsupported : kDamaged) << size;
  }
}

TEST_F(GgufFileTest, Open_CountsBeyondTheFile_AreRefused) {
  GgufBuilder builder = Sample();
  builder.num_pairs = std::numeric_limits<uint64_t>::max();
  ExpectRefused(builder, kDamaged, "metadata entries, more than fit");
  builder = Sample();
  builder.num_tensors = uint64_t{1} << 60;
  ExpectRefused(builder, kDamaged, "tensors, more than fit");
  builder = Sample();
  builder.Array("huge", GgufValueType::kFloat64, uint64_t{1} << 61, "");
  ExpectRefused(builder, kDamaged, "metadata of huge");
  builder = Sample();
  builder.Raw("long", GgufValueType::kString, Bytes(std::numeric_limits<uint64_t>::max()));
  ExpectRefused(builder, kDamaged, "truncated in the metadata of long");
}

TEST_F(GgufFileTest, Open_BadMetadata_IsRefused) {
  GgufBuilder builder = Sample();
  builder.Uint32("u8", 1);
  ExpectRefused(builder, kDamaged, "the metadata key u8 occurs twice");
  builder = Sample();
  builder.Raw("what", static_cast<GgufValueType>(13), "");
  ExpectRefused(builder, kDamaged, "unknown value type 13");
  builder = Sample();
  std::string deep = Bytes(GgufValueType::kUint8) + Bytes<uint64_t>(0);
  for (int i = 0; i < 5; ++i) deep = Bytes(GgufValueType::kArray) + Bytes<uint64_t>(1) + deep;
  builder.Raw("deep", GgufValueType::kArray, deep);
  ExpectRefused(builder, kDamaged, "nested deeper than 4");
  builder = Sample();
  builder.Uint32("general.alignment", 24);
  ExpectRefused(builder, kDamaged, "general.alignment is 24; it must be a power of two");
}

TEST_F(GgufFileTest, Open_UnsupportedTensorType_NamesTensorTypeAndWhatIsSupported) {
  GgufBuilder builder = Sample();
  builder.Add({"odd", {1, 256}, 10, std::string(84, '\0'), std::nullopt});
  ExpectRefused(builder, kUnsupported,
                "tensor odd has the type Q2_K (10), which is not supported; use a file with F32, "
                "F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q6_K only");
  builder.tensors.back().type = 77;
  ExpectRefused(builder, kUnsupported, "unknown (77)");
}

TEST_F(GgufFileTest, Open_BadTensors_AreRefused) {
  const auto with = [](GgufBuilder::Tensor tensor) { return Sample().Add(std::move(tensor)); };
  const std::string data(128, '\0');
  ExpectRefused(with({"first", {32}, 0, data, std::nullopt}), kDamaged,
                "tensor first occurs twice");
  ExpectRefused(with({"far", {32}, 0, data, 1 << 20}), kDamaged, "tensor far: bytes 1048576");
  ExpectRefused(with({"far", {32}, 0, data, ~uint64_t{31}}), kDamaged, "tensor far: bytes");
  ExpectRefused(with({"crooked", {32}, 0, data, 8}), kDamaged,
                "not a multiple of the alignment 32");
  ExpectRefused(with({"onto", {32}, 0, data, 64}), kDamaged, "overlap at byte");
  ExpectRefused(with({"big", {1 << 20}, 0, data, std::nullopt}), kDamaged, "tensor big: bytes");
  ExpectRefused(with({"vast", {uint64_t{1} << 40, uint64_t{1} << 40}, 0, data, std::nullopt}),
                kDamaged, "tensor vast: dimension 1 has the size");
  ExpectRefused(with({"empty", {0}, 0, data, std::nullopt}), kDamaged,
                "dimension 0 has the size 0");
  ExpectRefused(with({"flat", {}, 0, data, std::nullopt}), kDamaged, "0 dimensions");
  ExpectRefused(with({"deep", {1, 1, 1, 1, 1}, 0, data, std::nullopt}), kDamaged, "5 dimensions");
  ExpectRefused(with({"ragged", {2, 33}, 8, data, std::nullopt}), kDamaged,
                "a row of 33 elements is not a multiple of the 32 of a Q8_0 block");
  ExpectRefused(with({std::string(65, 'x'), {1}, 0, data, std::nullopt}), kDamaged,
                "65 bytes long; the format allows 64");
}

TEST_F(GgufFileTest, Open_HonoursTheAlignmentOfTheFile) {
  GgufBuilder builder = Sample();
  builder.alignment = 256;
  builder.Uint32("general.alignment", 256);
  const auto file = Open(builder);
  ASSERT_TRUE(file.ok()) << ToString(file.status());
  EXPECT_EQ(file->Find("second")->offset % 256, 0u);
  float row[3];
  file->Dequantise(*file->Find("first"), row, 0, 1);
  EXPECT_THAT(row, ElementsAre(1, 2, 3));
}

// Reads all that a file offers.
void UseEverything(const GgufFile& file) {
  for (const char* key : {"u8", "i8", "u16", "i16", "u32", "i32", "u64", "i64", "f32", "f64",
                          "bool", "string", "strings", "ints", "floats", "nested"}) {
    (void)file.Int(key).ok();
    (void)file.Double(key).ok();
    (void)file.Bool(key).ok();
    (void)file.String(key).ok();
    (void)file.Ints(key).ok();
    (void)file.Doubles(key).ok();
    (void)file.Strings(key).ok();
  }
  for (const GgufTensor& tensor : file.tensors()) {
    ASSERT_LE(tensor.offset + tensor.size_bytes, 4096u);
    std::vector<float> values(static_cast<size_t>(tensor.numel()));
    file.Dequantise(tensor, values.data(), 0, tensor.rows());
  }
}

// The file is one whole page, so that a read beyond its end faults.
TEST_F(GgufFileTest, Open_DamagedBytes_NeverReadsOutside) {
  GgufBuilder builder = Sample();
  const size_t filler = 4096 - builder.Build().size();
  builder.tensors.back().data += std::string(filler, '\0');
  const std::string original = builder.Build();
  ASSERT_EQ(original.size(), 4096u);
  const size_t head_size = builder.Head().size();
  int refused = 0, accepted = 0;
  const auto attempt = [&](const std::string& content) {
    const auto file = Open(content);
    if (file.ok()) {
      ++accepted;
      UseEverything(*file);
    } else {
      ++refused;
    }
  };
  // Numbers that overflow, at every place where one may stand.
  for (const uint64_t number :
       {~uint64_t{0}, uint64_t{1} << 63, uint64_t{0xFFFFFFFF}, uint64_t{4097}}) {
    for (size_t position = 4; position + 8 <= head_size; ++position) {
      std::string content = original;
      content.replace(position, 8, Bytes(number));
      attempt(content);
    }
  }
  // Random bytes at random places, sometimes with a cut.
  PhiloxGenerator random(7, RandomStream::kTest, 0);
  for (int i = 0; i < 4000; ++i) {
    std::string content = original;
    for (uint64_t changes = random.Below(4) + 1; changes > 0; --changes) {
      content[random.Below(head_size)] = static_cast<char>(random.Next32());
    }
    if (random.Below(4) == 0) content.resize(random.Below(content.size()));
    attempt(content);
  }
  // Both outcomes occur; else the test would be about nothing.
  EXPECT_GT(refused, 1000);
  EXPECT_GT(accepted, 100);
}

}  // namespace
}  // namespace moe::artefacts
