// The records of an image file: a header, then again and again a length (32 bits, little endian) and one
// message of that length; some kinds put raw bytes behind a record.
//
// Errors: Errc::image_corrupt, with the file and the offset: "core-12.img at offset 40: ...". Lengths are
// hostile: none above max_record is believed. A RecordReader borrows the bytes.
#pragma once

#include "common/image/magic.h"

#include <cstddef>
#include <string>
#include <string_view>

#include <google/protobuf/message_lite.h>

namespace godwit::image {

inline constexpr std::size_t max_record = 64u << 20;

std::string header(Kind kind);
void append_record(std::string& bytes, const google::protobuf::MessageLite& message);

class RecordReader {
 public:
  // `name` is for messages. Checks the header.
  RecordReader(Kind kind, std::string name, std::string_view bytes);

  // The next record, or false at the end of the file.
  bool next(google::protobuf::MessageLite& into);
  // Raw bytes behind the record that was read last.
  std::string_view payload(std::uint64_t size);
  std::string_view rest();  // all that is left

  std::size_t offset() const { return offset_; }
  [[noreturn]] void corrupt(std::string_view what) const;  // for what the caller finds wrong in the last record

 private:
  [[noreturn]] void corrupt_at(std::size_t offset, std::string_view what) const;
  std::uint32_t word(std::string_view what);

  std::string name_;
  std::string_view bytes_;
  std::size_t offset_ = 0;  // of what comes next
  std::size_t record_ = 0;  // of the last record
};

}  // namespace godwit::image
