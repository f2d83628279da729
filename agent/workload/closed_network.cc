#include "agent/workload/closed_network.h"

#include "common/base/check.h"

#include <linux/bpf.h>

#include <array>
#include <cstddef>
#include <cstring>
#include <string_view>
#include <vector>

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <linux/if_ether.h>
#include <netinet/in.h>

namespace godwit::workload {
namespace {

constexpr char program_name[] = "godwit_closed";  // at most 15 characters
constexpr unsigned most_programs = 64;

// What the program says of a packet. A drop without the second bit would be an EPERM for its sender.
constexpr int pass = 1, drop = 2;

constexpr int fin_or_rst = 0x05;

constexpr bpf_insn instruction(int code, int to, int from, int offset, int number) {
  return {.code = static_cast<__u8>(code),
          .dst_reg = static_cast<__u8>(to & 15),
          .src_reg = static_cast<__u8>(from & 15),
          .off = static_cast<__s16>(offset),
          .imm = number};
}
constexpr bpf_insn set(int to, int number) { return instruction(BPF_ALU64 | BPF_MOV | BPF_K, to, 0, 0, number); }
constexpr bpf_insn copy(int to, int from) { return instruction(BPF_ALU64 | BPF_MOV | BPF_X, to, from, 0, 0); }
constexpr bpf_insn compute(int operation, int to, int number) {
  return instruction(BPF_ALU64 | operation | BPF_K, to, 0, 0, number);
}
constexpr bpf_insn add(int to, int from) { return instruction(BPF_ALU64 | BPF_ADD | BPF_X, to, from, 0, 0); }
constexpr bpf_insn load(int size, int to, int from, int offset) {
  return instruction(BPF_LDX | size | BPF_MEM, to, from, offset, 0);
}
// Jumps over `skipped` instructions when register `to` compares so with a number, or with another register.
constexpr bpf_insn jump(int condition, int to, int number, int skipped) {
  return instruction(BPF_JMP | condition | BPF_K, to, 0, skipped, number);
}
constexpr bpf_insn jump_by(int condition, int to, int from, int skipped) {
  return instruction(BPF_JMP | condition | BPF_X, to, from, skipped, 0);
}
constexpr bpf_insn go(int skipped) { return instruction(BPF_JMP | BPF_JA, 0, 0, skipped, 0); }
constexpr bpf_insn call(int helper) { return instruction(BPF_JMP | BPF_CALL, 0, 0, 0, helper); }
constexpr bpf_insn leave() { return instruction(BPF_JMP | BPF_EXIT, 0, 0, 0, 0); }

// Registers 6 and up survive calls: 6 the packet, which begins with its IP header; 7 where TCP's header begins.
std::vector<bpf_insn> program() {
  std::vector<bpf_insn> code;
  std::vector<std::size_t> to_drop;  // jumps whose target is the end
  const auto put = [&](bpf_insn i) { code.push_back(i); };
  const auto or_drop = [&](bpf_insn i) {
    to_drop.push_back(code.size());
    code.push_back(i);
  };
  const auto read_byte_at_r2 = [&] {
    put(copy(1, 6));
    put(copy(3, 10));
    put(compute(BPF_ADD, 3, -8));
    put(set(4, 1));
    put(call(BPF_FUNC_skb_load_bytes));
    or_drop(jump(BPF_JNE, 0, 0, 0));
    put(load(BPF_B, 8, 10, -8));
  };

  put(copy(6, 1));
  put(load(BPF_W, 8, 6, offsetof(__sk_buff, protocol)));
  const std::size_t to_ipv6 = code.size();
  put(jump(BPF_JEQ, 8, htons(ETH_P_IPV6), 0));
  or_drop(jump(BPF_JNE, 8, htons(ETH_P_IP), 0));

  put(set(2, 9));  // IPv4: protocol
  read_byte_at_r2();
  or_drop(jump(BPF_JNE, 8, IPPROTO_TCP, 0));
  put(set(2, 0));  // length of the header, in words
  read_byte_at_r2();
  put(compute(BPF_AND, 8, 15));
  put(compute(BPF_LSH, 8, 2));
  put(copy(7, 8));
  const std::size_t to_tcp = code.size();
  put(go(0));

  code[to_ipv6].off = static_cast<__s16>(code.size() - to_ipv6 - 1);
  put(set(2, 6));  // IPv6: next header
  read_byte_at_r2();
  or_drop(jump(BPF_JNE, 8, IPPROTO_TCP, 0));
  put(set(7, 40));

  code[to_tcp].off = static_cast<__s16>(code.size() - to_tcp - 1);
  put(copy(2, 7));
  put(compute(BPF_ADD, 2, 13));  // flags
  read_byte_at_r2();
  put(compute(BPF_AND, 8, fin_or_rst));
  or_drop(jump(BPF_JNE, 8, 0, 0));
  put(copy(2, 7));
  put(compute(BPF_ADD, 2, 12));  // length of the header, in words, in the upper half
  read_byte_at_r2();
  put(compute(BPF_RSH, 8, 4));
  put(compute(BPF_LSH, 8, 2));
  put(add(8, 7));
  put(load(BPF_W, 1, 6, offsetof(__sk_buff, len)));
  or_drop(jump_by(BPF_JNE, 1, 8, 0));  // data
  put(set(0, pass));
  put(leave());

  for (const std::size_t jump : to_drop) code[jump].off = static_cast<__s16>(code.size() - jump - 1);
  put(set(0, drop));
  put(leave());
  return code;
}

// Ours at this cgroup, if there is one.
UniqueFd find_program(const Cgroup& cgroup) {
  std::array<__u32, most_programs> ids{};
  __u32 count = ids.size(), flags = 0;
  if (::bpf_prog_query(cgroup.dir(), BPF_CGROUP_INET_EGRESS, 0, &flags, ids.data(), &count) != 0) {
    // Nobody can have closed what nobody can; a removed cgroup has no network.
    if (errno == EPERM || errno == ENOSYS || errno == EINVAL || errno == ENODEV || errno == ENOENT) return {};
    throw syscall_error(errno, fmt::format("look at the programs of {}", cgroup.path()));
  }
  for (__u32 i = 0; i < count; i++) {
    UniqueFd program(::bpf_prog_get_fd_by_id(ids[i]));
    bpf_prog_info info{};
    __u32 size = sizeof info;
    if (program && ::bpf_obj_get_info_by_fd(program.get(), &info, &size) == 0 &&
        std::string_view(info.name) == program_name)
      return program;
  }
  return {};
}

}  // namespace

void close_network(const Cgroup& cgroup) {
  const std::vector<bpf_insn> code = program();
  bpf_prog_load_opts options{};
  options.sz = sizeof options;
  options.expected_attach_type = BPF_CGROUP_INET_EGRESS;
  const UniqueFd loaded(
      ::bpf_prog_load(BPF_PROG_TYPE_CGROUP_SKB, program_name, "Apache-2.0", code.data(), code.size(), &options));
  if (!loaded)
    fail(Errc::kernel_missing, "a program that closes the network of {} cannot be loaded: {}", cgroup.path(),
         std::strerror(errno));
  const int attached = ::bpf_prog_attach(loaded.get(), cgroup.dir(), BPF_CGROUP_INET_EGRESS, BPF_F_ALLOW_MULTI);
  if (attached != 0 && errno == EPERM)  // a program further up suffers no others
    fail(Errc::kernel_missing, "another program at a cgroup above {} suffers none that closes its network",
         cgroup.path());
  check(attached, "close the network of {}", cgroup.path());
}

std::string why_network_stays_open(const std::string& root) {
  const Cgroup tried = Cgroup::create(root + "/network");
  std::string why;
  try {
    close_network(tried);
  } catch (const Error& e) {
    why = e.message();
  }
  tried.remove();
  return why;
}

void open_network(const Cgroup& cgroup) {
  while (const UniqueFd program = find_program(cgroup))
    check(::bpf_prog_detach2(program.get(), cgroup.dir(), BPF_CGROUP_INET_EGRESS), "open the network of {}",
          cgroup.path());
}

bool network_closed(const Cgroup& cgroup) { return static_cast<bool>(find_program(cgroup)); }

}  // namespace godwit::workload
