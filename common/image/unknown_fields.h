// Fields that some other version, or another program, has written and this one has no name for.
//
// To look for them takes milliseconds, most of which the library needs to learn the names of all fields. So
// inventory.img says which ones its writer knew.
#pragma once

#include "common/image/image_set.h"

#include <string>
#include <string_view>
#include <vector>

#include <google/protobuf/message.h>

namespace godwit::image {

// Stands for all fields that this version knows; what has the same in its inventory holds no other.
std::string_view known_fields();

// "TaskCoreEntry 23" for each, once, also of the messages inside.
std::vector<std::string> unknown_fields(const google::protobuf::Message& message);

// The same for all files of a set whose kind is known: "core-12.img: TaskCoreEntry 23".
// Errors: Errc::image_corrupt, as for any reading.
std::vector<std::string> unknown_fields(const ImageSet& set);

}  // namespace godwit::image
