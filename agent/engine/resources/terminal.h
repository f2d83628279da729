// Pseudo terminals: open files of their masters and slaves, and /dev/tty (TtyFileEntry); what the terminals are
// (TtyInfoEntry, TtyDataEntry). terminal_restore.h is the other half.
//
// A terminal whose master is outside of the tree stays where it is. With --shell-job its settings are carried, and a
// restore opens another terminal in its place: one, so that it is clear which. What is queued in it stays with it.
#pragma once

#include "agent/engine/resources/fd_kind.h"

namespace godwit::engine::resources::terminal {

bool matches(const FdView& view);
std::optional<Refusal> refusal(const FdView& view, SurveyContext& context);
void dump(const FdView& view, image::FileEntry& entry, DumpContext& context);

// The controlling terminal of the context's task, which may have no descriptor of it.
std::optional<Refusal> controlling_refusal(const proc::Stat& stat, const SurveyContext& context);

// Which end the tree holds: added to `held`.
void add_held(const FdView& view, std::map<std::string, unsigned>& held);

// Those that the tree has open, or is controlled by, and whose masters are not in `held`: by number.
std::set<unsigned> outer_of(std::span<const pid_t> tree, const std::map<std::string, unsigned>& held);

// Settings, size, locks of settings and exclusive use of a terminal, of any kind; and back.
image::TtyInfoEntry state_of(int fd);
void set_state(int fd, const image::TtyInfoEntry& info);

// Once all descriptors are described: the terminals behind them. `tree`: host PIDs.
void dump_terminals(const TerminalsMet& met, const std::vector<pid_t>& tree, image::ImageSet& out);

}  // namespace godwit::engine::resources::terminal
