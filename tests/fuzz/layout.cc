// What a source says of address spaces while their pages come: the first byte says whether the rest is the name of a
// file ('n'), or two layouts, of which the first is there: what the difference then makes of it is the second one.
#include "agent/engine/memory/layout_delta.h"
#include "agent/engine/restore/layout_file.h"
#include "common/base/units.h"
#include "tests/fuzz/fuzz.h"

#include <algorithm>
#include <cstdint>
#include <optional>

namespace godwit {

using namespace engine;

namespace {

Vmas checked(std::string_view bytes) {
  image::MmEntry mm;
  Vmas vmas;
  if (mm.ParsePartialFromArray(bytes.data(), static_cast<int>(bytes.size())))
    vmas.assign(mm.vmas().begin(), mm.vmas().end());
  check_layout(vmas);
  return vmas;
}

const image::VmaEntry* at(const Vmas& vmas, std::uint64_t address) {
  const auto it = std::ranges::find_if(
      vmas, [address](const image::VmaEntry& e) { return e.start() <= address && address < e.end(); });
  return it == vmas.end() ? nullptr : &*it;
}

bool within(const std::vector<LayoutDelta::Range>& ranges, std::uint64_t address) {
  return std::ranges::any_of(ranges, [&](const auto& r) { return r.start <= address && address < r.end; });
}

void expect_made(const Vmas& from, const LayoutDelta& delta, const Vmas& to, std::uint64_t address) {
  const image::VmaEntry *old = at(from, address), *fresh = at(delta.map, address), *now = at(to, address);
  require(!fresh || !old || within(delta.unmap, address));
  const image::VmaEntry* left = fresh ? fresh : within(delta.unmap, address) ? nullptr : old;
  require((left == nullptr) == (now == nullptr));
  if (!left) return;
  require(same_backing(*left, *now));
  std::uint32_t prot = left->prot();
  for (const auto& p : delta.protect)
    if (p.range.start <= address && address < p.range.end) prot = p.prot;
  require(prot == now->prot());
}

}  // namespace

void fuzz(std::string_view input) {
  if (input.size() < 3) return;
  if (input[0] == 'n') {
    const LayoutFile file = layout_file_of(input.substr(1));
    const bool has_pid = file.kind == LayoutFile::Kind::layout || file.kind == LayoutFile::Kind::reset ||
                         file.kind == LayoutFile::Kind::gone;
    require(has_pid == (file.pid > 0));
    return;
  }
  const std::size_t length = static_cast<unsigned char>(input[1]) * 256u + static_cast<unsigned char>(input[2]);
  input.remove_prefix(3);
  const Vmas from = checked(input.substr(0, length));
  const Vmas to = checked(input.substr(std::min(length, input.size())));
  const LayoutDelta delta = difference(from, to);
  for (const Vmas* layout : {&from, &to})
    for (const image::VmaEntry& e : *layout)
      for (const std::uint64_t address : {e.start(), e.end() - page_size}) expect_made(from, delta, to, address);
  check_layout(united(to));
}

}  // namespace godwit
