// Appends pages to a file in memory, which is only complete when it has been synced.
#pragma once

#include "common/base/page_file.h"
#include "pageserver/store/appender.h"

namespace godwit::pageserver {

class PageAppender : public Appender {
 public:
  explicit PageAppender(UniqueFd file) : file_(std::move(file)) {}  // opened for reading and writing

  void append(std::span<const Piece> pieces) override;
  std::uint64_t stored() const override { return stored_; }
  void settle() override {}
  void sync() override { file_.finish(stored_); }  // the last call

 private:
  PageFile file_;
  std::uint64_t stored_ = 0;
};

}  // namespace godwit::pageserver
