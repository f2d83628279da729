#include "coordinator/json_file.h"

#include "common/base/error.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace godwit::coordinator {
namespace {

using testing::HasSubstr;

std::string refusal(const std::string& text) {
  try {
    parse_json(text, "f.json");
  } catch (const Error& e) {
    EXPECT_EQ(e.errc(), Errc::invalid_argument);
    return e.message();
  }
  return "accepted";
}

TEST(JsonFile, names_the_line_of_a_syntax_error) {
  EXPECT_THAT(refusal("{\n \"a\": 1,\n \"b\" 2}"), HasSubstr("f.json, line 3"));
  EXPECT_THAT(refusal(""), HasSubstr("f.json, line 1"));
  EXPECT_THAT(refusal("{\"a\": \"\xff\"}"), HasSubstr("no JSON"));
}

TEST(JsonFile, refuses_a_number_that_is_none_of_the_machines) {
  EXPECT_THAT(refusal("{\"a\": 1e999}"), HasSubstr("f.json: "));
}

TEST(JsonFile, refuses_a_name_that_stands_twice_in_one_object) {
  EXPECT_THAT(refusal(R"({"a": {"b": 1, "b": 2}})"), HasSubstr("'b' stands twice"));
  EXPECT_EQ(refusal(R"({"a": {"b": 1}, "c": [{"b": 1}, {"b": 2}]})"), "accepted");
}

TEST(JsonFile, says_when_there_is_no_file) {
  try {
    read_json_file("/nonexistent/file.json");
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.errc(), Errc::not_found);
  }
}

}  // namespace
}  // namespace godwit::coordinator
