#include "agent/engine/memory/mapping_policies.h"

#include "agent/engine/memory/vma_image.h"
#include "common/base/check.h"

#include <algorithm>

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/vfs.h>

namespace godwit::engine {

bool policy_of_file(pid_t pid, const proc::Vma& vma) {
  if (is_memfd(vma) || is_shared_anonymous(vma)) return true;
  if (vma.kind != proc::VmaName::path) return false;
  try {
    struct statfs st{};
    check(::fstatfs(open_mapped(pid, vma, O_PATH).get(), &st), "look at the file system of {}", vma.name);
    return st.f_type == TMPFS_MAGIC;
  } catch (const Error& e) {
    if (e.errc() != Errc::not_found) throw;  // a running process has unmapped it meanwhile
    return false;
  }
}

void MappingPolicies::know_without(const std::vector<proc::VmaUsage>& usage, const std::set<std::uint64_t>& placed) {
  known_.clear();
  for (const proc::VmaUsage& u : usage)
    if (!placed.contains(u.vma.start)) known_.emplace(u.vma.start, std::pair(u.vma, std::nullopt));
}

bool MappingPolicies::known_without(const proc::Vma& vma) const {
  const auto it = known_.find(vma.start);
  return it != known_.end() && it->second.first == vma && !it->second.second;
}

bool MappingPolicies::has_to_ask(const std::vector<proc::Vma>& maps) const {
  return !std::ranges::all_of(maps, [this](const proc::Vma& vma) { return kernel_vma(vma) || known_without(vma); });
}

const numa::Policy* MappingPolicies::find(const proc::Vma& vma) const {
  const auto it = known_.find(vma.start);
  return it != known_.end() && it->second.first == vma && it->second.second ? &*it->second.second : nullptr;
}

void MappingPolicies::ask(RemoteSyscalls& remote, RemoteAddr scratch, const std::vector<proc::Vma>& maps) {
  Known now;
  std::vector<std::pair<const proc::Vma*, numa::Question>> asked;
  Batch batch(scratch);
  const auto run = [&] {
    remote.run(batch);
    for (const auto& [vma, question] : asked) {
      Doing doing("memory at {:#x}{}{}", vma->start, vma->name.empty() ? "" : " ", vma->name);
      auto policy = numa::answer(batch, question);
      if (policy && policy_of_file(remote.pid(), *vma))
        throw Error(Errc::refused, fmt::format(fmt::runtime(no_shared_policies), numa::to_text(*policy)),
                    std::string(no_policies_hint));
      now.emplace(vma->start, std::pair(*vma, std::move(policy)));
    }
    asked.clear();
    batch.clear();
  };
  for (const proc::Vma& vma : maps) {
    if (kernel_vma(vma)) continue;  // nothing of them is ever placed
    if (known_without(vma)) {
      now.emplace(vma.start, std::pair(vma, std::nullopt));
      continue;
    }
    if (!batch.fits(1, numa::question_size)) run();
    asked.emplace_back(&vma, numa::ask_mapping(batch, vma.start));
  }
  run();
  known_ = std::move(now);
}

}  // namespace godwit::engine
