// Pseudo terminals in images: tty-info.img and tty-data.img.
#pragma once

#include "agent/engine/resources/terminal_queues.h"
#include "common/image/image_set.h"

#include <vector>

namespace godwit::engine::resources {

bool is_master(const image::TtyInfoEntry& info);

// Errc::image_corrupt when there is none, or one that no devpts can have.
const image::TtyInfoEntry& info_of(std::uint32_t id, const std::vector<image::TtyInfoEntry>& all);

// What is queued in the terminal that this is the master of. Errc::image_corrupt.
terminal_queues::Queues queues_of(const image::TtyInfoEntry& master, const image::ImageSet& images);

}  // namespace godwit::engine::resources
