// Writes first inputs for the image fuzzers: fuzz_image_seeds RECORDS_DIR PAGEMAP_DIR.
#include "common/base/fd.h"
#include "common/image/sample_set.h"

#include <cstdio>

int main(int argc, char** argv) {
  using namespace godwit;
  using namespace godwit::image;
  if (argc != 3) {
    std::fprintf(stderr, "usage: fuzz_image_seeds RECORDS_DIR PAGEMAP_DIR\n");
    return 2;
  }
  const ImageSet set = sample_set();
  for (const auto& [name, bytes] : set.files()) {
    const Kind kind = parse_file_name(name)->kind;
    const std::string records = bytes.substr(header(kind).size());
    if (kind == Kind::pagemap)
      write_file(std::string(argv[2]) + "/" + name, records);
    else
      write_file(std::string(argv[1]) + "/" + name, static_cast<char>(kind) + records);
  }
}
