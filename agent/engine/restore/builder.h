// Builds a task's memory from frames, or from an images directory: layouts make and remake the skeleton's mappings, pages fill
// them, other files gather in the state image set for finish().
#pragma once

#include "agent/engine/memory/absorber.h"
#include "agent/engine/memory/address_space.h"
#include "agent/engine/restore/skeleton.h"
#include "common/image/image_set.h"

#include <cstdint>
#include <memory>
#include <string>

namespace godwit::engine {

struct BuilderPlan {
  int init_pidfd = -1;  // borrowed
  int cgroup_fd = -1;   // borrowed
};

class Builder : public FrameTarget {
 public:
  explicit Builder(const BuilderPlan& plan) : plan_(plan) {}

  void pages(pagewire::ObjectId object, std::span<const pagewire::Run> runs, std::span<const std::byte> data) override;
  void zero(pagewire::ObjectId object, std::span<const pagewire::Run> runs) override;
  void drop(pagewire::ObjectId object, std::span<const pagewire::Run> runs) override;
  void file(std::string_view name, std::uint64_t offset, std::span<const std::byte> part, bool last) override;
  void round_ended(std::uint32_t round) override { rounds_ = round + 1; }

  // A layout: `mm` with the mappings, `files` with what they refer to. Makes the skeleton when there is none, or a new one
  // after an exec.
  void layout(pid_t guest_pid, const image::MmEntry& mm, const image::ImageSet& files);

  // Everything that a plain restore takes from a directory: images, then pages, through `parent` where need be.
  void load(int images_directory);

  bool has_skeleton() const { return skeleton_ != nullptr; }
  Skeleton& skeleton() { return *skeleton_; }
  AddressSpace& memory() { return *memory_; }
  const image::ImageSet& state() const { return state_; }
  std::uint32_t rounds() const { return rounds_; }

 private:
  AddressSpace& memory_of(pagewire::ObjectId object);

  BuilderPlan plan_;
  std::unique_ptr<Skeleton> skeleton_;
  std::unique_ptr<AddressSpace> memory_;
  pid_t guest_pid_ = 0;
  image::ImageSet layout_files_;  // of the layout that is arriving
  image::ImageSet state_;
  std::string partial_;           // file content gathered so far
  std::uint32_t rounds_ = 0;
};

}  // namespace godwit::engine
