#include "common/proc/status.h"

#include "common/proc/text.h"

namespace godwit::proc {
namespace {

template <class T>
T dec(std::string_view value) {
  return Scanner("status", value).dec<T>();
}

std::uint64_t hex(std::string_view value) { return Scanner("status", value).hex<std::uint64_t>(); }

bool yes(std::string_view value) { return dec<unsigned>(value) != 0; }

FourIds four(std::string_view value) {
  Scanner scan("status", value);
  FourIds ids;
  ids.real = scan.dec<std::uint32_t>();
  ids.effective = scan.dec<std::uint32_t>();
  ids.saved = scan.dec<std::uint32_t>();
  ids.fs = scan.dec<std::uint32_t>();
  return ids;
}

template <class T>
std::vector<T> list(std::string_view value) {
  Scanner scan("status", value);
  std::vector<T> numbers;
  while (!scan.done()) numbers.push_back(scan.dec<T>());
  return numbers;
}

std::uint64_t kilobytes(std::string_view value) {
  const auto n = dec<std::uint64_t>(value);
  if (n > (UINT64_MAX >> 10)) malformed("status", value);
  return n << 10;
}

void set_queue(Status& s, std::string_view value) {
  Scanner scan("status", value);
  s.signals_queued = scan.dec<std::uint64_t>();
  scan.expect("/");
  s.signals_limit = scan.dec<std::uint64_t>();
}

void set_state(Status& s, std::string_view value) {
  if (value.empty()) malformed("status", "State:");
  s.state = value[0];
}

using Set = void (*)(Status&, std::string_view);
struct Field {
  std::string_view key;
  Set set;
};

constexpr Field fields[] = {
    {"Name", [](Status& s, std::string_view v) { s.name = v; }},
    {"Umask", [](Status& s, std::string_view v) { s.umask = Scanner("status", v).oct<std::uint32_t>(); }},
    {"State", set_state},
    {"Tgid", [](Status& s, std::string_view v) { s.tgid = dec<pid_t>(v); }},
    {"Pid", [](Status& s, std::string_view v) { s.pid = dec<pid_t>(v); }},
    {"PPid", [](Status& s, std::string_view v) { s.ppid = dec<pid_t>(v); }},
    {"TracerPid", [](Status& s, std::string_view v) { s.tracer_pid = dec<pid_t>(v); }},
    {"Uid", [](Status& s, std::string_view v) { s.uid = four(v); }},
    {"Gid", [](Status& s, std::string_view v) { s.gid = four(v); }},
    {"Groups", [](Status& s, std::string_view v) { s.groups = list<std::uint32_t>(v); }},
    {"NStgid", [](Status& s, std::string_view v) { s.ns_tgid = list<pid_t>(v); }},
    {"NSpid", [](Status& s, std::string_view v) { s.ns_pid = list<pid_t>(v); }},
    {"NSpgid", [](Status& s, std::string_view v) { s.ns_pgid = list<pid_t>(v); }},
    {"NSsid", [](Status& s, std::string_view v) { s.ns_sid = list<pid_t>(v); }},
    {"Kthread", [](Status& s, std::string_view v) { s.kernel_thread = yes(v); }},
    {"CoreDumping", [](Status& s, std::string_view v) { s.core_dumping = yes(v); }},
    {"THP_enabled", [](Status& s, std::string_view v) { s.thp_enabled = yes(v); }},
    {"Threads", [](Status& s, std::string_view v) { s.threads = dec<std::uint32_t>(v); }},
    {"VmRSS", [](Status& s, std::string_view v) { s.rss_bytes = kilobytes(v); }},
    {"VmSwap", [](Status& s, std::string_view v) { s.swap_bytes = kilobytes(v); }},
    {"SigQ", set_queue},
    {"SigPnd", [](Status& s, std::string_view v) { s.sig_pending = hex(v); }},
    {"ShdPnd", [](Status& s, std::string_view v) { s.shared_sig_pending = hex(v); }},
    {"SigBlk", [](Status& s, std::string_view v) { s.sig_blocked = hex(v); }},
    {"SigIgn", [](Status& s, std::string_view v) { s.sig_ignored = hex(v); }},
    {"SigCgt", [](Status& s, std::string_view v) { s.sig_caught = hex(v); }},
    {"CapInh", [](Status& s, std::string_view v) { s.cap_inh = hex(v); }},
    {"CapPrm", [](Status& s, std::string_view v) { s.cap_prm = hex(v); }},
    {"CapEff", [](Status& s, std::string_view v) { s.cap_eff = hex(v); }},
    {"CapBnd", [](Status& s, std::string_view v) { s.cap_bnd = hex(v); }},
    {"CapAmb", [](Status& s, std::string_view v) { s.cap_amb = hex(v); }},
    {"Mems_allowed_list", [](Status& s, std::string_view v) { s.mems_allowed = v; }},
    {"NoNewPrivs", [](Status& s, std::string_view v) { s.no_new_privs = yes(v); }},
    {"Seccomp", [](Status& s, std::string_view v) { s.seccomp = dec<std::uint32_t>(v); }},
    {"Seccomp_filters", [](Status& s, std::string_view v) { s.seccomp_filters = dec<std::uint32_t>(v); }},
    {"untag_mask",
     [](Status& s, std::string_view v) {
       Scanner scan("status", v);
       scan.expect("0x");
       s.untag_mask = scan.hex<std::uint64_t>();
     }},
};

}  // namespace

Status parse_status(std::string_view text) {
  Status status;
  bool has_uid = false;
  bool has_gid = false;
  while (const auto line = next_line(text)) {
    const std::optional<KeyValue> kv = key_value(*line);
    if (!kv) continue;
    for (const Field& field : fields)
      if (field.key == kv->key) field.set(status, kv->value);
    has_uid |= kv->key == "Uid";
    has_gid |= kv->key == "Gid";
  }
  if (!has_uid || !has_gid || status.pid <= 0 || status.tgid <= 0) malformed("status", "Pid, Tgid, Uid or Gid missing");
  return status;
}

}  // namespace godwit::proc
