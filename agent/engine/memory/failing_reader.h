// For tests: memory that cannot always be read.
#pragma once

#include "agent/engine/memory/page_set.h"
#include "agent/engine/memory/process_reader.h"
#include "common/base/fd.h"

#include <fmt/format.h>

#include <vector>

namespace godwit::engine {

// Fails to read every sixteenth page when it is first asked for, as memory that is short might; or one for good.
class FailingReader : public PageReader {
 public:
  explicit FailingReader(pid_t pid)
      : mem_(open_file(fmt::format("/proc/{}/mem", pid), O_RDONLY)), reader_(pid, mem_.get()) {}
  void read(std::vector<pagewire::Run>& runs, std::span<std::byte> into) override {
    std::vector<pagewire::Run> kept;
    for (const pagewire::Run& r : runs)
      for (std::uint64_t page = r.address; page < r.address + r.pages * page_size; page += page_size) {
        const bool fails = for_good ? page == for_good : once && page / page_size % 16 == 0 && !failed_.contains(page);
        if (fails)
          failed_.add(page, page + page_size);
        else if (!kept.empty() && kept.back().address + kept.back().pages * page_size == page)
          kept.back().pages++;
        else
          kept.push_back({page, 1});
      }
    runs = kept;
    if (!runs.empty()) reader_.read(runs, into);
    if (runs.size() == kept.size()) return;
    for (const pagewire::Run& r : kept) failed_.add(r.address, r.address + page_size);
    for (const pagewire::Run& r : runs) failed_.remove(r.address, r.address + r.pages * page_size);
  }
  bool once = true;
  std::uint64_t for_good = 0;
  const PageSet& failed() const { return failed_; }

 private:
  UniqueFd mem_;
  ProcessReader reader_;
  PageSet failed_;
};

}  // namespace godwit::engine
