// Pseudo terminals in images: tty-info.img and tty-data.img.
#pragma once

#include "agent/engine/resources/terminal_queues.h"
#include "common/image/image_set.h"

#include <optional>
#include <vector>

namespace godwit::engine::resources {

bool is_master(const image::TtyInfoEntry& info);

// Errc::image_corrupt when there is none, or one that no devpts can have.
const image::TtyInfoEntry& info_of(std::uint32_t id, const std::vector<image::TtyInfoEntry>& all);

// The number of the terminal that controls a session, in CRIU's images, which say it nowhere else.
std::optional<unsigned> terminal_of_session(std::uint32_t sid, const std::vector<image::TtyInfoEntry>& all);

// The number of the terminal that was opened as /dev/tty; in CRIU's images it is that of the same session. Nothing:
// there is none.
std::optional<unsigned> current_index(const image::TtyInfoEntry& current, const std::vector<image::TtyInfoEntry>& all);

// What is queued in the terminal that this is the master of. Errc::image_corrupt.
terminal_queues::Queues queues_of(const image::TtyInfoEntry& master, const image::ImageSet& images);

}  // namespace godwit::engine::resources
