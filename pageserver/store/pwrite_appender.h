#pragma once

#include "common/base/fd.h"
#include "pageserver/store/appender.h"

namespace godwit::pageserver {

class PwriteAppender : public Appender {
 public:
  PwriteAppender(UniqueFd file, std::uint64_t window) : file_(std::move(file)), window_(window) {}
  void append(std::span<const Piece> pieces) override;
  std::uint64_t stored() const override { return stored_; }
  void settle() override {}
  void sync() override;

 private:
  UniqueFd file_;
  std::uint64_t window_;
  std::uint64_t stored_ = 0;
};

}  // namespace godwit::pageserver
