#include "agent/engine/tasks/credentials.h"

#include <linux/capability.h>
#include <linux/securebits.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

namespace godwit::engine::tasks::credentials {
namespace {

template <class Field>
void put_set(std::uint64_t set, Field* words) {
  words->Add(static_cast<std::uint32_t>(set));
  words->Add(static_cast<std::uint32_t>(set >> 32));
}

template <class Field>
std::uint64_t get_set(const Field& words) {
  std::uint64_t set = 0;
  for (int i = 0; i < words.size() && i < 2; i++) set |= std::uint64_t{words[i]} << (32 * i);
  return set;
}

}  // namespace

void dump(const proc::Status& status, Inquiry& ask, image::CredsEntry& into) {
  into.set_uid(status.uid.real);
  into.set_gid(status.gid.real);
  into.set_euid(status.uid.effective);
  into.set_egid(status.gid.effective);
  into.set_suid(status.uid.saved);
  into.set_sgid(status.gid.saved);
  into.set_fsuid(status.uid.fs);
  into.set_fsgid(status.gid.fs);
  put_set(status.cap_inh, into.mutable_cap_inh());
  put_set(status.cap_prm, into.mutable_cap_prm());
  put_set(status.cap_eff, into.mutable_cap_eff());
  put_set(status.cap_bnd, into.mutable_cap_bnd());
  if (status.cap_amb) put_set(status.cap_amb, into.mutable_cap_amb());
  for (const std::uint32_t group : status.groups) into.add_groups(group);
  into.set_no_new_privs(status.no_new_privs);
  into.set_secbits(0);
  const std::size_t bits = ask.batch().add("read the securebits", SYS_prctl, PR_GET_SECUREBITS);
  ask.then([&into, bits](const Batch& b) { into.set_secbits(static_cast<std::uint32_t>(b.result(bits))); });
}

void restore(Batch& batch, const image::CredsEntry& from) {
  const std::vector<std::uint32_t> groups(from.groups().begin(), from.groups().end());
  batch.add("set the groups", SYS_setgroups, groups.size(), batch.put_bytes(std::as_bytes(std::span(groups))));
  // With this bit a change of uid leaves the capabilities alone.
  batch.add("prepare the securebits", SYS_prctl, PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP);
  const std::uint64_t bounding = get_set(from.cap_bnd());
  for (int cap = 0; cap <= CAP_LAST_CAP; cap++)
    if (!(bounding >> cap & 1)) batch.attempt("drop from the bounding set", SYS_prctl, PR_CAPBSET_DROP, cap);
  batch.add("set the group ids", SYS_setresgid, from.gid(), from.egid(), from.sgid());
  batch.add("set the file system's group id", SYS_setfsgid, from.fsgid());
  batch.add("set the user ids", SYS_setresuid, from.uid(), from.euid(), from.suid());
  batch.add("set the file system's user id", SYS_setfsuid, from.fsuid());
  batch.add("set the securebits", SYS_prctl, PR_SET_SECUREBITS, from.secbits());

  const std::uint64_t inheritable = get_set(from.cap_inh()), permitted = get_set(from.cap_prm()),
                      effective = get_set(from.cap_eff());
  const __user_cap_header_struct head{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct sets[2]{};
  for (int i = 0; i < 2; i++) {
    sets[i].inheritable = static_cast<std::uint32_t>(inheritable >> (32 * i));
    sets[i].permitted = static_cast<std::uint32_t>(permitted >> (32 * i));
    sets[i].effective = static_cast<std::uint32_t>(effective >> (32 * i));
  }
  const RemoteAddr head_at = batch.put(head);
  batch.add("set the capabilities", SYS_capset, head_at, batch.put_bytes(std::as_bytes(std::span(sets))));
  const std::uint64_t ambient = get_set(from.cap_amb());
  for (int cap = 0; cap <= CAP_LAST_CAP; cap++)
    if (ambient >> cap & 1)
      batch.add("raise an ambient capability", SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0);
  if (from.no_new_privs()) batch.add("forbid new privileges", SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

}  // namespace godwit::engine::tasks::credentials
