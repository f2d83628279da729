// What another program's images (CRIU's) may hold that a restore here cannot give back.
//
// Looked for before anything is made: an image set is restored whole or not at all. Our own dumps refuse such state at
// the source already.
#pragma once

#include "common/image/image_set.h"

#include <string>
#include <vector>

namespace godwit::engine {

// What becomes of TCP connections, which CRIU dumps with --tcp-established. Its --tcp-close asks for them closed.
enum class Connections { refused, closed };

// Throws Errc::refused with every reason at once. Returns notices: what is left out and does no harm.
// `replaced`: number of the terminal that is exchanged for another one, -1: none.
std::vector<std::string> refuse_foreign_state(const image::ImageSet& images,
                                              Connections connections = Connections::refused, int replaced = -1);

}  // namespace godwit::engine
