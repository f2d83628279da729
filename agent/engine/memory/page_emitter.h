// Reads pages of a target and emits them: packed into frames of scattered runs. Zero pages are left out where the
// receiver sees zero there anyway; else a live one is only told where they are.
#pragma once

#include "agent/engine/memory/page_set.h"
#include "agent/engine/memory/page_sink.h"

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace godwit::engine {

struct EmitCount {
  std::uint64_t pages = 0, zero_pages = 0, dropped_pages = 0, bytes = 0;

  void add(const EmitCount& other) {
    pages += other.pages;
    zero_pages += other.zero_pages;
    dropped_pages += other.dropped_pages;
    bytes += other.bytes;
  }
};

// What has been emitted and not yet acknowledged as stored by the receiver. A scan consumes dirty state; until the
// acknowledgement this list owes it.
class Debt {
 public:
  void note(std::uint64_t sequence, pagewire::ObjectId object, std::span<const pagewire::Run> runs);
  void acknowledge(std::uint64_t sequence);  // everything up to and including it is stored
  // Takes back all that is not acknowledged, to be sent again.
  std::vector<std::pair<pagewire::ObjectId, pagewire::Run>> take_back();
  bool empty() const { return entries_.empty(); }

 private:
  struct Entry {
    std::uint64_t sequence;
    pagewire::ObjectId object;
    std::vector<pagewire::Run> runs;
  };
  std::vector<Entry> entries_;  // ascending; acknowledged ones are erased from the front
};

// How the emitter reads: fills `into` with the pages of `runs`, in order; returns for each page whether it was there.
class PageReader {
 public:
  virtual ~PageReader() = default;
  // Reads whole pages of ascending runs. Pages that cannot be read (unmapped meanwhile) are left out of `runs`.
  virtual void read(std::vector<pagewire::Run>& runs, std::span<std::byte> into) = 0;
};

// Reads a shared memory segment through a descriptor of it.
class FileReader : public PageReader {
 public:
  explicit FileReader(int fd) : fd_(fd) {}
  void read(std::vector<pagewire::Run>& runs, std::span<std::byte> into) override;

 private:
  int fd_;
};

// What a scan says about pages.
class PageChanges {
 public:
  virtual ~PageChanges() = default;
  // Pages of [start, end) to send. A page that is all zero is sent when `zero_matters` (the receiver would else see
  // something other than zero) or when it had been sent before; else it is left out.
  virtual void add(std::uint64_t start, std::uint64_t end, bool zero_matters) = 0;
  // Pages that exist no longer: told to the receiver where it has them.
  virtual void drop(std::uint64_t start, std::uint64_t end) = 0;
  virtual void flush() = 0;
};

// Writes changes down, for when there is no time to send them.
class NotedChanges : public PageChanges {
 public:
  void add(std::uint64_t start, std::uint64_t end, bool) override { added_.add(start, end); }
  void drop(std::uint64_t start, std::uint64_t end) override { dropped_.emplace_back(start, end); }
  void flush() override {}
  void replay(PageChanges& to) const;
  void replay_drops(PageChanges& to) const;
  const PageSet& added() const { return added_; }

 private:
  PageSet added_;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> dropped_;
};

class PageEmitter : public PageChanges {
 public:
  // `sent` is what the receiver holds, kept up to date here. `debt` may be null (directories).
  PageEmitter(pagewire::ObjectId object, PageReader& reader, PageSink& sink, PageSet& sent, Debt* debt);
  ~PageEmitter() override;  // what the sink did not take: the receiver has it still
  PageEmitter(const PageEmitter&) = delete;
  PageEmitter& operator=(const PageEmitter&) = delete;

  void add(std::uint64_t start, std::uint64_t end, bool zero_matters) override;
  void drop(std::uint64_t start, std::uint64_t end) override;
  void flush() override;

  const EmitCount& count() const { return count_; }
  // Pages that were to be sent and could not be read.
  const PageSet& missed() const { return missed_; }

 private:
  struct Pending {
    pagewire::Run run;
    bool zero_matters;
  };
  void send_pending();
  void note_missed(std::span<const pagewire::Run> read);
  void send_zero(std::vector<pagewire::Run>& runs);

  pagewire::ObjectId object_;
  PageReader& reader_;
  PageSink& sink_;
  PageSet& sent_;
  Debt* debt_;
  std::vector<Pending> pending_;
  std::uint64_t pending_pages_ = 0;
  std::vector<pagewire::Run> drops_;
  PageSet missed_;
  EmitCount count_;
};

}  // namespace godwit::engine
