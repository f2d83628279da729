#include "agent/engine/restore/family.h"

#include "agent/engine/ptrace/tracing.h"
#include "agent/engine/resources/pseudo_terminal.h"
#include "common/base/check.h"
#include "common/base/log.h"
#include "common/image/core.pb.h"
#include "common/image/tty.pb.h"

#include <algorithm>
#include <csignal>
#include <ranges>

#include <fcntl.h>
#include <linux/sched.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

namespace godwit::engine {
namespace {

// The parent's wait for a child that we have seen end as its tracer.
void reap(Skeleton& parent, const std::vector<pid_t>& child) {
  parent.leader().call("wait for a child", SYS_wait4, parent.name_here(child), 0, __WALL, 0);
}

void drop_signal(Skeleton& process, int number) {
  Batch batch(process.scratch());
  const RemoteAddr set = batch.put(signal_bit(number)), no_time = batch.put(timespec{});
  batch.attempt("take a signal", SYS_rt_sigtimedwait, set, 0, no_time, sizeof(std::uint64_t));
  process.leader().run(batch);
}

// What a child's end has put into the parent's queue is not the program's.
void drop_child_signal(Skeleton& parent) { drop_signal(parent, SIGCHLD); }

// One request to a terminal, with a value or (RemoteAddr) without. All signals are blocked, so that none stops it.
template <class Value>
void at_terminal(Skeleton& process, const std::string& path, std::string_view what, unsigned long request,
                 Value value) {
  Batch batch(process.scratch());
  const std::size_t open = batch.add(fmt::format("open {}", path), SYS_openat, AT_FDCWD,
                                     batch.put(std::string_view(path)), O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC, 0);
  process.leader().run(batch);
  const long fd = batch.result(open);
  batch.clear();
  if constexpr (std::is_same_v<Value, RemoteAddr>)
    batch.add(what, SYS_ioctl, fd, request, 0);
  else
    batch.add(what, SYS_ioctl, fd, request, batch.put(value));
  batch.add("close it", SYS_close, fd);
  process.leader().run(batch);
}

void set_group(Skeleton& process, const std::vector<pid_t>& group) {
  const pid_t name = process.name_here(group);
  if (name == 0)
    fail(Errc::unsupported, "process {} is in process group {}, from outside of its PID namespace", process.guest_pid(),
         group.front());
  process.leader().call("join a process group", SYS_setpgid, 0, name);
}

}  // namespace

Family::~Family() {
  while (!order_.empty()) {
    members_.erase(order_.back());
    order_.pop_back();
  }
}

void Family::set_plan(TreePlan plan) {
  if (!plan_.empty() && plan_.front().pid != plan.front().pid)
    fail(Errc::protocol, "the tree of process {} has become that of process {}", plan_.front().pid, plan.front().pid);
  plan_ = std::move(plan);
  place_.clear();
  for (std::size_t i = 0; i < plan_.size(); i++) place_.emplace(plan_[i].pid, i);
  nested_ = std::ranges::any_of(plan_, &ProcessPlan::makes_namespace);
  remove_strangers();
}

// Of whom the source has sent no memory it does not tell when they end: leaders of sessions and groups that were
// zombies, or not looked at yet, and were made since others needed them.
void Family::remove_strangers() {
  const std::vector<pid_t> born = order_;
  for (const pid_t pid : born)
    if (find(pid) && (!in_plan(pid) || planned(pid).ppid != members_.at(pid).maker)) remove(pid);
}

const ProcessPlan& Family::planned(pid_t pid) const {
  const auto it = place_.find(pid);
  if (it == place_.end()) fail(Errc::image_corrupt, "process {} is not in pstree.img", pid);
  return plan_[it->second];
}

bool Family::in_plan(pid_t pid) const { return place_.contains(pid); }

// A session or group that the root has come from, and whose leader stays behind, is the root's own here.
pid_t Family::session_of(const ProcessPlan& p) const {
  const ProcessPlan& root = plan_.front();
  if (p.sid != root.sid) return p.sid;
  return job_.in_session ? callers : root.pid;
}

pid_t Family::group_of(pid_t group) const {
  const ProcessPlan& root = plan_.front();
  if (group == root.pid) return group;
  if (job_.in_session && (group == root.pgid || group == root.sid)) return callers;
  return group == root.pgid ? root.pid : group;
}

// Of a process or group, in all PID namespaces that have it. A group whose leader has ended is known by its members.
std::vector<pid_t> Family::names_of(pid_t number) const {
  if (!nested_) return {number};
  if (in_plan(number)) return planned(number).names_of(number);
  std::vector<pid_t> names{number};
  for (const ProcessPlan& p : plan_)
    if (p.pgid == number && p.names_of(number).size() > names.size()) names = p.names_of(number);
  return names;
}

// Of a terminal that some process is controlled by, for that process.
std::string Family::path_of(int terminal) const {
  return terminal == job_.terminal ? "/dev/tty" : resources::pseudo_terminal::path_of(static_cast<unsigned>(terminal));
}

Skeleton* Family::find(pid_t pid) const {
  const auto it = members_.find(pid);
  return it == members_.end() ? nullptr : it->second.skeleton.get();
}

Skeleton& Family::of(pid_t pid) const {
  Skeleton* found = find(pid);
  if (!found) fail(Errc::image_corrupt, "nothing is known of the memory of process {}", pid);
  return *found;
}

Family::Member& Family::member(pid_t pid) {
  of(pid);  // it is there
  return members_.at(pid);
}

Skeleton& Family::add(pid_t pid, std::unique_ptr<Skeleton> skeleton, pid_t maker, pid_t session, pid_t group) {
  order_.push_back(pid);
  Member& m = members_[pid];
  m = {.skeleton = std::move(skeleton), .maker = maker, .session = session, .group = group};
  return *m.skeleton;
}

std::unique_ptr<Skeleton> Family::spawn(pid_t pid, const Vmas& layout) {
  const bool root = pid == plan_.front().pid;
  return std::make_unique<Skeleton>(
      helper_,
      SpawnRequest{.pid = pid, .scratch = 0, .sibling = root && sibling_, .own_session = !root || !job_.in_session},
      layout, segments_);
}

Skeleton& Family::make(pid_t pid, const Vmas& layout) {
  const ProcessPlan& p = planned(pid);
  if (&p == &plan_.front() && job_.in_session) {
    Skeleton& made = add(pid, spawn(pid, layout), 0, callers, callers);
    return job_.controlled ? inherited(pid, job_.terminal) : made;
  }
  if (p.ppid == 0) {
    if (&p == &plan_.front() || session_of(p) == pid) {
      Skeleton& made = add(pid, spawn(pid, layout), 0, pid, pid);
      take_terminal(pid);
      return made;
    }
    return make_orphan(p, layout);
  }
  Skeleton& parent = of(p.ppid);
  const pid_t session = session_of(p);
  if (session != pid && session == p.ppid) lead_session(p.ppid);
  const Member& maker = members_.at(p.ppid);
  const pid_t born_into = maker.session;
  if (session != pid && session != born_into)
    fail(Errc::unsupported, "process {} is in session {}, its parent {} in {}", pid, session, p.ppid, born_into);
  if (p.makes_namespace()) enter_outer_group(p);
  const std::uint64_t shared = (p.with_files ? CLONE_FILES : 0u) | (p.with_fs ? CLONE_FS : 0u) |
                               (p.memory_of != 0 ? CLONE_VM : 0u) | (p.with_handlers ? CLONE_SIGHAND : 0u);
  add(pid, std::make_unique<Skeleton>(parent, p.names_of(pid), layout, segments_, shared), p.ppid, born_into,
      maker.group);
  return inherited(pid, maker.terminal);
}

// Others need it. Its layout is still to come, or it has ended and nobody has waited for it.
void Family::make_early(pid_t pid) {
  if (find(pid)) return;
  if (const pid_t memory_of = planned(pid).memory_of; memory_of != 0)
    fail(Errc::unsupported, "process {} uses the memory of process {} and would have to be there before that is whole",
         pid, memory_of);
  constexpr std::size_t most = 1000;  // one calls for the next, on our stack
  if (early_.size() == most || !early_.insert(pid).second)
    fail(Errc::image_corrupt, "process {} would have to be there before it is made", pid);
  if (const pid_t parent = planned(pid).ppid; parent != 0) make_early(parent);
  if (!find(pid)) make(pid, {});  // not by its parent, either
  early_.erase(pid);
}

// An orphan comes from somebody of its session, by way of a stand-in.
Skeleton* Family::maker_of(pid_t pid) const {
  const ProcessPlan& p = planned(pid);
  if (p.ppid != 0) return find(p.ppid);
  const pid_t session = session_of(p);
  if (&p == &plan_.front() || session == pid) return nullptr;
  Skeleton* const relative = anybody_in(session, p.terminal);
  return relative ? relative : find(session);  // who leads it from then on
}

// A group from outside of its namespace cannot be joined from inside.
void Family::enter_outer_group(const ProcessPlan& init) {
  const pid_t group = group_of(init.pgid);
  if (group == init.pid || init.names_of(init.pgid).size() == init.names_of(init.pid).size()) return;
  if (members_.at(init.ppid).group == group) return;
  if (group == callers) fail(Errc::unsupported, "nobody can bear process {} in our process group", init.pid);
  Doing doing("process group {}, for a PID namespace", group);
  make_early(group);
  join(group, group);
  join(init.ppid, group);
}

// Of the tree's own PID namespace.
Skeleton* Family::anybody_in(pid_t session, int terminal) const {
  for (const auto& [pid, member] : members_)
    if (member.session == session && member.skeleton->names().size() == 1 &&
        (terminal < 0 || member.terminal == terminal))
      return member.skeleton.get();
  return nullptr;
}

Skeleton* Family::anybody_at(int terminal) const {
  for (const auto& [pid, member] : members_)
    if (member.terminal == terminal) return member.skeleton.get();
  return nullptr;
}

// Born in its session, as the child of somebody who then ends.
Skeleton& Family::make_orphan(const ProcessPlan& p, const Vmas& layout) {
  const pid_t session = session_of(p);
  if (in_plan(session)) {
    if (session_of(planned(session)) != session)
      fail(Errc::image_corrupt, "process {} is in session {}, which nobody leads", p.pid, session);
    make_early(session);
    lead_session(session);
  }
  // Also where the leader has ended: as long as somebody is in the session its number is taken.
  if (Skeleton* const relative = anybody_in(session, p.terminal)) {
    const Member& from = members_.at(relative->guest_pid());
    std::unique_ptr<Skeleton> parent = stand_in(*relative, layout);
    add(p.pid, std::make_unique<Skeleton>(*parent, p.names_of(p.pid), layout, segments_), 0, session, from.group);
    end_stand_in(std::move(parent), *relative);
    return inherited(p.pid, from.terminal);
  }
  std::unique_ptr<Skeleton> leader = spawn(session, layout);
  Skeleton& made =
      add(p.pid, std::make_unique<Skeleton>(*leader, p.names_of(p.pid), layout, segments_), 0, session, session);
  leader.reset();
  helper_.reap(session);
  return made;
}

// With a PID that nobody needs: below the helper's, which is from the upper end.
std::unique_ptr<Skeleton> Family::stand_in(Skeleton& parent, const Vmas& layout) {
  const std::vector<pid_t> taken = ids_of(plan_);
  for (pid_t pid = helper_.guest_pid() - 1; pid > helper_.guest_pid() - 1000; pid--) {
    if (std::ranges::find(taken, pid) != taken.end()) continue;
    try {
      return std::make_unique<Skeleton>(parent, std::vector{pid}, layout, segments_);
    } catch (const Error& e) {
      if (e.errc() != Errc::already_exists) throw;
    }
  }
  fail(Errc::internal, "no PID is free for a stand-in");
}

void Family::end_stand_in(std::unique_ptr<Skeleton> stand_in, Skeleton& parent) {
  const std::vector<pid_t> names = stand_in->names();
  stand_in.reset();
  reap(parent, names);
  drop_child_signal(parent);
}

void Family::remove(pid_t pid) {
  const auto it = members_.find(pid);
  if (it == members_.end()) return;
  const std::vector<pid_t> born = order_;
  for (const pid_t child : born | std::views::reverse)
    if (find(child) && members_.at(child).maker == pid) remove(child);
  const pid_t maker = it->second.maker;
  const std::vector<pid_t> names = it->second.skeleton->names();
  std::erase(order_, pid);
  members_.erase(it);
  if (Skeleton* parent = find(maker)) {
    reap(*parent, names);
    drop_child_signal(*parent);
  } else {
    helper_.reap(pid);
  }
}

void Family::lead_session(pid_t pid) {
  Member& m = member(pid);
  if (m.session == pid) return;
  for (const ProcessPlan& p : plan_)  // later nobody could be born into the session that it leaves
    if (p.ppid == pid && session_of(p) != pid && session_of(p) != p.pid) make_early(p.pid);
  m.skeleton->leader().call("lead a session", SYS_setsid);
  m.session = m.group = pid;
  m.terminal = -1;
  take_terminal(pid);
}

// Whoever is born to it from then on has it, too.
void Family::take_terminal(pid_t pid) {
  Member& m = members_.at(pid);
  const int terminal = planned(pid).terminal;
  if (terminal < 0 || m.session != pid) return;
  Doing doing("the controlling terminal of process {}", pid);
  helper_.make_terminal(terminal);
  at_terminal(*m.skeleton, path_of(terminal), "take a terminal", TIOCSCTTY, RemoteAddr{0});
  m.terminal = terminal;
}

// After its birth to somebody with this terminal.
Skeleton& Family::inherited(pid_t pid, int terminal) {
  Member& m = members_.at(pid);
  const ProcessPlan& p = planned(pid);
  const int wanted = session_of(p) == pid ? terminal : p.terminal;  // who is to lead a session loses it then
  m.terminal = terminal;
  if (wanted == terminal) return *m.skeleton;
  if (wanted >= 0)
    fail(Errc::image_corrupt, "process {} has a controlling terminal that it cannot have from anybody", pid);
  at_terminal(*m.skeleton, path_of(terminal), "give up a terminal", TIOCNOTTY, RemoteAddr{0});
  m.terminal = -1;
  return *m.skeleton;
}

void Family::set_foreground(const image::ImageSet& images) {
  for (const auto& info : images.records<image::TtyInfoEntry>(image::Kind::tty_info)) {
    if (info.type() != image::TTY_PTY || info.sid() == 0 || info.pgrp() == 0) continue;
    Skeleton* const leader = find(static_cast<pid_t>(info.sid()));
    const int terminal = static_cast<int>(info.pty().index());
    if (terminal == job_.terminal) continue;  // whoever asked for this has it
    if (!leader || members_.at(leader->guest_pid()).terminal != terminal) continue;
    const auto group = static_cast<pid_t>(info.pgrp());
    if (!std::ranges::any_of(plan_, [&](const ProcessPlan& p) { return p.pgid == group && !p.dead; })) {
      log::warn(
          "restore.notice",
          {{"what", fmt::format("process group {}, in the foreground of /dev/pts/{}, has ended", group, terminal)}});
      continue;
    }
    at_terminal(*leader, path_of(terminal), "bring a process group to the foreground", TIOCSPGRP,
                leader->name_here(names_of(group)));
  }
}

void Family::drop_window_signals() {
  for (const auto& [pid, member] : members_)
    if (member.terminal >= 0) drop_signal(*member.skeleton, SIGWINCH);
}

void Family::join(pid_t pid, pid_t group) {
  Member& m = member(pid);
  if (m.group == group) return;
  set_group(*m.skeleton, names_of(group));
  m.group = group;
}

// Groups whose leader went on to another one.
void Family::join_left_groups() {
  for (const ProcessPlan& p : plan_) {
    const pid_t group = group_of(p.pgid);
    if (!in_plan(group) || group_of(planned(group).pgid) == group) continue;
    join(group, group);
    join(p.pid, group);
  }
}

void Family::join_groups() {
  join_left_groups();
  std::map<pid_t, std::vector<pid_t>> groups;
  for (const ProcessPlan& p : plan_) groups[group_of(p.pgid)].push_back(p.pid);
  for (const auto& [group, members] : groups) {
    if (group == callers) continue;  // born there
    Doing doing("process group {}", group);
    std::unique_ptr<Skeleton> leader;
    Skeleton* maker = nullptr;  // of the leader, in the same PID namespace
    const bool there = std::ranges::any_of(members, [&](pid_t pid) { return member(pid).group == group; });
    if (!in_plan(group) && !there) {
      const std::vector<pid_t> names = names_of(group);
      for (const pid_t pid : members)
        if (maker = &of(pid); maker->names().size() == names.size()) break;
      leader = std::make_unique<Skeleton>(*maker, names, Vmas{}, segments_);
      set_group(*leader, names);
    } else if (std::ranges::find(members, group) != members.end()) {
      join(group, group);
    }
    for (const pid_t pid : members) join(pid, group);
    if (leader) end_stand_in(std::move(leader), *maker);
  }
}

// Zombies that are children of an init were waited for by it.
void Family::end_dead(const image::ImageSet& images) {
  for (const ProcessPlan& p : plan_) {
    if (!p.dead) continue;
    const auto& core = images.view<image::CoreEntry>(image::Kind::core, static_cast<std::uint64_t>(p.pid));
    Skeleton& dead = of(p.pid);
    Batch batch(dead.scratch());
    batch.add("set the name", SYS_prctl, PR_SET_NAME, batch.put(std::string_view(core.tc().comm())));
    dead.leader().run(batch);
    dead.end(static_cast<int>(core.tc().exit_code()));
    std::erase(order_, p.pid);
    members_.erase(p.pid);
    if (Skeleton* parent = find(p.ppid)) drop_child_signal(*parent);
  }
}

void Family::settle(const image::ImageSet& images) {
  check_ends(images, plan_);
  check_locks(images, plan_);
  for (const ProcessPlan& p : plan_)
    if (!find(p.pid) && (p.dead || p.memory_of != 0)) make(p.pid, {});
  for (const ProcessPlan& p : plan_)
    if (p.pid == session_of(p)) lead_session(p.pid);
  join_groups();
  set_foreground(images);
  end_dead(images);
}

}  // namespace godwit::engine
