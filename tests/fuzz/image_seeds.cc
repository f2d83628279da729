// Writes first inputs for the image fuzzers: fuzz_image_seeds RECORDS_DIR PAGEMAP_DIR TREE_DIR CALLS_DIR
// PROCESSORS_DIR.
#include "common/base/fd.h"
#include "common/image/sample_set.h"

#include <cstdio>

int main(int argc, char** argv) {
  using namespace godwit;
  using namespace godwit::image;
  if (argc != 6) {
    std::fprintf(stderr, "usage: fuzz_image_seeds RECORDS_DIR PAGEMAP_DIR TREE_DIR CALLS_DIR PROCESSORS_DIR\n");
    return 2;
  }
  const auto write = [argv](int dir, const std::string& name, const std::string& bytes) {
    write_file(std::string(argv[dir]) + "/" + name, bytes);
  };
  std::string tree;
  for (const auto& [name, bytes] : sample_set().files()) {
    const auto [kind, id] = *parse_file_name(name);
    const std::string records = bytes.substr(header(kind).size());
    const std::string piece{static_cast<char>(kind), static_cast<char>(id), static_cast<char>(records.size()),
                            static_cast<char>(records.size() >> 8)};
    if (kind == Kind::pagemap)
      write(2, name, records);
    else
      write(1, name, static_cast<char>(kind) + records);
    tree += piece + records;
    // One record, without its length.
    if (kind == Kind::core) write(4, name, "c" + records.substr(4));
    if (kind == Kind::mm) write(4, name, "m" + records.substr(4));
    if (kind == Kind::cpuinfo) write(5, name, "i" + records.substr(4));
  }
  write(3, "sample", tree);
}
