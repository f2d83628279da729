#include "agent/engine/numa/policy.h"

#include "common/base/check.h"
#include "common/proc/reader.h"

#include <algorithm>
#include <array>

#include <linux/mempolicy.h>
#include <sys/mman.h>
#include <sys/syscall.h>

namespace godwit::engine::numa {
namespace {

using Mask = std::array<std::uint64_t, most_nodes / 64>;
constexpr std::uint64_t mask_bits = most_nodes + 1;  // the kernel takes one off
constexpr std::uint32_t node_flags = MPOL_F_STATIC_NODES | MPOL_F_RELATIVE_NODES;
constexpr std::uint32_t all_flags = MPOL_MODE_FLAGS;
constexpr std::uint32_t last_mode = 6;  // MPOL_WEIGHTED_INTERLEAVE, 6.9+; not in Debian 12's headers

bool known(std::uint32_t mode) {
  const std::uint32_t kind = mode & ~all_flags;
  return kind > MPOL_DEFAULT && kind <= last_mode && (mode & node_flags) != node_flags;
}

Mask mask_of(const Policy& policy) {
  Mask mask{};
  for (const std::uint32_t node : policy.nodes()) mask[node / 64] |= std::uint64_t{1} << node % 64;
  return mask;
}

Question ask(Batch& batch, std::uint64_t address, int flags) {
  const RemoteAddr mode = batch.reserve(sizeof(int)), nodes = batch.reserve(sizeof(Mask));
  return {batch.attempt("read a NUMA policy", SYS_get_mempolicy, mode, nodes, mask_bits, address, flags), mode, nodes};
}

// On a page of our own.
int try_here(const Policy& policy) {
  void* const page = ::mmap(nullptr, page_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) throw syscall_error(errno, "map a page");
  const Mask mask = mask_of(policy);
  const int failed = ::syscall(SYS_mbind, page, page_size, policy.mode(), mask.data(), mask_bits, 0) == 0 ? 0 : errno;
  ::munmap(page, page_size);
  return failed;
}

std::string not_here(const Nodes& missing, const Policy& policy) {
  return fmt::format("NUMA node{} {}, which a memory policy names ({}), {} not here", missing.size() == 1 ? "" : "s",
                     to_text(missing), to_text(policy), missing.size() == 1 ? "is" : "are");
}

}  // namespace

Question ask_thread(Batch& batch) { return ask(batch, 0, 0); }

Question ask_mapping(Batch& batch, std::uint64_t address) { return ask(batch, address, MPOL_F_ADDR); }

std::optional<Policy> answer(const Batch& batch, const Question& question) {
  if (batch.result(question.call) != 0) return std::nullopt;
  const auto mode = static_cast<std::uint32_t>(batch.read<int>(question.mode));
  if (mode == MPOL_DEFAULT) return std::nullopt;
  Policy policy;
  policy.set_mode(mode);
  const auto mask = batch.read<Mask>(question.nodes);
  for (std::uint32_t node = 0; node < most_nodes; node++)
    if (mask[node / 64] >> node % 64 & 1) policy.add_nodes(node);
  if (!known(mode)) fail(Errc::refused, "a NUMA memory policy of this kind ({}) is not carried", to_text(policy));
  return policy;
}

bool valid(const Policy& policy) {
  if (!known(policy.mode())) return false;
  const auto& nodes = policy.nodes();
  return std::ranges::is_sorted(nodes, std::ranges::less_equal()) && (nodes.empty() || *nodes.rbegin() < most_nodes);
}

std::optional<std::string> lacking(const Policy& policy, const Nodes& usable) {
  if (usable.empty()) return "this kernel has no NUMA memory policies";
  if (!(policy.mode() & node_flags)) {
    Nodes missing(policy.nodes().begin(), policy.nodes().end());
    for (const std::uint32_t node : usable) missing.erase(node);
    if (!missing.empty()) return not_here(missing, policy);
  }
  const int failed = try_here(policy);
  if (failed == 0) return std::nullopt;
  const bool some = std::ranges::any_of(policy.nodes(), [&](std::uint32_t node) { return usable.contains(node); });
  if ((policy.mode() & MPOL_F_STATIC_NODES) && !some)
    return not_here(Nodes(policy.nodes().begin(), policy.nodes().end()), policy);
  return fmt::format("this kernel does not take a NUMA memory policy: {}: {}", to_text(policy), ::strerror(failed));
}

std::optional<std::string> lacking_as_shown(const Policy& shown, const Nodes& usable) {
  if (!(shown.mode() & node_flags)) return lacking(shown, usable);
  Policy some = shown;
  some.mutable_nodes()->Assign(usable.begin(), usable.end());
  return lacking(some, usable);
}

Nodes usable_nodes(pid_t pid) {
  if (::syscall(SYS_get_mempolicy, nullptr, nullptr, 0, nullptr, 0) != 0) return {};
  const std::string list = proc::Reader(pid).status().mems_allowed;
  return parse_nodes(list).value_or(Nodes());
}

void Requirements::require(const Policy& policy) {
  if (!valid(policy)) fail(Errc::image_corrupt, "a NUMA memory policy that is none ({})", policy.mode());
  if (!fine_.insert(policy.SerializeAsString()).second) return;
  if (!usable_) usable_ = usable_nodes(pid_);
  if (const auto why = lacking(policy, *usable_))
    throw Error(Errc::unsupported, *why, "move it to a host with these nodes and a kernel that has such policies");
}

void set_thread(Batch& batch, const Policy* policy) {
  if (!policy) {  // whoever has made the thread may have one
    batch.attempt("set the default NUMA policy", SYS_set_mempolicy, MPOL_DEFAULT, 0, 0);
    return;
  }
  const RemoteAddr mask = batch.put(mask_of(*policy));
  batch.add("set the NUMA policy", SYS_set_mempolicy, policy->mode(), mask, mask_bits);
}

void set_mapping(Batch& batch, std::uint64_t start, std::uint64_t end, const Policy* policy, Pages pages) {
  if (!policy) {
    batch.add("set the default NUMA policy of memory", SYS_mbind, start, end - start, MPOL_DEFAULT, 0, 0, 0);
    return;
  }
  const RemoteAddr mask = batch.put(mask_of(*policy));
  batch.add("set the NUMA policy of memory", SYS_mbind, start, end - start, policy->mode(), mask, mask_bits,
            pages == Pages::move ? MPOL_MF_MOVE : 0);
}

}  // namespace godwit::engine::numa
