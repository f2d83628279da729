#include "common/image/unknown_fields.h"

#include "common/image/any_image.h"
#include "common/image/inventory.pb.h"

#include <set>

#include <fmt/format.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/unknown_field_set.h>

namespace godwit::image {
namespace {

using google::protobuf::FieldDescriptor;

void collect(const google::protobuf::Message& message, std::set<std::string>& found) {
  const google::protobuf::Reflection& reflection = *message.GetReflection();
  const google::protobuf::UnknownFieldSet& unknown = reflection.GetUnknownFields(message);
  for (int i = 0; i < unknown.field_count(); ++i)
    found.insert(fmt::format("{} {}", message.GetDescriptor()->name(), unknown.field(i).number()));
  std::vector<const FieldDescriptor*> fields;
  reflection.ListFields(message, &fields);
  for (const FieldDescriptor* field : fields) {
    if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) continue;
    if (!field->is_repeated()) {
      collect(reflection.GetMessage(message, field), found);
      continue;
    }
    for (int i = 0; i < reflection.FieldSize(message, field); ++i)
      collect(reflection.GetRepeatedMessage(message, field, i), found);
  }
}

}  // namespace

std::string_view known_fields() { return GODWIT_IMAGE_FIELDS; }

std::vector<std::string> unknown_fields(const google::protobuf::Message& message) {
  std::set<std::string> found;
  collect(message, found);
  return {found.begin(), found.end()};
}

std::vector<std::string> unknown_fields(const ImageSet& set) {
  if (set.has(Kind::inventory) && set.get<InventoryEntry>(Kind::inventory).known_fields() == known_fields()) return {};
  std::vector<std::string> all;
  for (const auto& [name, bytes] : set.files()) {
    const std::optional<NamedImage> image = parse_file_name(name);
    if (!image || image->kind == Kind::pages) continue;
    std::set<std::string> found;
    RecordReader reader(image->kind, name, bytes);
    read_any(image->kind, reader, [&](const google::protobuf::Message& record) { collect(record, found); });
    for (const std::string& field : found) all.push_back(fmt::format("{}: {}", name, field));
  }
  return all;
}

}  // namespace godwit::image
