#include "agent/engine/commands/image_command.h"

#include "common/base/fd.h"
#include "common/image/any_image.h"
#include "common/image/generation.h"
#include "common/image/image_set.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>

#include <google/protobuf/util/json_util.h>

namespace godwit::engine::commands {
namespace {

std::string to_json(const google::protobuf::Message& message) {
  std::string text;
  google::protobuf::util::JsonPrintOptions print;
  print.preserve_proto_field_names = true;
  if (!google::protobuf::util::MessageToJsonString(message, &text, print).ok())
    fail(Errc::image_corrupt, "a {} that cannot be printed", message.GetTypeName());
  return text;
}

// `separate`: whether another file came before.
void show_file(const std::filesystem::path& path, bool separate) {
  const std::string name = path.filename().string();
  const auto known = image::parse_file_name(name);
  if (!known) fail(Errc::invalid_argument, "{} is no name of an image that Godwit knows", name);
  if (known->kind == image::Kind::pages) fail(Errc::invalid_argument, "{} has pages, and no records", name);
  Doing doing("{}", path.string());
  const std::string bytes = read_file(path.string());
  image::RecordReader reader(known->kind, name, bytes);
  std::printf(R"(%s{"file":"%s","entries":[)", separate ? ",\n" : "", name.c_str());
  bool more = false;
  image::read_any(known->kind, reader, [&](const google::protobuf::Message& record) {
    std::printf("%s\n%s", more ? "," : "", to_json(record).c_str());
    more = true;
  });
  std::printf("]}");
}

}  // namespace

int run_image_show(const Options& o) {
  std::vector<std::filesystem::path> files;
  for (const std::string& name : o.names) {
    if (!std::filesystem::is_directory(name)) {
      files.emplace_back(name);
      continue;
    }
    std::vector<std::filesystem::path> inside;
    for (const auto& entry : std::filesystem::directory_iterator(name)) {
      const auto known = image::parse_file_name(entry.path().filename().string());
      if (known && known->kind != image::Kind::pages) inside.push_back(entry.path());
    }
    std::ranges::sort(inside);
    files.insert(files.end(), inside.begin(), inside.end());
  }
  std::printf("[");
  for (std::size_t i = 0; i < files.size(); i++) show_file(files[i], i > 0);
  std::printf("]\n");
  std::fflush(stdout);
  for (const std::string& name : o.names)
    if (std::filesystem::is_directory(name)) image::refuse_other_pages(open_file(name, O_RDONLY | O_DIRECTORY).get());
  return 0;
}

}  // namespace godwit::engine::commands
