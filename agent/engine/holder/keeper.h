// The holder: keeps the tracker of one process from one dump to the next, where no agent does.
//
// It is an engine like any other, one thread, that sits on a socket for root only and runs the dumps of its process
// that commands hand to it. It ends when the process ends or runs another program, when nothing is tracked any more, or
// when it is dismissed. The process is known by pidfd and start time.
#pragma once

#include "agent/engine/commands/options.h"

namespace godwit::engine::holder {

int run_holder(const commands::Options& options);  // --control-fd: the listening socket

}  // namespace godwit::engine::holder
