#include "agent/engine/tasks/filters.h"

#include "common/base/check.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <ranges>

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>

namespace godwit::engine::tasks::filters {
namespace {

constexpr std::uint32_t no_filter = ~0u;  // no image has as many
constexpr std::size_t instruction = sizeof(sock_filter);
constexpr std::uint32_t carried_flags = SECCOMP_FILTER_FLAG_LOG;
constexpr std::uint32_t of_all_threads = SECCOMP_FILTER_FLAG_TSYNC;  // in images
// The kernel's MAX_INSNS_PER_PATH, of all filters of a thread, each of which counts four instructions more than it has.
constexpr std::uint32_t most_instructions = 32768, least_cost = 1 + 4;
constexpr std::uint32_t longest_chain = most_instructions / least_cost;

struct Metadata {  // struct seccomp_metadata
  std::uint64_t number = 0, flags = 0;
};

// Who may read no filters is told so of threads that have none, too.
bool has_none(pid_t tid) {
  return errno == EINVAL || (errno == EACCES && proc::Reader(tid).status().seccomp != SECCOMP_MODE_FILTER);
}

// `number`: 0 is the oldest. Nothing: there are no more.
std::optional<Filter> read(pid_t tid, std::uint32_t number) {
  constexpr auto get_metadata = static_cast<__ptrace_request>(0x420d);  // PTRACE_SECCOMP_GET_METADATA, 4.16+
  std::array<sock_filter, BPF_MAXINSNS> program;
  const long length = ::ptrace(PTRACE_SECCOMP_GET_FILTER, tid, std::uintptr_t{number}, program.data());
  if (length < 0 && (errno == ENOENT || (number == 0 && has_none(tid)))) return std::nullopt;
  check(length, "read seccomp filter {} of thread {}", number, tid);
  Metadata metadata{.number = number};
  check(::ptrace(get_metadata, tid, sizeof metadata, &metadata), "read the flags of seccomp filter {} of thread {}",
        number, tid);
  return Filter{static_cast<std::uint32_t>(metadata.flags),
                {reinterpret_cast<const char*>(program.data()), static_cast<std::size_t>(length) * instruction}};
}

std::optional<std::string> refuse_with(std::uint32_t flags, std::uint32_t carried, std::string_view program) {
  if (flags & ~carried) return fmt::format("a seccomp filter with flags {:#x} is not carried", flags);
  return filters::refuse(program);
}

// The oldest first.
std::vector<Filter> read_chain(pid_t tid, const std::string& name, std::vector<Refusal>& found) {
  std::vector<Filter> chain;
  for (std::uint32_t number = 0; auto filter = read(tid, number); number++) {
    if (auto reason = refuse_with(filter->flags, carried_flags, filter->program))
      found.push_back({name, std::move(*reason), "run it without a supervisor"});
    chain.push_back(std::move(*filter));
  }
  return chain;
}

}  // namespace

// A supervisor shows only by what a filter may return. Without one it would be ENOSYS, which is what a filter that has
// lost its supervisor returns, but nobody can tell.
std::optional<std::string> refuse(std::string_view program) {
  for (std::size_t at = 0; at + instruction <= program.size(); at += instruction) {
    sock_filter i;
    std::memcpy(&i, program.data() + at, instruction);
    if (i.code == (BPF_RET | BPF_K) && (i.k & SECCOMP_RET_ACTION_FULL) == SECCOMP_RET_USER_NOTIF)
      return "a seccomp filter that asks a supervisor is not carried";
    if (i.code == (BPF_RET | BPF_A))
      return "a seccomp filter that computes its answer, and may ask a supervisor, is not carried";
  }
  return std::nullopt;
}

void refuse_chain(pid_t tid, const std::string& name, std::vector<Refusal>& found) { read_chain(tid, name, found); }

void Dump::process(std::span<const Thread> threads, std::vector<Refusal>& found) {
  std::vector<std::vector<Filter>> chains;
  for (const auto& [tid, mode, into] : threads) {
    const bool filtered = mode == SECCOMP_MODE_FILTER;
    chains.push_back(filtered ? read_chain(tid, fmt::format("thread {}", tid), found) : std::vector<Filter>());
    if (filtered && chains.back().empty()) fail(Errc::internal, "thread {} is filtered, and has no filters", tid);
    if (mode == SECCOMP_MODE_STRICT) into->set_seccomp_mode(image::SECCOMP_STRICT);
  }
  const bool same = std::ranges::all_of(chains, [&](const auto& chain) { return chain == chains.front(); });
  if (same) {
    chains.resize(1);
    for (Filter& filter : chains.front()) filter.flags |= of_all_threads;
  }
  for (std::size_t i = 0; i < chains.size(); i++) {
    if (chains[i].empty()) continue;
    threads[i].into->set_seccomp_mode(image::SECCOMP_FILTER);
    threads[i].into->set_seccomp_filter(add(chains[i]));
  }
}

std::uint32_t Dump::add(std::span<const Filter> chain) {
  std::uint32_t above = no_filter;
  for (const Filter& filter : chain | std::views::reverse) {
    const auto [it, added] =
        numbers_.try_emplace({above, filter}, static_cast<std::uint32_t>(all_.seccomp_filters_size()));
    if (added) {
      image::SeccompFilter& entry = *all_.add_seccomp_filters();
      entry.set_filter(filter.program);
      entry.set_flags(filter.flags);
      if (above != no_filter) entry.set_prev(above);
    }
    above = it->second;
  }
  return above;
}

void Dump::write(image::ImageSet& out) const {
  if (all_.seccomp_filters_size() > 0) out.put(image::Kind::seccomp, 0, all_);
}

Stored::Stored(const image::ImageSet& images) {
  if (images.has(image::Kind::seccomp)) entry_ = images.get<image::SeccompEntry>(image::Kind::seccomp);
  const Doing doing("{}", image::file_name(image::Kind::seccomp, 0));
  const auto& filters = entry_.seccomp_filters();
  const auto count = static_cast<std::uint32_t>(filters.size());
  std::map<std::pair<std::uint32_t, std::string_view>, std::uint32_t> first;
  for (std::uint32_t i = 0; i < count; i++) {
    const image::SeccompFilter& filter = filters[static_cast<int>(i)];
    if (filter.filter().empty() || filter.filter().size() % instruction ||
        filter.filter().size() > BPF_MAXINSNS * instruction)
      fail(Errc::image_corrupt, "filter {} has {} bytes", i, filter.filter().size());
    if (filter.has_prev() && filter.prev() >= count)
      fail(Errc::image_corrupt, "filter {} is below {}, which is not there", i, filter.prev());
    same_.push_back(first.try_emplace({filter.flags() & carried_flags, filter.filter()}, i).first->second);
  }
}

std::uint32_t Stored::above(std::uint32_t number) const {
  const image::SeccompFilter& filter = entry_.seccomp_filters(static_cast<int>(number));
  return filter.has_prev() ? filter.prev() : no_filter;
}

Chain Stored::own_chain_of(const image::ThreadCoreEntry& thread) const {
  const bool filtered = thread.seccomp_mode() == image::SECCOMP_FILTER;
  if (filtered != thread.has_seccomp_filter())
    fail(Errc::image_corrupt, "a thread of seccomp mode {} {} filters", image::SeccompMode_Name(thread.seccomp_mode()),
         filtered ? "without" : "with");
  if (!filtered) return {};
  if (thread.seccomp_filter() >= same_.size())
    fail(Errc::image_corrupt, "seccomp filter {} is not there", thread.seccomp_filter());
  Chain chain;
  for (std::uint32_t at = thread.seccomp_filter(); at != no_filter; at = above(at)) {
    if (chain.size() == longest_chain)
      fail(Errc::image_corrupt, "{}: filter {} is below too many", image::file_name(image::Kind::seccomp, 0),
           thread.seccomp_filter());
    chain.push_back(same_[at]);
  }
  return chain;
}

// Where all threads have the same filters, only the first one names them.
Chain Stored::chain_of(const image::ThreadCoreEntry& thread, const image::ThreadCoreEntry& leader) const {
  if (thread.seccomp_mode() != image::SECCOMP_OFF || leader.seccomp_mode() != image::SECCOMP_FILTER)
    return own_chain_of(thread);
  const Chain chain = own_chain_of(leader);
  const bool for_all = entry_.seccomp_filters(static_cast<int>(leader.seccomp_filter())).flags() & of_all_threads;
  return for_all ? chain : own_chain_of(thread);
}

std::optional<std::string> Stored::refusal() const {
  for (const image::SeccompFilter& filter : entry_.seccomp_filters())
    if (auto reason = refuse_with(filter.flags(), carried_flags | of_all_threads, filter.filter())) return reason;
  return std::nullopt;
}

// Where one belongs to nobody, a thread has lost it, and would run without.
void Stored::require_owners(std::span<const std::uint32_t> oldest) const {
  std::vector<bool> owned(same_.size());
  for (const std::uint32_t number : oldest)
    for (std::uint32_t at = number; at < owned.size() && !owned[at]; at = above(at)) owned[at] = true;
  if (const auto lost = std::ranges::find(owned, false); lost != owned.end())
    fail(Errc::image_corrupt, "{}: filter {} belongs to no thread", image::file_name(image::Kind::seccomp, 0),
         lost - owned.begin());
}

// What a filter makes of speculation is restored by itself.
void Stored::restore(Batch& batch, std::uint32_t number) const {
  const image::SeccompFilter& filter = entry_.seccomp_filters(static_cast<int>(number));
  const sock_fprog program{
      static_cast<unsigned short>(filter.filter().size() / instruction),
      reinterpret_cast<sock_filter*>(raw(batch.put_bytes(std::as_bytes(std::span(filter.filter())))))};
  batch.add("install a seccomp filter", SYS_seccomp, SECCOMP_SET_MODE_FILTER,
            (filter.flags() & carried_flags) | SECCOMP_FILTER_FLAG_SPEC_ALLOW, batch.put(program));
}

void restore_strict(Batch& batch, const image::ThreadCoreEntry& thread) {
  if (thread.seccomp_mode() == image::SECCOMP_STRICT)
    batch.add("enter strict mode", SYS_seccomp, SECCOMP_SET_MODE_STRICT, 0, 0);
}

}  // namespace godwit::engine::tasks::filters
