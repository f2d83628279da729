// A borrow journal as another engine left it. The input is written over an empty one piece by piece: an offset of three
// bytes, a length of one, the bytes. What is accepted is walked over as a recovery does, and written on.
#include "agent/engine/ptrace/journal.h"
#include "common/base/check.h"
#include "tests/fuzz/fuzz.h"

#include <sys/mman.h>
#include <sys/stat.h>

namespace godwit {

using namespace engine;

namespace {

void scribble(int memory, std::string_view input) {
  while (input.size() >= 4) {
    const auto byte = [&](std::size_t i) { return static_cast<off_t>(static_cast<unsigned char>(input[i])); };
    const off_t offset = byte(0) | byte(1) << 8 | byte(2) << 16;
    const std::string_view piece = input.substr(4, static_cast<std::size_t>(byte(3)));
    pwrite_all(memory, std::as_bytes(std::span(piece)), offset);
    input.remove_prefix(4 + piece.size());
  }
}

}  // namespace

void fuzz(std::string_view input) {
  UniqueFd memory(check(::memfd_create("journal", MFD_CLOEXEC), "make a journal"));
  {
    Journal empty(UniqueFd(check(::dup(memory.get()), "dup")));
  }
  scribble(memory.get(), input);
  Journal journal(std::move(memory));
  const std::vector<Journal::Process> borrowed = journal.borrowed();
  require(journal.idle() == borrowed.empty());
  for (Journal::Process p : borrowed) {
    require(p.pid() > 0 && p.phase() != HoldPhase::idle);
    for (const KeptSignal& k : p.kept()) require(k.info.number() > 0 && k.info.number() <= 64);
    const std::size_t threads = p.threads().size();
    p.add({.tid = 1});
    require(p.threads().size() == threads + 1);
    p.end();
  }
  require(journal.idle());
  Journal::Process fresh = journal.begin(1, 2, false);
  fresh.held(3);
  fresh.add({.tid = 1});
  require(fresh.threads().size() == 1 && fresh.kept().empty() && journal.borrowed().size() == 1);
}

}  // namespace godwit
