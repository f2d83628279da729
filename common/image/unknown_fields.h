// Fields that some other version, or another program, has written and this one has no name for.
#pragma once

#include "common/image/image_set.h"

#include <string>
#include <vector>

#include <google/protobuf/message.h>

namespace godwit::image {

// "TaskCoreEntry 23" for each, once, also of the messages inside.
std::vector<std::string> unknown_fields(const google::protobuf::Message& message);

// The same for all files of a set whose kind is known: "core-12.img: TaskCoreEntry 23".
// Errors: Errc::image_corrupt, as for any reading.
std::vector<std::string> unknown_fields(const ImageSet& set);

}  // namespace godwit::image
