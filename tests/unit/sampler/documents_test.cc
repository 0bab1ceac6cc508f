#include "sampler/documents.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "common/status.h"
#include "sampler/heldout.h"
#include "sampler/utf8.h"
#include "tests/unit/common/temporary_folder.h"

namespace moe::sampler {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<std::string> ReadAll(DocumentReader& reader) {
  std::vector<std::string> documents;
  for (;;) {
    auto next = reader.Next();
    EXPECT_TRUE(next.ok()) << ToString(next.status());
    if (!next.ok() || !next->has_value()) return documents;
    documents.push_back(**next);
  }
}

TEST(DocumentReaderTest, Folder_IsReadRecursivelyInSortedOrder) {
  TemporaryFolder folder;
  folder.Write("d/b.txt", "second\n");
  folder.Write("d/a/z.jsonl", "{\"text\": \"first\"}\n{\"content\": \"next\"}");
  folder.Write("d/.hidden", "not this");
  folder.Write("alone.py", "third");
  auto reader = DocumentReader::Open({folder.File("d"), folder.File("alone.py")}, {});
  ASSERT_TRUE(reader.ok());
  EXPECT_THAT(ReadAll(*reader), ElementsAre("first", "next", "second\n", "third"));
  EXPECT_EQ(reader->counts().files, 3);
  EXPECT_EQ(reader->counts().documents, 4);
  EXPECT_EQ(reader->counts().bytes, reader->total_bytes());
}

TEST(DocumentReaderTest, Parquet_IsRefusedWithTheWayToJsonLines) {
  TemporaryFolder folder;
  folder.Write("d/a.jsonl", "{\"text\": \"good\"}\n");
  folder.Write("d/part/b.parquet", "PAR1");
  const std::string problem = ToString(DocumentReader::Open({folder.File("d")}, {}).status());
  EXPECT_THAT(problem, HasSubstr(folder.File("d/part/b.parquet") + " is a Parquet file"));
  EXPECT_THAT(problem, HasSubstr("to_json('" + folder.File("d/part/b.jsonl") + "'"));
}

TEST(DocumentReaderTest, WhatIsNoDocument_IsCountedAndListed) {
  TemporaryFolder folder;
  folder.Write("a.jsonl",
               "{\"text\": \"good\"}\n{\"text\": broken\n\n[1]\n{\"title\": \"x\"}\n"
               "{\"text\": \" \\n\"}\r\n{\"text\": \"last\"}");
  folder.Write("b.bin", std::string("ab\0c", 4));
  folder.Write("c.txt", "");
  auto reader = DocumentReader::Open({folder.path()}, {});
  ASSERT_TRUE(reader.ok());
  EXPECT_THAT(ReadAll(*reader), ElementsAre("good", "last"));
  EXPECT_THAT(reader->counts().skipped, ElementsAre(2, 1, 3, 0));
  EXPECT_THAT(reader->counts().skipped_examples[0], HasSubstr("a.jsonl:2: not a JSON object"));
  EXPECT_THAT(reader->counts().skipped_examples[3], HasSubstr("a.jsonl:6: white space only"));
}

TEST(DocumentReaderTest, WhatIsNoDocument_FailsWithItsPlaceWhereThePolicySaysSo) {
  TemporaryFolder folder;
  const std::string path = folder.Write("a.jsonl", "{\"text\": \"good\"}\n{\"text\": broken\n");
  auto reader = DocumentReader::Open({path}, {.set = "", .on_bad_document = OnBadDocument::kFail});
  ASSERT_TRUE(reader.ok());
  EXPECT_EQ((*reader->Next()).value(), "good");
  const auto next = reader->Next();
  EXPECT_TRUE(absl::IsInvalidArgument(next.status()));
  EXPECT_THAT(Message(next.status()), HasSubstr("a.jsonl:2: not a JSON object"));
  EXPECT_THAT(Message(next.status()), HasSubstr("set on_bad_document to skip"));
}

TEST(DocumentReaderTest, Set_TakesTheLinesOfThatSetInEitherLayout) {
  TemporaryFolder folder;
  folder.Write("a.jsonl", R"({"text": "one", "meta": {"redpajama_set_name": "RedPajamaC4"}})"
                          "\n"
                          R"({"text": "two", "meta": {"redpajama_set_name": "RedPajamaBook"}})"
                          "\n"
                          R"({"text": "three", "red_pajama_subset": "c4"})"
                          "\n"
                          R"({"text": "four"})");
  auto slim = DocumentReader::Open({folder.path()}, {.set = "RedPajamaC4"});
  auto red = DocumentReader::Open({folder.path()}, {.set = "c4"});
  ASSERT_TRUE(slim.ok() && red.ok());
  EXPECT_THAT(ReadAll(*slim), ElementsAre("one"));
  EXPECT_THAT(ReadAll(*red), ElementsAre("three"));
  EXPECT_EQ(red->counts().other_sets, 3);
  EXPECT_THAT(red->counts().other_set_names, ElementsAre("", "RedPajamaBook", "RedPajamaC4"));
}

TEST(DocumentReaderTest, StopRequest_IsSeenWhileEveryLineIsPassedOver) {
  TemporaryFolder folder;
  std::string lines;
  for (int i = 0; i < 5000; ++i) lines += "{\"text\": \"x\"}\n";
  int questions = 0;
  auto reader = DocumentReader::Open({folder.Write("a.jsonl", lines)},
                                     {.set = "other",
                                      .on_bad_document = OnBadDocument::kSkip,
                                      .stop_requested = [&] { return ++questions == 2; }});
  ASSERT_TRUE(reader.ok());
  EXPECT_TRUE(absl::IsCancelled(reader->Next().status()));
  EXPECT_LT(reader->counts().other_sets, 5000);
}

// After every document: a reader that goes on from there reads the rest and counts the same.
TEST(DocumentReaderTest, Seek_GoesOnBehindAnyDocument) {
  TemporaryFolder folder;
  folder.Write("a.jsonl", "{\"text\": \"one\"}\nbroken\n{\"text\": \"two\"}\n");
  folder.Write("b.txt", "three");
  folder.Write("c.jsonl", "{\"text\": \"four\"}\n\n{\"text\": \"five\"}");
  auto undisturbed = DocumentReader::Open({folder.path()}, {});
  ASSERT_TRUE(undisturbed.ok());
  std::vector<DocumentReader::Cursor> cursors = {undisturbed->cursor()};
  std::vector<std::string> texts;
  for (;;) {
    const auto text = undisturbed->Next();
    ASSERT_TRUE(text.ok());
    if (!text->has_value()) break;
    texts.push_back(**text);
    cursors.push_back(undisturbed->cursor());
  }
  ASSERT_EQ(texts.size(), 5u);
  for (size_t i = 0; i < cursors.size(); ++i) {
    auto reader = DocumentReader::Open({folder.path()}, {});
    ASSERT_TRUE(reader->Seek(cursors[i]).ok());
    EXPECT_EQ(ReadAll(*reader), std::vector<std::string>(
                                    texts.begin() + static_cast<std::ptrdiff_t>(i), texts.end()));
    EXPECT_EQ(reader->counts().documents, 5);
    EXPECT_EQ(reader->counts().skipped, undisturbed->counts().skipped);
    EXPECT_EQ(reader->cursor().bytes, reader->total_bytes());
  }
}

TEST(DocumentReaderTest, Seek_IntoAFileThatBecameShorter_IsRefused) {
  TemporaryFolder folder;
  const std::string path = folder.Write("a.jsonl", "{\"text\": \"one\"}\n{\"text\": \"two\"}\n\n");
  auto reader = DocumentReader::Open({path}, {});
  ASSERT_TRUE(reader->Next().ok() && reader->Next().ok());
  folder.Write("a.jsonl", "{\"text\": \"one\"}\n");
  auto other = DocumentReader::Open({path}, {});
  EXPECT_TRUE(absl::IsDataLoss(other->Seek(reader->cursor())));
}

TEST(DocumentReaderTest, ExamplesOfSkips_AreLimitedAndTheCountIsNot) {
  TemporaryFolder folder;
  std::string lines;
  for (int i = 0; i < 50; ++i) lines += "no json\n";
  auto reader = DocumentReader::Open({folder.Write("a.jsonl", lines)}, {});
  ASSERT_TRUE(reader.ok());
  EXPECT_TRUE(ReadAll(*reader).empty());
  EXPECT_EQ(reader->counts().skipped[static_cast<size_t>(Skip::kBadJson)], 50);
  EXPECT_EQ(reader->counts().skipped_examples.size(), kMaxSkippedExamples);
}

TEST(DocumentReaderTest, InvalidUtf8_IsRepairedAndCounted) {
  TemporaryFolder folder;
  folder.Write("a.jsonl", "{\"text\": \"caf\xE9\"}\n");
  folder.Write("b.txt", "x\xFFy\xC3");
  auto reader = DocumentReader::Open({folder.path()}, {});
  ASSERT_TRUE(reader.ok());
  EXPECT_THAT(ReadAll(*reader), ElementsAre("caf\xEF\xBF\xBD", "x\xEF\xBF\xBDy\xEF\xBF\xBD"));
  EXPECT_EQ(reader->counts().characters_repaired, 3);
}

TEST(DocumentReaderTest, MissingPath_IsNamed) {
  const auto reader = DocumentReader::Open({"/nowhere/at/all"}, {});
  EXPECT_TRUE(absl::IsNotFound(reader.status()));
  EXPECT_THAT(Message(reader.status()), HasSubstr("/nowhere/at/all"));
}

// Expected: Python's bytes.decode("utf-8", "replace").
TEST(RepairUtf8Test, IllFormedParts_BecomeOneReplacementEach) {
  const std::string r = "\xEF\xBF\xBD";
  const std::pair<std::string, std::string> cases[] = {
      {"plain and long enough for words", "plain and long enough for words"},
      {"\xF0\x9F\x98\x80", "\xF0\x9F\x98\x80"},
      {"\xC0\x80", r + r},                  // overlong
      {"\xE0\x80\x80", r + r + r},          // overlong
      {"\xED\xA0\x80", r + r + r},          // surrogate
      {"\xF4\x90\x80\x80", r + r + r + r},  // beyond U+10FFFF
      {"\xF0\x9F\x98", r},                  // truncated: one maximal part
      {"\xE4\xB8z", r + "z"},
      {"\x80\xBF", r + r},
      {"\xF1\x80\x80\x41\xF1\x80\x41", r + "A" + r + "A"},
  };
  for (const auto& [text, expected] : cases) {
    std::string repaired = text;
    RepairUtf8(repaired);
    EXPECT_EQ(repaired, expected);
  }
}

TEST(HeldoutTest, Share_IsTheFractionAndDependsOnTheTextAlone) {
  int heldout = 0;
  for (int i = 0; i < 20000; ++i) {
    const std::string text = "document " + std::to_string(i);
    const bool is_heldout = IsHeldout(text, 0.05);
    EXPECT_EQ(is_heldout, IsHeldout(text, 0.05));
    EXPECT_TRUE(!is_heldout || IsHeldout(text, 0.2)) << "a larger fraction only adds text";
    heldout += is_heldout ? 1 : 0;
  }
  EXPECT_NEAR(heldout, 1000, 110);  // 3.5 standard deviations
  EXPECT_FALSE(IsHeldout("x", 0));
}

TEST(HeldoutTest, OnlyDocument_IsCutAtTheParagraphNearestToTheFraction) {
  const std::string text = std::string(50, 'a') + "\n\n" + std::string(40, 'b') + "\n\n" +
                           std::string(10, 'c') + " " + std::string(10, 'd');
  const auto cut = CutDocument(text, 0.1);
  ASSERT_TRUE(cut.has_value());
  EXPECT_EQ(cut->second, std::string(10, 'c') + " " + std::string(10, 'd'));
  EXPECT_EQ(cut->first + cut->second, text);
  EXPECT_EQ(CutDocument("one two", 0.1)->second, "two");
  EXPECT_EQ(CutDocument("a\nb c\n\n\n", 0.0)->second, "b c\n\n\n");
  EXPECT_FALSE(CutDocument("word", 0.1).has_value());
  EXPECT_FALSE(CutDocument("\n\nword \n\n", 0.1).has_value());
}

}  // namespace
}  // namespace moe::sampler
