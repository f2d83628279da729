// Writes first inputs for the image fuzzers: fuzz_image_seeds RECORDS_DIR PAGEMAP_DIR TREE_DIR CALLS_DIR
// PROCESSORS_DIR.
#include "common/base/fd.h"
#include "common/image/sample_set.h"
#include "common/image/seccomp.pb.h"

#include <cstdio>
#include <functional>

#include <linux/seccomp.h>

namespace {

using namespace godwit;
using namespace godwit::image;

std::string records_of(Kind kind, const std::string& bytes) { return bytes.substr(header(kind).size()); }

// As image_tree.cc takes it.
std::string pieces_of(const ImageSet& set) {
  std::string pieces;
  for (const auto& [name, bytes] : set.files()) {
    const auto [kind, id] = *parse_file_name(name);
    const std::string records = records_of(kind, bytes);
    pieces += {static_cast<char>(kind), static_cast<char>(id), static_cast<char>(records.size()),
               static_cast<char>(records.size() >> 8)};
    pieces += records;
  }
  return pieces;
}

// Of the two in the sample, of which a thread has the second one, below the first.
struct BadFilters {
  const char* name;
  std::function<void(SeccompEntry&)> change;
};
const BadFilters all_bad_filters[] = {
    {"filters_loop", [](SeccompEntry& e) { e.mutable_seccomp_filters(0)->set_prev(1); }},
    {"filter_missing", [](SeccompEntry& e) { e.mutable_seccomp_filters(1)->set_prev(7); }},
    {"filter_cut", [](SeccompEntry& e) { e.mutable_seccomp_filters(0)->mutable_filter()->pop_back(); }},
    {"filter_empty", [](SeccompEntry& e) { e.mutable_seccomp_filters(0)->mutable_filter()->clear(); }},
    {"filter_flags", [](SeccompEntry& e) { e.mutable_seccomp_filters(0)->set_flags(0x100); }},
    {"filters_of_all", [](SeccompEntry& e) { e.mutable_seccomp_filters(1)->set_flags(SECCOMP_FILTER_FLAG_TSYNC); }},
    {"filter_of_nobody", [](SeccompEntry& e) { *e.add_seccomp_filters() = e.seccomp_filters(0); }},
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 6) {
    std::fprintf(stderr, "usage: fuzz_image_seeds RECORDS_DIR PAGEMAP_DIR TREE_DIR CALLS_DIR PROCESSORS_DIR\n");
    return 2;
  }
  const auto write = [argv](int dir, const std::string& name, const std::string& bytes) {
    write_file(std::string(argv[dir]) + "/" + name, bytes);
  };
  const ImageSet sample = sample_set();
  for (const auto& [name, bytes] : sample.files()) {
    const Kind kind = parse_file_name(name)->kind;
    const std::string records = records_of(kind, bytes);
    if (kind == Kind::pagemap)
      write(2, name, records);
    else
      write(1, name, static_cast<char>(kind) + records);
    // One record, without its length.
    if (kind == Kind::core) write(4, name, "c" + records.substr(4));
    if (kind == Kind::mm) write(4, name, "m" + records.substr(4));
    if (kind == Kind::cpuinfo) write(5, name, "i" + records.substr(4));
  }
  write(3, "sample", pieces_of(sample));
  for (const auto& [name, change] : all_bad_filters) {
    ImageSet set = sample;
    auto filters = set.get<SeccompEntry>(Kind::seccomp);
    change(filters);
    set.put(Kind::seccomp, 0, filters);
    write(3, name, pieces_of(set));
  }
}
