// The mark of an images directory into which somebody is writing, or has stopped writing half-way: a file with the
// names of the other files, which are then worth nothing.
//
// Files that are complete only together have other names until the end (part_name). Errors: Errc::image_corrupt;
// Errc::busy while another writer is at it.
#pragma once

#include "common/base/fd.h"

#include <string>

namespace godwit::image {

class Unfinished {
 public:
  // Marks the directory. What the mark of an earlier writer names is removed.
  explicit Unfinished(int directory);  // borrowed

  void add(const std::string& name);  // before the file is made
  void finish();                      // the set is complete

  static std::string part_name(const std::string& name) { return name + ".part"; }
  // Removes what a writer has left there that is no more; one that is at work is left alone.
  static void remove_left(int directory);
  // Refuses a directory that is marked.
  static void refuse(int directory);

 private:
  int directory_;
  UniqueFd mark_;
};

}  // namespace godwit::image
