// An image of any kind, read as `godwit image show` and a restore do. The first byte picks the kind.
#include "common/image/any_image.h"

#include "tests/fuzz/fuzz.h"

namespace godwit {

void fuzz(std::string_view input) {
  if (input.empty()) return;
  const auto kind = static_cast<image::Kind>(input[0]);
  if (kind < image::Kind::inventory || kind > image::last_kind || kind == image::Kind::pages) return;
  const std::string bytes = image::header(kind).append(input.substr(1));
  image::RecordReader reader(kind, image::file_name(kind, 1), bytes);
  image::read_any(kind, reader, [](const google::protobuf::Message& record) { require(record.IsInitialized()); });
  require(reader.offset() == bytes.size() || kind == image::Kind::ghost_file);
}

}  // namespace godwit
