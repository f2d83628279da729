// The tasks of a copy that is held by its cgroup: who they are, and whether all of them are there still.
#pragma once

#include "agent/workload/cgroup.h"
#include "agent/workload/workload.pb.h"

namespace godwit::workload {

using HeldTasks = google::protobuf::RepeatedPtrField<HeldTask>;

// As they are now, by PID. Errc::target_gone when one ends meanwhile.
HeldTasks held_tasks(const Cgroup& copy);

// None is missing, none is another one, none has lost a thread, and none has come. Zombies are not there: a task that
// is killed while it is held stays one until its parent runs.
bool all_there(const Cgroup& copy, const HeldTasks& held);

}  // namespace godwit::workload
