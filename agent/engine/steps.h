// How long the steps of a freeze or a restore took: one lap after another, so that they add up.
#pragma once

#include "agent/engine/job.pb.h"
#include "common/base/units.h"

#include <string_view>

namespace godwit::engine {

class Steps {
 public:
  explicit Steps(std::uint64_t begun = monotonic_ns()) : last_(begun) {}
  void lap(std::string_view name) {
    const std::uint64_t now = monotonic_ns();
    Step& s = *list_.Add();
    s.set_name(std::string(name));
    s.set_nanoseconds(now - last_);
    last_ = now;
  }
  const google::protobuf::RepeatedPtrField<Step>& list() const { return list_; }

 private:
  std::uint64_t last_;
  google::protobuf::RepeatedPtrField<Step> list_;
};

}  // namespace godwit::engine
