// What is in a pipe or fifo: copied without taking it out (tee), and put into a new one.
#pragma once

#include "common/image/image_set.h"
#include "common/image/pipe.pb.h"

#include <optional>
#include <string>

namespace godwit::engine::resources {

struct PipeContent {
  image::PipeDataEntry entry;  // size of the pipe, length of the content, packets
  std::string bytes;
};

// `fd` is any end of the pipe; O_NONBLOCK or not, nothing waits and nothing is consumed.
PipeContent read_pipe_content(int fd, std::uint32_t pipe_id);

// `kind` is pipes_data or fifo_data.
std::optional<PipeContent> find_pipe_content(const image::ImageSet& images, image::Kind kind, std::uint32_t pipe_id);

// Into an empty pipe, through its non-blocking write end. Errc::image_corrupt when it does not fit.
void write_pipe_content(int write_end, const PipeContent& content);

}  // namespace godwit::engine::resources
