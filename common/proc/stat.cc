#include "common/proc/stat.h"

#include "common/proc/text.h"

namespace godwit::proc {
namespace {

template <class T>
void take(Scanner& scan, T& field) {
  field = scan.dec<T>();
}

template <class... Fields>
void take_all(Scanner& scan, Fields&... fields) {
  (take(scan, fields), ...);
}

}  // namespace

Stat parse_stat(std::string_view text) {
  // comm is anything, ')' and blanks included: it ends at the last ')'.
  const std::size_t open = text.find('(');
  const std::size_t close = text.rfind(')');
  if (open == std::string_view::npos || close == std::string_view::npos || close < open) malformed("stat", text);

  Stat s;
  s.pid = Scanner("stat", text.substr(0, open)).dec<pid_t>();
  s.comm = text.substr(open + 1, close - open - 1);

  std::string_view fields = text.substr(close + 1);
  Scanner scan("stat", fields.substr(0, fields.find('\n')));
  const std::string_view state = scan.word();
  if (state.size() != 1) scan.bad();
  s.state = state[0];
  take_all(scan, s.ppid, s.pgid, s.sid, s.tty, s.tpgid, s.flags, s.minflt, s.cminflt, s.majflt, s.cmajflt, s.utime,
           s.stime, s.cutime, s.cstime, s.priority, s.nice, s.num_threads, s.itrealvalue, s.start_time, s.vsize, s.rss,
           s.rsslim, s.start_code, s.end_code, s.start_stack, s.kstkesp, s.kstkeip, s.signal, s.blocked, s.sigignore,
           s.sigcatch, s.wchan, s.nswap, s.cnswap, s.exit_signal, s.processor, s.rt_priority, s.policy,
           s.delayacct_blkio_ticks, s.guest_time, s.cguest_time, s.start_data, s.end_data, s.start_brk, s.arg_start,
           s.arg_end, s.env_start, s.env_end, s.exit_code);
  return s;
}

}  // namespace godwit::proc
