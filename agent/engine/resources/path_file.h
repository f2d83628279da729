// What files with a path have in common: whether the path still leads to the file, its record, opening it again.
// And the three kinds that need nothing more: directories, devices without state, O_PATH descriptors.
#pragma once

#include "agent/engine/resources/fd_kind.h"

namespace godwit::engine::resources::path_file {

// No name leads to the file any more.
bool deleted(const FdView& view);

// Where to find a path that /proc shows for a task: its mounts and its root decide what the path means.
// Errc::target_gone when it has ended.
std::string reach(pid_t pid, const std::string& path);

// The path leads to another file, or nowhere, below the root of the task.
std::optional<Refusal> refuse_lost_path(const FdView& view, const SurveyContext& context);
// A file of procfs that is another process's, or has a state of its own.
std::optional<Refusal> refuse_process_file(const FdView& view, const SurveyContext& context);

image::RegFileEntry describe(const FdView& view, std::uint32_t id);
UniqueFd open(const image::RegFileEntry& entry, const std::string& path);

// Files whose name is no path: message queues, secret memory, buffers of devices.
bool is_pseudo(const FdView& view);

bool is_directory(const FdView& view);
bool is_device(const FdView& view);     // /dev/null, zero, full, random, urandom
bool is_path_only(const FdView& view);  // O_PATH, of whatever

std::optional<Refusal> refusal(const FdView& view, SurveyContext& context);
// Also one that tells a process of changes: who has asked for that is its owner, which nothing else makes use of.
std::optional<Refusal> directory_refusal(const FdView& view, SurveyContext& context);
void dump(const FdView& view, image::FileEntry& entry, DumpContext& context);

}  // namespace godwit::engine::resources::path_file
