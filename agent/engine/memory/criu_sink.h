// A dump whose pages go to a page server, CRIU's or ours, by CRIU's protocol; state images go into a directory, from
// where whoever runs the dump carries them to the server's.
//
// The protocol wants the runs of an object in ascending order, and what has been sent cannot be taken back. Hence two
// ways:
// - CriuStream, for a complete dump, which comes in that order: pages are sent as they come;
// - CriuDifference, for a difference to the dump before, which comes in any order. It is collected in memory, and sent
//   by save() between the holes that stand for what the parent has.
#pragma once

#include "agent/engine/memory/criu_client.h"
#include "agent/engine/memory/dump_sink.h"
#include "agent/engine/memory/page_plan.h"
#include "common/base/buffer.h"

#include <map>
#include <vector>

namespace godwit::engine {

class CriuSink : public DumpSink {
 public:
  // `directory` is borrowed. `tags`: objects without pages, by which the server's images say which dump they are of,
  // and on top of which (common/image/generation.h).
  CriuSink(CriuClient server, int directory, std::vector<pagewire::ObjectId> tags)
      : server_(std::move(server)), directory_(directory), tags_(std::move(tags)) {}

  std::uint64_t drop(pagewire::ObjectId, std::span<const pagewire::Run>) override { return next(); }
  std::uint64_t file(std::string_view name, std::string_view content) override;
  std::uint64_t end_round() override { return next(); }
  void set_round(std::uint32_t) override {}
  std::uint64_t last_sequence() const override { return sequence_; }
  image::ImageSet& images() override { return images_; }

  // The session is closed, and the server has said that it has everything, before the state images are written.
  void save(const HeldPages& held, Storage storage) override;

 protected:
  virtual void finish_pages(const HeldPages& held) = 0;
  std::uint64_t next() { return ++sequence_; }

  CriuClient server_;

 private:
  int directory_;
  std::vector<pagewire::ObjectId> tags_;
  std::uint64_t sequence_ = 0;
  image::ImageSet images_;
};

class CriuStream : public CriuSink {
 public:
  CriuStream(CriuClient server, int directory, std::vector<pagewire::ObjectId> tags = {});
  std::span<std::byte> buffer() override { return server_.frame(); }
  std::uint64_t pages(pagewire::ObjectId object, std::span<const pagewire::Run> runs) override;

 private:
  void finish_pages(const HeldPages& held) override;
  void open(pagewire::ObjectId object);

  pagewire::ObjectId object_ = 0;  // open
  std::uint64_t end_ = 0;          // of what was sent of it
  std::map<pagewire::ObjectId, PageSet> sent_;
};

class CriuDifference : public CriuSink {
 public:
  CriuDifference(CriuClient server, int directory, std::vector<pagewire::ObjectId> tags = {});
  std::span<std::byte> buffer() override { return frame_; }
  std::uint64_t pages(pagewire::ObjectId object, std::span<const pagewire::Run> runs) override;

 private:
  void finish_pages(const HeldPages& held) override;
  void send(pagewire::ObjectId object, const std::vector<PlannedRun>& plan, std::span<const std::byte> spool);

  Buffer frame_;
  UniqueFd spool_;
  std::uint64_t spooled_ = 0;
  std::map<pagewire::ObjectId, std::vector<Place>> places_;  // offsets in the spool
};

}  // namespace godwit::engine
