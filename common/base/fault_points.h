// Every fault point in the code, so that a test can walk through them and a misspelt name is an error.
#pragma once

#include <array>
#include <string_view>

namespace godwit::fault {

inline constexpr auto names = std::to_array<std::string_view>({
    "test.point",
    "storage.sync",  // of a file or a directory
    "engine.hold.stopped",
    "engine.hold.seized",
    "engine.inject.scratch",
    "engine.inject.batch",
    "engine.inject.userfaultfd",
    "engine.aio.run",
    "engine.recover.aio",
    "engine.recover.unmapped",
    "engine.dump.frozen",
    "engine.dump.terminal",
    "engine.dump.state",
    "engine.dump.held",
    "engine.dump.close",  // of a file of pages
    "engine.restore.spawned",
    "engine.restore.cleared",
    "engine.restore.filled",
    "engine.restore.fds",
    "engine.restore.threads",
    "engine.restore.registers",
    "engine.restore.held",
    "agent.records.sync",
    "agent.recording.source.frozen",  // nothing of it is written, as the next ones
    "agent.recording.source.armed",
    "agent.recording.source.aborted",
    "agent.recording.source.thawed",
    "agent.recording.source.killing",
    "agent.recording.source.killed",
    "agent.recording.source.lost",
    "agent.recording.source.settled",
    "agent.recording.destination.building",
    "agent.recording.destination.prepared",
    "agent.recording.destination.refused",
    "agent.recording.destination.committed",
    "agent.recording.destination.resumed",
    "agent.recording.destination.lost",
    "agent.recording.destination.settled",
    "agent.record.source.frozen",  // written, not yet on the disk, as the next ones
    "agent.record.source.armed",
    "agent.record.source.aborted",
    "agent.record.source.thawed",
    "agent.record.source.killing",
    "agent.record.source.killed",
    "agent.record.source.lost",
    "agent.record.source.settled",
    "agent.record.destination.building",
    "agent.record.destination.prepared",
    "agent.record.destination.refused",
    "agent.record.destination.committed",
    "agent.record.destination.resumed",
    "agent.record.destination.lost",
    "agent.record.destination.settled",
    "agent.transfer.frame",
    "agent.limit.lift",
    "agent.source.frozen",
    "agent.source.armed",
    "agent.source.aborted",
    "agent.source.killing",
    "agent.destination.building",
    "agent.destination.finished",
    "agent.destination.prepared",
    "agent.destination.committed",
    "agent.destination.thawed",
    "agent.destination.resumed",
    "agent.destination.refused",
    "coordinator.surveying",  // journaled, nothing of it done, as the next ones
    "coordinator.preparing",
    "coordinator.connecting",
    "coordinator.precopy",
    "coordinator.freezing",
    "coordinator.finishing",
    "coordinator.arming",
    "coordinator.committing",
    "coordinator.killing",
    "coordinator.rolling_back",
    "coordinator.asking",
    "coordinator.done",
    "coordinator.rolled_back",
    "coordinator.undecided",
    "evacuation.begun",   // journaled, with the cordon
    "evacuation.moving",  // a migration is journaled, with its move
    "evacuation.cancelled",
    "evacuation.ended",  // journaled, with the report
});

}  // namespace godwit::fault
