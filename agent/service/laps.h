// How long the steps of an answer took: one lap after another, so that they add up to all that the agent spent on it.
#pragma once

#include "agent/engine/job.pb.h"
#include "common/api/control.pb.h"
#include "common/base/units.h"

#include <cstdint>
#include <string>
#include <utility>

namespace godwit::service {

class Laps {
 public:
  using List = google::protobuf::RepeatedPtrField<api::Step>;

  explicit Laps(List& into) : list_(into) {}

  void lap(std::string name) {
    const std::uint64_t now = monotonic_ns();
    add(std::move(name), now - std::exchange(last_, now));
  }

  // A lap that an engine has told of. What it did not spend itself is `rest`: the command and its answer on their way.
  void lap(const google::protobuf::RepeatedPtrField<engine::Step>& of_engine, std::string rest) {
    const std::uint64_t now = monotonic_ns();
    for (const engine::Step& s : of_engine) {
      add(s.name(), s.nanoseconds());
      last_ = s.nanoseconds() < now - last_ ? last_ + s.nanoseconds() : now;
    }
    lap(std::move(rest));
  }

 private:
  void add(std::string name, std::uint64_t nanoseconds) {
    api::Step& step = *list_.Add();
    step.set_name(std::move(name));
    step.set_nanoseconds(nanoseconds);
  }

  List& list_;
  std::uint64_t last_ = monotonic_ns();
};

}  // namespace godwit::service
