#include "common/image/record.h"

#include "common/base/error.h"

#include <bit>
#include <cstring>

namespace godwit::image {
namespace {

static_assert(std::endian::native == std::endian::little);

void append_word(std::string& bytes, std::uint32_t word) {
  bytes.append(reinterpret_cast<const char*>(&word), sizeof word);
}

}  // namespace

std::string header(Kind kind) {
  const KindInfo& k = info(kind);
  std::string bytes;
  switch (k.framing) {
    case Framing::inventory: break;
    case Framing::normal: append_word(bytes, common_magic); break;
    case Framing::service: append_word(bytes, service_magic); break;
    case Framing::raw: return bytes;
  }
  append_word(bytes, k.magic);
  return bytes;
}

void append_record(std::string& bytes, const google::protobuf::MessageLite& message) {
  if (!message.IsInitialized())
    fail(Errc::internal, "{} lacks {}", message.GetTypeName(), message.InitializationErrorString());
  const std::size_t size = message.ByteSizeLong();
  if (size > max_record) fail(Errc::internal, "{} of {} bytes does not fit a record", message.GetTypeName(), size);
  const auto word = static_cast<std::uint32_t>(size);
  const std::size_t begin = bytes.size(), end = begin + sizeof word + size;
  bytes.resize_and_overwrite(end, [&](char* content, std::size_t) {
    std::memcpy(content + begin, &word, sizeof word);
    message.SerializeWithCachedSizesToArray(reinterpret_cast<std::uint8_t*>(content + begin + sizeof word));
    return end;
  });
}

RecordReader::RecordReader(Kind kind, std::string name, std::string_view bytes)
    : name_(std::move(name)), bytes_(bytes) {
  const std::string expected = header(kind);
  if (expected.empty()) fail(Errc::internal, "{} has no records", name_);
  if (bytes_.size() < expected.size()) corrupt_at(0, "the file ends inside the header");
  if (!bytes_.starts_with(expected)) corrupt_at(0, "wrong magic: no such image, or of another version");
  offset_ = record_ = expected.size();
}

void RecordReader::corrupt(std::string_view what) const { corrupt_at(record_, what); }

void RecordReader::corrupt_at(std::size_t offset, std::string_view what) const {
  fail(Errc::image_corrupt, "{} at offset {}: {}", name_, offset, what);
}

std::uint32_t RecordReader::word(std::string_view what) {
  std::uint32_t value = 0;
  if (bytes_.size() - offset_ < sizeof value) corrupt_at(offset_, what);
  std::memcpy(&value, bytes_.data() + offset_, sizeof value);
  return value;
}

bool RecordReader::next(google::protobuf::MessageLite& into) {
  if (offset_ == bytes_.size()) return false;
  const std::uint32_t size = word("the file ends inside the length of a record");
  if (size > max_record)
    corrupt_at(offset_, fmt::format("a record of {} bytes, more than {} are never written", size, max_record));
  if (bytes_.size() - offset_ - sizeof size < size)
    corrupt_at(offset_, fmt::format("the file ends inside a record of {} bytes", size));
  // Partial: the library's own complaints would go to standard error.
  if (!into.ParsePartialFromArray(bytes_.data() + offset_ + sizeof size, static_cast<int>(size)))
    corrupt_at(offset_, fmt::format("the record is no {}", into.GetTypeName()));
  if (!into.IsInitialized())
    corrupt_at(offset_, fmt::format("the {} lacks {}", into.GetTypeName(), into.InitializationErrorString()));
  record_ = offset_;
  offset_ += sizeof size + size;
  return true;
}

std::string_view RecordReader::payload(std::uint64_t size) {
  if (size > bytes_.size() - offset_)
    corrupt_at(offset_, fmt::format("the file ends inside {} bytes of content", size));
  const std::string_view found = bytes_.substr(offset_, size);
  offset_ += size;
  return found;
}

std::string_view RecordReader::rest() { return payload(bytes_.size() - offset_); }

}  // namespace godwit::image
