// What is made of the images of a task: the calls that it will run, and its extended registers. The first byte says
// whether the rest is a core ('c') or an address space ('m').
#include "agent/engine/ptrace/batch.h"
#include "agent/engine/tasks/bounds.h"
#include "agent/engine/tasks/credentials.h"
#include "agent/engine/tasks/memory_policy.h"
#include "agent/engine/tasks/process_flags.h"
#include "agent/engine/tasks/registers.h"
#include "agent/engine/tasks/scheduling.h"
#include "agent/engine/tasks/signals.h"
#include "agent/engine/tasks/thread_flags.h"
#include "agent/engine/tasks/thread_links.h"
#include "agent/engine/tasks/timers.h"
#include "common/base/error.h"
#include "common/image/core.pb.h"
#include "common/image/mm.pb.h"
#include "tests/fuzz/fuzz.h"

#include <unistd.h>

namespace godwit {

using namespace engine;
using namespace engine::tasks;

namespace {

template <class Fill>
void batch(Fill fill) {
  try {
    Batch calls(RemoteAddr{0x10000});
    fill(calls);
  } catch (const Error&) {
  }
}

void core(const image::CoreEntry& e) {
  numa::Requirements requirements(::getpid());
  batch([&](Batch& b) { signals::restore_actions(b, e.tc()); });
  batch([&](Batch& b) { signals::restore_stack(b, e.thread_core()); });
  batch([&](Batch& b) { signals::restore_queue(b, SignalQueue::process, 1, 1, e.tc().signals_s()); });
  batch([&](Batch& b) { timers::restore(b, e.tc().timers()); });
  batch([&](Batch& b) { credentials::restore(b, e.thread_core().creds()); });
  batch([&](Batch& b) { scheduling::restore(b, e.thread_core()); });
  batch([&](Batch& b) { memory_policy::restore(b, e.thread_core(), requirements); });
  batch([&](Batch& b) { thread_flags::restore(b, e.thread_core()); });
  batch([&](Batch& b) { thread_links::restore(b, e, true); });
  batch([&](Batch& b) { thread_links::restore_parent_death(b, e); });
  batch([&](Batch& b) { process_flags::restore(b, e.tc(), {}); });
  registers::restore(e.thread_info());
  for (const std::size_t size : {std::size_t{576}, std::size_t{832}, std::size_t{2696}})
    batch([&](Batch&) { require(registers::xstate_of(e.thread_info(), size).size() == size); });
}

void mm(const image::MmEntry& e) {
  batch([&](Batch& b) { bounds::restore(b, e, 3); });
  batch([&](Batch& b) { process_flags::restore(b, {}, e); });
  batch([&](Batch& b) { process_flags::restore_dumpable(b, e); });
}

template <class M>
M parsed(std::string_view bytes) {
  M message;
  message.ParsePartialFromArray(bytes.data(), static_cast<int>(bytes.size()));
  return message;
}

}  // namespace

void fuzz(std::string_view input) {
  if (input.empty()) return;
  if (input[0] == 'c') core(parsed<image::CoreEntry>(input.substr(1)));
  if (input[0] == 'm') mm(parsed<image::MmEntry>(input.substr(1)));
}

}  // namespace godwit
