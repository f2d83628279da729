// Bits of VmaEntry.status: what kind of mapping it is. CRIU's values.
#pragma once

#include <cstdint>

namespace godwit::image::vma_status {

inline constexpr std::uint32_t regular = 1u << 0;  // dumped and restored; absent for vsyscall
inline constexpr std::uint32_t stack = 1u << 1;
inline constexpr std::uint32_t vsyscall = 1u << 2;
inline constexpr std::uint32_t vdso = 1u << 3;
inline constexpr std::uint32_t heap = 1u << 5;
inline constexpr std::uint32_t file_private = 1u << 6;
inline constexpr std::uint32_t file_shared = 1u << 7;
inline constexpr std::uint32_t anon_shared = 1u << 8;
inline constexpr std::uint32_t anon_private = 1u << 9;
inline constexpr std::uint32_t sysvipc = 1u << 10;
inline constexpr std::uint32_t socket = 1u << 11;
inline constexpr std::uint32_t vvar = 1u << 12;
inline constexpr std::uint32_t aio_ring = 1u << 13;
inline constexpr std::uint32_t memfd = 1u << 14;
inline constexpr std::uint32_t shadow_stack = 1u << 15;
inline constexpr std::uint32_t guard = 1u << 16;
inline constexpr std::uint32_t uprobes = 1u << 17;

}  // namespace godwit::image::vma_status
