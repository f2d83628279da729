// Reads an image from its first record to its last, whatever kind it is of.
//
// Errors: Errc::image_corrupt with file and offset; Errc::invalid_argument for pages, which have no records.
#pragma once

#include "common/image/record.h"

#include <functional>

#include <google/protobuf/message.h>

namespace godwit::image {

using EachRecord = std::function<void(const google::protobuf::Message& record)>;

void read_any(Kind kind, RecordReader& reader, const EachRecord& each);

}  // namespace godwit::image
