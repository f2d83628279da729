// The directories of a command: images, the dump before, work.
//
// An images directory is complete when it has inventory.img, which is written last and removed first.
#pragma once

#include "agent/engine/commands/options.h"
#include "common/base/fd.h"

#include <string>
#include <vector>

namespace godwit::engine::commands {

struct Places {
  UniqueFd images;
  std::string images_path;  // absolute, for messages and scripts
  UniqueFd work;
  UniqueFd previous;  // empty: none was named
};

// `make`: the images directory is made when it is missing. Errc::not_found names what is not there.
enum class Missing { fails = 1, is_made };
Places open_places(const Options& options, Missing missing);
// With its parents. Images are as secret as the memory of the process: nobody else may look into it.
void make_images_directory(const std::string& path);

// Makes the images directory ready for a new set: what an older one has left goes, inventory.img first, and its pages
// also when the new ones go to a page server: there they would be taken for the new set's. (A server that shares this
// directory makes its files later, when the dump sends it the first page.)
enum class PagesGo { here = 1, to_a_server };
void clear_images(const Places& places, PagesGo to);

// The images directory and its parents, by name.
std::vector<std::string> names_of_chain(const Places& places);

// After a dump that failed: without inventory.img a restore refuses the directory.
void mark_unusable(const Places& places) noexcept;

std::string fresh_generation();

}  // namespace godwit::engine::commands
