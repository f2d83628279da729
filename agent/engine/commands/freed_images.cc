#include "agent/engine/commands/freed_images.h"

#include "common/base/check.h"
#include "common/base/log.h"

#include <fmt/ranges.h>
#include <sys/mman.h>

namespace godwit::engine::commands {
namespace {

void say_unusable(const std::vector<std::string>& chain, const std::set<std::size_t>& levels) {
  if (levels.empty()) return;
  std::vector<std::string> robbed;
  for (const std::size_t level : levels) robbed.push_back(chain.at(level));
  log::error("restore.images_unusable",
             {{"directories", fmt::format("{}", fmt::join(robbed, ", "))},
              {"reason", "the restore did not finish, and --auto-dedup had begun to free there what was read"},
              {"consequence", "nothing can be restored from them"}});
}

std::set<std::size_t> levels_in(int notes) {
  std::set<std::size_t> levels;
  std::size_t level = 0;
  for (off_t at = 0; ::pread(notes, &level, sizeof level, at) == sizeof level; at += sizeof level) levels.insert(level);
  return levels;
}

}  // namespace

FreedImages::FreedImages(std::vector<std::string> chain, const std::vector<pid_t>& avoid)
    : chain_(std::move(chain)),
      notes_(check(::memfd_create("godwit-freed", MFD_CLOEXEC), "create a note of what is freed")),
      heir_(notes_.get(), [this](UniqueFd notes) { say_unusable(chain_, levels_in(notes.get())); }, avoid) {}

void FreedImages::add(std::size_t level) {
  if (levels_.insert(level).second) write_all(notes_.get(), std::as_bytes(std::span(&level, 1)));
}

void FreedImages::say() const { say_unusable(chain_, levels_); }

}  // namespace godwit::engine::commands
