#pragma once

#include "common/base/fd.h"
#include "pageserver/store/appender.h"

namespace godwit::pageserver {

class PwriteAppender : public Appender {
 public:
  explicit PwriteAppender(UniqueFd file) : file_(std::move(file)) {}
  void append(std::span<const Piece> pieces) override;
  std::uint64_t stored() const override { return stored_; }
  void settle() override {}

 private:
  UniqueFd file_;
  std::uint64_t stored_ = 0;
};

}  // namespace godwit::pageserver
