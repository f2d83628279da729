// How fast a tree writes, without moving anything: its memory is tracked as for a round, and counted instead of sent.
#include "agent/engine/dump.h"
#include "common/base/check.h"

#include <algorithm>

namespace godwit::engine {
namespace {

constexpr unsigned fractions[] = {10, 3, 1};  // of the length: how it bends matters more than any single point

// Takes the layout of a tree that nobody will build.
class Nowhere : public PageSink {
 public:
  std::span<std::byte> buffer() override { return {}; }
  std::uint64_t pages(pagewire::ObjectId, std::span<const pagewire::Run>) override { return 0; }
  std::uint64_t zero(pagewire::ObjectId, std::span<const pagewire::Run>) override { return 0; }
  std::uint64_t drop(pagewire::ObjectId, std::span<const pagewire::Run>) override { return 0; }
  std::uint64_t file(std::string_view, std::string_view) override { return 0; }
  std::uint64_t end_round() override { return 0; }
  void set_round(std::uint32_t) override {}
  std::uint64_t last_sequence() const override { return 0; }
};

}  // namespace

std::vector<DirtyPoint> Dump::probe(std::chrono::milliseconds length, const Wait& wait) {
  Doing doing("probing process {}", pid_);
  Nowhere nowhere;
  look_at_tree(tree_of(pid_, orphans_), nowhere);
  track_new();
  const std::uint64_t begun = monotonic_ns();
  of_the_living(nowhere, [](SourceTask& task) {
    task.memory().begin_count();
    return std::uint64_t{0};
  });
  std::vector<DirtyPoint> points;
  for (const unsigned fraction : fractions) {
    const std::uint64_t until = static_cast<std::uint64_t>(length.count()) * 1'000'000 / fraction;
    const std::uint64_t passed = monotonic_ns() - begun;
    if (until > passed) wait(std::chrono::milliseconds((until - passed) / 1'000'000));
    const std::uint64_t bytes = of_the_living(nowhere, [](SourceTask& task) { return task.memory().dirty_bytes(); });
    DirtyPoint& point = points.emplace_back();
    point.set_nanoseconds(monotonic_ns() - begun);
    point.set_bytes(points.size() > 1 ? std::max(bytes, points[points.size() - 2].bytes()) : bytes);
  }
  return points;
}

}  // namespace godwit::engine
