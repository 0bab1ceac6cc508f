#include "coordinator/path_roots.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "common/file.h"
#include "common/status.h"
#include "tests/unit/common/temporary_folder.h"

namespace moe::coordinator {
namespace {

using ::testing::HasSubstr;

class PathRootsTest : public ::testing::Test {
 protected:
  PathRootsTest() {
    for (const char* folder : {"data/texts", "data-of-others", "secret"}) {
      EXPECT_TRUE(MakeDirectories(folder_.File(folder)).ok());
    }
    folder_.Write("secret/key", "key");
    folder_.Write("data/texts/a.txt", "text");
    roots_ = *PathRoots::Of({folder_.File("data")});
  }
  bool Allows(const std::string& name) const { return roots_.Check(folder_.File(name)).ok(); }
  void Link(const std::string& to, const std::string& at) {
    std::filesystem::create_symlink(to, folder_.File(at));
  }

  TemporaryFolder folder_;
  PathRoots roots_;
};

TEST_F(PathRootsTest, WhatIsBelowARoot_IsAllowed) {
  EXPECT_TRUE(Allows("data"));
  EXPECT_TRUE(Allows("data/texts/a.txt"));
  EXPECT_TRUE(Allows("data/./texts/../texts"));
  EXPECT_TRUE(Allows("data/not-there")) << "that it is missing is for others to say";
}

TEST_F(PathRootsTest, WaysOut_AreRefused) {
  EXPECT_FALSE(Allows("secret/key"));
  EXPECT_FALSE(Allows("data/../secret/key"));
  EXPECT_FALSE(Allows("data-of-others")) << "the name of a root is no root";
  EXPECT_FALSE(Allows("data/not-there/../../secret/key"));
  EXPECT_FALSE(roots_.Check("/").ok());
  const absl::Status refused = roots_.Check(folder_.File("data/../secret/key"));
  EXPECT_TRUE(absl::IsPermissionDenied(refused));
  EXPECT_THAT(Message(refused), HasSubstr("outside the folders that jobs may read"));
}

TEST_F(PathRootsTest, LinksThatLeadOut_AreRefused_AlsoInsideAFolder) {
  Link(folder_.File("secret"), "data/link");
  EXPECT_FALSE(Allows("data/link/key"));
  EXPECT_FALSE(Allows("data/link"));
  EXPECT_FALSE(Allows("data"));
  EXPECT_TRUE(Allows("data/texts"));
  Link("../../secret/key", "data/texts/b.txt");
  EXPECT_FALSE(Allows("data/texts"));
}

TEST_F(PathRootsTest, LinksThatStayInside_AreAllowed) {
  Link(folder_.File("data/texts"), "data/link");
  EXPECT_TRUE(Allows("data/link/a.txt"));
  EXPECT_TRUE(Allows("data"));
}

TEST_F(PathRootsTest, WithoutRoots_EverythingIsAllowed) {
  EXPECT_TRUE(PathRoots().Check(folder_.File("secret/key")).ok());
}

TEST_F(PathRootsTest, RootThatIsNoFolder_IsRefused) {
  EXPECT_TRUE(absl::IsInvalidArgument(PathRoots::Of({folder_.File("nowhere")}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(PathRoots::Of({folder_.File("secret/key")}).status()));
}

}  // namespace
}  // namespace moe::coordinator
