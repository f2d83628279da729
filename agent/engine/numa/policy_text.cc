#include "agent/engine/numa/policy_text.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <span>

#include <fmt/format.h>
#include <linux/mempolicy.h>

namespace godwit::engine::numa {
namespace {

struct Word {
  std::string_view text;
  std::uint32_t value;
};
constexpr std::uint32_t weighted_interleave = 6;  // MPOL_WEIGHTED_INTERLEAVE, 6.9+; not in Debian 12's headers
// The names of policy_modes in mm/mempolicy.c.
constexpr std::array modes{Word{"prefer (many)", MPOL_PREFERRED_MANY},
                           Word{"prefer", MPOL_PREFERRED},
                           Word{"bind", MPOL_BIND},
                           Word{"interleave", MPOL_INTERLEAVE},
                           Word{"weighted interleave", weighted_interleave},
                           Word{"local", MPOL_LOCAL}};
constexpr std::array flags{Word{"static", MPOL_F_STATIC_NODES}, Word{"relative", MPOL_F_RELATIVE_NODES},
                           Word{"balancing", MPOL_F_NUMA_BALANCING}};

std::optional<std::uint32_t> value_of(std::string_view text, std::span<const Word> words) {
  const auto word = std::ranges::find(words, text, &Word::text);
  return word == words.end() ? std::nullopt : std::optional(word->value);
}

// Up to `end`, which goes, too; all of it when there is none.
std::string_view take(std::string_view& text, char end) {
  const std::size_t at = std::min(text.find(end), text.size());
  const std::string_view taken = text.substr(0, at);
  text.remove_prefix(std::min(at + 1, text.size()));
  return taken;
}

std::optional<std::uint32_t> node(std::string_view text) {
  std::uint32_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size() || number >= most_nodes) return std::nullopt;
  return number;
}

}  // namespace

std::optional<Nodes> parse_nodes(std::string_view list) {
  Nodes nodes;
  while (!list.empty()) {
    std::string_view range = take(list, ',');
    const bool one = range.find('-') == range.npos;
    const auto first = node(take(range, '-')), last = one ? first : node(range);
    if (!first || !last || *last < *first) return std::nullopt;
    for (std::uint32_t n = *first; n <= *last; n++) nodes.insert(n);
  }
  return nodes;
}

std::string to_text(const Nodes& nodes) {
  std::string text;
  for (auto it = nodes.begin(); it != nodes.end();) {
    const std::uint32_t first = *it;
    std::uint32_t last = first;
    while (++it != nodes.end() && *it == last + 1) last = *it;
    text += fmt::format("{}{}", text.empty() ? "" : ",", first);
    if (last != first) text += fmt::format("-{}", last);
  }
  return text;
}

std::optional<Policy> parse_policy(std::string_view text) {
  constexpr std::size_t most_shown = 63;  // then the kernel cuts it off, maybe in the middle of a number
  if (text.size() >= most_shown) text = text.substr(0, text.rfind(','));
  const std::size_t colon = text.find(':');
  std::string_view head = text.substr(0, colon);
  const auto mode = value_of(take(head, '='), modes);
  if (!mode) return std::nullopt;
  std::uint32_t value = *mode;
  while (!head.empty()) {
    const auto flag = value_of(take(head, '|'), flags);
    if (!flag) return std::nullopt;
    value |= *flag;
  }
  const auto nodes = parse_nodes(colon == text.npos ? std::string_view() : text.substr(colon + 1));
  if (!nodes) return std::nullopt;
  Policy policy;
  policy.set_mode(value);
  policy.mutable_nodes()->Add(nodes->begin(), nodes->end());
  return policy;
}

std::string to_text(const Policy& policy) {
  const std::uint32_t all_flags = MPOL_MODE_FLAGS;
  const auto mode = std::ranges::find(modes, policy.mode() & ~all_flags, &Word::value);
  std::string text = mode == modes.end() ? fmt::format("mode {}", policy.mode() & ~all_flags) : std::string(mode->text);
  char before = '=';
  for (const Word& flag : flags) {
    if (!(policy.mode() & flag.value)) continue;
    text += before;
    text += flag.text;
    before = '|';
  }
  if (policy.nodes_size() > 0) text += ":" + to_text(Nodes(policy.nodes().begin(), policy.nodes().end()));
  return text;
}

std::string_view shown_policy(std::string_view line) {
  line = line.substr(0, line.find('\n'));
  const std::size_t space = line.find(' ');
  if (space == line.npos) return {};
  const std::string_view policy = line.substr(space + 1);
  // Two of the names have a blank in them.
  const auto mode = std::ranges::find_if(modes, [&](const Word& m) { return policy.starts_with(m.text); });
  return policy.substr(0, policy.find(' ', mode == modes.end() ? 0 : mode->text.size()));
}

}  // namespace godwit::engine::numa
