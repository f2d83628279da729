#include "agent/engine/commands/cpuinfo_command.h"

#include "agent/engine/commands/cpu_comparison.h"
#include "agent/engine/commands/cpu_words.h"
#include "agent/engine/commands/places.h"
#include "agent/engine/tasks/refusals.h"
#include "common/base/log.h"
#include "common/image/cpuinfo.pb.h"
#include "common/image/image_set.h"

#include <array>
#include <cstring>

#include <cpuid.h>

namespace godwit::engine::commands {
namespace {

struct Leaf {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
};

Leaf leaf(unsigned number, unsigned sub) {
  Leaf l;
  if (!__get_cpuid_count(number, sub, &l.eax, &l.ebx, &l.ecx, &l.edx)) return {};
  return l;
}

unsigned value(const Leaf& l, Register in) {
  switch (in) {
    case Register::eax: return l.eax;
    case Register::ebx: return l.ebx;
    case Register::ecx: return l.ecx;
    case Register::edx: return l.edx;
  }
  return 0;
}

std::string model_name() {
  std::string name;
  for (unsigned number = 0x80000002; number <= 0x80000004; number++) {
    const Leaf l = leaf(number, 0);
    for (const unsigned word : {l.eax, l.ebx, l.ecx, l.edx}) name.append(reinterpret_cast<const char*>(&word), 4);
  }
  return name.substr(0, name.find('\0'));
}

image::CpuinfoX86Entry this_processor() {
  image::CpuinfoX86Entry cpu;
  const Leaf first = leaf(0, 0), second = leaf(1, 0);
  std::array<unsigned, 3> vendor{first.ebx, first.edx, first.ecx};
  const std::string_view name(reinterpret_cast<const char*>(vendor.data()), sizeof vendor);
  cpu.set_vendor_id(name == "GenuineIntel"   ? image::CpuinfoX86Entry::INTEL
                    : name == "AuthenticAMD" ? image::CpuinfoX86Entry::AMD
                                             : image::CpuinfoX86Entry::UNKNOWN);
  const unsigned family = second.eax >> 8 & 0xf, model = second.eax >> 4 & 0xf;
  cpu.set_cpu_family(family == 0xf ? family + (second.eax >> 20 & 0xff) : family);
  cpu.set_model(family >= 6 ? model + ((second.eax >> 16 & 0xf) << 4) : model);
  cpu.set_stepping(second.eax & 0xf);
  cpu.set_capability_ver(cpu_words_version);
  std::array<std::uint32_t, cpu_word_count> capability{};
  for (const CpuWord& w : cpu_words) capability[w.index] = value(leaf(w.leaf, w.subleaf), w.in);
  for (const std::uint32_t c : capability) cpu.add_capability(c);
  cpu.set_model_id(model_name());
  const Leaf xsave = leaf(0xd, 0);
  cpu.set_xfeatures_mask(tasks::enabled_xfeatures() & said_by_criu);
  cpu.set_all_xfeatures(tasks::enabled_xfeatures());
  cpu.set_xsave_size(xsave.ebx);
  cpu.set_xsave_size_max(xsave.ecx);
  return cpu;
}

}  // namespace

int run_cpuinfo_dump(const Options& o) {
  const Places places = open_places(o, Missing::is_made);
  image::CpuinfoEntry entry;
  *entry.add_x86_entry() = this_processor();
  image::ImageSet images;
  images.put(image::Kind::cpuinfo, 0, entry);
  images.save(places.images.get());
  return 0;
}

int run_cpuinfo_check(const Options& o) {
  const Places places = open_places(o, Missing::fails);
  const auto entry = image::ImageSet::load(places.images.get()).get<image::CpuinfoEntry>(image::Kind::cpuinfo);
  if (entry.x86_entry_size() == 0) fail(Errc::image_corrupt, "cpuinfo.img describes no x86 processor");
  const image::CpuinfoX86Entry& wanted = entry.x86_entry(0);
  const image::CpuinfoX86Entry here = this_processor();
  const std::string missing = lacking(wanted, here);
  if (missing.empty()) return 0;
  throw Error(Errc::refused,
              fmt::format("this processor ({}) lacks what {} has: {}", here.model_id(), wanted.model_id(), missing),
              "restore on a processor that has at least what the other one had");
}

}  // namespace godwit::engine::commands
