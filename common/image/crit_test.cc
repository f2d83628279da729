// Whether `crit`, CRIU's own tool, understands what is written here. Skipped where it is not installed.
#include "common/image/pipe.pb.h"
#include "common/image/sample_set.h"
#include "common/image/test_dir.h"

#include <cstdlib>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace godwit::image {
namespace {

bool run(const std::string& command) { return std::system((command + " >/dev/null 2>&1").c_str()) == 0; }

class Crit : public testing::Test {
 protected:
  void SetUp() override {
    if (!run("command -v crit")) GTEST_SKIP() << "crit (package criu) is not installed";
  }
};

TEST_F(Crit, decodes_every_kind_of_image) {
  TestDir dir;
  const ImageSet set = sample_set();
  set.save(dir.fd());
  for (const auto& [name, bytes] : set.files())
    EXPECT_TRUE(run("crit decode -i " + dir.path() + "/" + name + " -o " + dir.path() + "/json")) << name;
}

TEST_F(Crit, sees_the_same_values) {
  TestDir dir;
  sample_set().save(dir.fd());
  ASSERT_TRUE(run("crit decode -i " + dir.path() + "/pagemap-12.img -o " + dir.path() + "/json"));
  EXPECT_THAT(read_file(dir.path() + "/json"), testing::HasSubstr(R"({"vaddr": 4096, "nr_pages": 2, "flags": 4})"));
  ASSERT_TRUE(run("crit decode -i " + dir.path() + "/fs-12.img -o " + dir.path() + "/json"));
  EXPECT_THAT(read_file(dir.path() + "/json"), testing::HasSubstr(R"("cwd_id": 3, "root_id": 6)"));
}

TEST_F(Crit, encodes_what_we_read) {
  TestDir dir;
  ImageSet set;
  PipeDataEntry data;
  data.set_pipe_id(7);
  data.set_bytes(5);
  set.append(Kind::pipes_data, 0, data, "hello");
  set.save(dir.fd());
  const std::string in = dir.path() + "/pipes-data.img", json = dir.path() + "/json", out = dir.path() + "/out";
  ASSERT_TRUE(run("crit decode -i " + in + " -o " + json) && run("crit encode -i " + json + " -o " + out));
  EXPECT_EQ(read_file(out), set.files().at("pipes-data.img"));
}

}  // namespace
}  // namespace godwit::image
