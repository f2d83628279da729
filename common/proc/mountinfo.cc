#include "common/proc/mountinfo.h"

#include "common/proc/text.h"

#include <sys/sysmacros.h>

namespace godwit::proc {

Mount parse_mount(std::string_view line) {
  Scanner scan("mountinfo", line);
  Mount mount;
  mount.id = scan.dec<std::int64_t>();
  mount.parent = scan.dec<std::int64_t>();
  const auto major_number = scan.dec<unsigned>();
  scan.expect(":");
  mount.dev = ::makedev(major_number, scan.dec<unsigned>());
  mount.root = unescape_octal(scan.word());
  mount.point = unescape_octal(scan.word());
  mount.options = unescape_octal(scan.word());
  for (std::string_view field = scan.word(); field != "-"; field = scan.word()) mount.propagation.emplace_back(field);
  mount.type = unescape_octal(scan.word());
  // An empty source is printed as nothing at all, between two blanks.
  const std::string_view last = scan.rest();
  const std::size_t blank = last.find(' ');
  if (blank == std::string_view::npos) {
    mount.super_options = unescape_octal(last);
    return mount;
  }
  mount.source = unescape_octal(last.substr(0, blank));
  mount.super_options = unescape_octal(last.substr(blank + 1));
  return mount;
}

std::vector<Mount> parse_mountinfo(std::string_view text) {
  std::vector<Mount> mounts;
  while (const auto line = next_line(text)) mounts.push_back(parse_mount(*line));
  return mounts;
}

}  // namespace godwit::proc
