#include "sampler/line_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>
#include <zstd.h>

#include "common/status.h"
#include "tests/unit/common/temporary_folder.h"

namespace moe::sampler {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string Zstd(const std::string& text) {
  std::string packed(ZSTD_compressBound(text.size()), '\0');
  packed.resize(ZSTD_compress(packed.data(), packed.size(), text.data(), text.size(), 3));
  return packed;
}

std::string Gzip(const std::string& text) {
  z_stream stream{};
  EXPECT_EQ(deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
  std::string packed(deflateBound(&stream, text.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  packed.resize(stream.total_out);
  deflateEnd(&stream);
  return packed;
}

// Every line, "<too long>" for one above the limit, and the error, if any, last.
std::vector<std::string> Lines(const std::string& path, size_t max_line_bytes = 1 << 20) {
  auto reader = LineReader::Open(path, max_line_bytes);
  if (!reader.ok()) return {Message(reader.status())};
  std::vector<std::string> lines;
  for (std::string line;;) {
    const auto kind = reader->Next(line);
    if (!kind.ok()) lines.push_back(Message(kind.status()));
    if (!kind.ok() || *kind == LineReader::Line::kEndOfFile) return lines;
    lines.push_back(*kind == LineReader::Line::kTooLong ? "<too long>" : line);
  }
}

TEST(LineReaderTest, Lines_AreTheSamePlainAndCompressedAndInSeveralMembers) {
  TemporaryFolder folder;
  const std::string a = "one\n\ntwo", b = "!\nthree";
  for (const std::string& path :
       {folder.Write("a.jsonl", a + b), folder.Write("a.gz", Gzip(a) + Gzip(b)),
        folder.Write("a.zst", Zstd(a) + Zstd(b))}) {
    EXPECT_THAT(Lines(path), ElementsAre("one", "", "two!", "three")) << path;
  }
  EXPECT_TRUE(Lines(folder.Write("empty.zst", "")).empty());
}

TEST(LineReaderTest, LinesAcrossBuffers_ComeWhole) {
  TemporaryFolder folder;
  std::string text;
  for (int i = 0; i < 5; ++i) text += std::string(100'000 + i, static_cast<char>('a' + i)) + "\n";
  const std::vector<std::string> lines = Lines(folder.Write("a.zst", Zstd(text)));
  ASSERT_EQ(lines.size(), 5u);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(lines[i], std::string(100'000 + i, 'a' + i));
}

TEST(LineReaderTest, LineAboveTheLimit_IsPassedOver) {
  TemporaryFolder folder;
  const std::string path =
      folder.Write("a.txt", "ab\n" + std::string(1'000'000, 'x') + "\nabcd\nabcde");
  EXPECT_THAT(Lines(path, 4), ElementsAre("ab", "<too long>", "abcd", "<too long>"));
}

TEST(LineReaderTest, TruncatedFile_IsDataLossAndNotAnEnd) {
  TemporaryFolder folder;
  std::string text;
  for (int i = 0; i < 1000; ++i) text += std::to_string(i * i) + "\n";
  for (const auto& [name, packed] :
       {std::pair("a.gz", Gzip(text)), std::pair("a.zst", Zstd(text))}) {
    const auto lines = Lines(folder.Write(name, packed.substr(0, packed.size() / 2)));
    EXPECT_THAT(lines.back(), HasSubstr("truncated")) << name;
  }
}

TEST(LineReaderTest, FileThatIsNotWhatItsNameSays_IsNamed) {
  TemporaryFolder folder;
  EXPECT_THAT(Lines(folder.Write("a.gz", "plain text\n")).back(), HasSubstr("a.gz is not a gzip"));
  EXPECT_THAT(Lines(folder.Write("a.zst", "plain text\n")).back(), HasSubstr("a.zst is broken"));
}

}  // namespace
}  // namespace moe::sampler
