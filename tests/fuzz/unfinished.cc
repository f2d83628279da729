// The mark of an unfinished set, made by anybody: the next writer removes what it names, and nothing but pages.
#include "common/image/unfinished.h"
#include "common/image/magic.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/scratch_directory.h"

#include <array>

namespace godwit {

void fuzz(std::string_view input) {
  static const ScratchDirectory directory;
  const int fd = directory.emptied();
  const std::array kept{image::file_name(image::Kind::inventory), image::file_name(image::Kind::core, 1),
                        std::string("note"), std::string("unfinished.part")};
  for (const std::string& name : kept) write_file(directory.path() / name, "x");
  write_file(directory.path() / image::file_name(image::Kind::pages, 1), "x");
  std::filesystem::create_directory(directory.path() / "below");
  write_file(directory.path() / "below" / "pages-1.img", "x");
  write_file(directory.path() / "unfinished", input);
  {
    image::Unfinished next(fd);
    for (const std::string& name : kept) require(std::filesystem::exists(directory.path() / name));
    require(std::filesystem::exists(directory.path() / "below" / "pages-1.img"));
    next.finish();
  }
  image::Unfinished::refuse(fd);
}

}  // namespace godwit
