#include "agent/engine/births.h"

#include <algorithm>
#include <map>
#include <set>

namespace godwit::engine {
namespace {

using Owners = std::set<pid_t>;

// Those with others who share their object; the rest are alone.
Owners shared_among(std::span<const Sharer> tree) {
  Owners shared;
  for (const Sharer& s : tree)
    if (s.owner != s.pid) shared.insert(s.owner);
  return shared;
}

// By PID: whose object is to be handed down by, or through, each. Who shares one hands down that; who is alone, what
// his children are to have.
std::map<pid_t, Owners> wanted_below(std::span<const Sharer> tree, const Owners& shared) {
  std::map<pid_t, Owners> wanted;
  for (std::size_t i = tree.size(); i-- > 0;) {
    const Sharer& s = tree[i];
    if (shared.contains(s.owner)) wanted[s.pid] = {s.owner};
    wanted[s.parent].insert(wanted[s.pid].begin(), wanted[s.pid].end());
  }
  return wanted;
}

}  // namespace

std::vector<Birth> births_of(std::span<const Sharer> tree) {
  const Owners shared = shared_among(tree);
  std::map<pid_t, Owners> wanted = wanted_below(tree, shared);
  std::map<pid_t, pid_t> has;  // whose object, from its birth on; 0: its own, of no account
  Owners made;
  std::vector<Birth> births;
  for (const Sharer& s : tree) {
    const pid_t makers = s.parent != 0 ? has[s.parent] : 0;
    const Owners& below = wanted[s.pid];
    const bool inherits = makers != 0 && below.contains(makers);
    const pid_t object = has[s.pid] = inherits ? makers : below.empty() ? 0 : *below.begin();
    const bool anew = object == 0 || inherits || made.insert(object).second;
    births.push_back(!anew ? Birth::out_of_reach : inherits ? Birth::with_makers : Birth::anew);
  }
  return births;
}

}  // namespace godwit::engine
