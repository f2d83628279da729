// What cpuinfo.img says of a processor, word by word, as CRIU numbers them, and the instructions in it: what a program
// may have found there and use from then on. CRIU's list, but for two things. What no program can execute (MWAIT, TME)
// is left out: a virtual machine hides it. What is missing there (FMA, AVX512IFMA, CLWB, AMX, ...) is in.
#pragma once

#include <array>
#include <cstddef>
#include <string_view>

namespace godwit::engine::commands {

enum class Register { eax, ebx, ecx, edx };

// Where the processor says a word. Words that a kernel makes up are 0.
struct CpuWord {
  std::size_t index;
  unsigned leaf, subleaf;
  Register in;
};
inline constexpr std::array cpu_words{
    CpuWord{0, 1, 0, Register::edx},           CpuWord{1, 0x80000001, 0, Register::edx},
    CpuWord{4, 1, 0, Register::ecx},           CpuWord{6, 0x80000001, 0, Register::ecx},
    CpuWord{9, 7, 0, Register::ebx},           CpuWord{10, 0xd, 1, Register::eax},
    CpuWord{11, 7, 0, Register::ecx},          CpuWord{12, 0xf, 1, Register::edx},
    CpuWord{13, 0x80000008, 0, Register::ebx}, CpuWord{14, 6, 0, Register::eax},
    CpuWord{15, 0x8000000a, 0, Register::edx}, CpuWord{16, 0xf, 0, Register::edx},
    CpuWord{17, 0x80000007, 0, Register::ebx}, CpuWord{18, 7, 0, Register::edx},
};
inline constexpr std::size_t cpu_word_count = 19;
inline constexpr unsigned cpu_words_version = 2;  // CpuinfoX86Entry.capability_ver; version 1 has the first 12 words

// Names are those of /proc/cpuinfo.
struct Instruction {
  std::size_t word;
  unsigned bit;
  std::string_view name;
};
inline constexpr std::array instructions{
    Instruction{0, 0, "fpu"},
    Instruction{0, 4, "tsc"},
    Instruction{0, 8, "cx8"},
    Instruction{0, 11, "sep"},
    Instruction{0, 15, "cmov"},
    Instruction{0, 19, "clflush"},
    Instruction{0, 23, "mmx"},
    Instruction{0, 24, "fxsr"},
    Instruction{0, 25, "sse"},
    Instruction{0, 26, "sse2"},

    Instruction{1, 11, "syscall"},
    Instruction{1, 22, "mmxext"},
    Instruction{1, 27, "rdtscp"},
    Instruction{1, 30, "3dnowext"},
    Instruction{1, 31, "3dnow"},

    Instruction{4, 0, "pni"},
    Instruction{4, 1, "pclmulqdq"},
    Instruction{4, 9, "ssse3"},
    Instruction{4, 12, "fma"},
    Instruction{4, 13, "cx16"},
    Instruction{4, 19, "sse4_1"},
    Instruction{4, 20, "sse4_2"},
    Instruction{4, 22, "movbe"},
    Instruction{4, 23, "popcnt"},
    Instruction{4, 25, "aes"},
    Instruction{4, 26, "xsave"},
    Instruction{4, 27, "osxsave"},
    Instruction{4, 28, "avx"},
    Instruction{4, 29, "f16c"},
    Instruction{4, 30, "rdrand"},

    Instruction{6, 5, "abm"},
    Instruction{6, 6, "sse4a"},
    Instruction{6, 7, "misalignsse"},
    Instruction{6, 8, "3dnowprefetch"},
    Instruction{6, 11, "xop"},
    Instruction{6, 16, "fma4"},
    Instruction{6, 21, "tbm"},

    Instruction{9, 0, "fsgsbase"},
    Instruction{9, 3, "bmi1"},
    Instruction{9, 4, "hle"},
    Instruction{9, 5, "avx2"},
    Instruction{9, 8, "bmi2"},
    Instruction{9, 9, "erms"},
    Instruction{9, 11, "rtm"},
    Instruction{9, 14, "mpx"},
    Instruction{9, 16, "avx512f"},
    Instruction{9, 17, "avx512dq"},
    Instruction{9, 18, "rdseed"},
    Instruction{9, 19, "adx"},
    Instruction{9, 21, "avx512ifma"},
    Instruction{9, 23, "clflushopt"},
    Instruction{9, 24, "clwb"},
    Instruction{9, 26, "avx512pf"},
    Instruction{9, 27, "avx512er"},
    Instruction{9, 28, "avx512cd"},
    Instruction{9, 29, "sha_ni"},
    Instruction{9, 30, "avx512bw"},
    Instruction{9, 31, "avx512vl"},

    Instruction{10, 0, "xsaveopt"},
    Instruction{10, 1, "xsavec"},
    Instruction{10, 2, "xgetbv1"},

    Instruction{11, 1, "avx512vbmi"},
    Instruction{11, 5, "waitpkg"},
    Instruction{11, 6, "avx512_vbmi2"},
    Instruction{11, 8, "gfni"},
    Instruction{11, 9, "vaes"},
    Instruction{11, 10, "vpclmulqdq"},
    Instruction{11, 11, "avx512_vnni"},
    Instruction{11, 12, "avx512_bitalg"},
    Instruction{11, 14, "avx512_vpopcntdq"},
    Instruction{11, 22, "rdpid"},
    Instruction{11, 27, "movdiri"},
    Instruction{11, 28, "movdir64b"},

    Instruction{13, 0, "clzero"},

    Instruction{18, 2, "avx512_4vnniw"},
    Instruction{18, 3, "avx512_4fmaps"},
    Instruction{18, 8, "avx512_vp2intersect"},
    Instruction{18, 14, "serialize"},
    Instruction{18, 22, "amx_bf16"},
    Instruction{18, 23, "avx512_fp16"},
    Instruction{18, 24, "amx_tile"},
    Instruction{18, 25, "amx_int8"},
};

// Of the register state (XCR0): what CRIU says of a processor, and it refuses an image that says more: x87, AVX, MPX,
// AVX-512, protection keys. Not SSE, which every 64-bit processor has.
inline constexpr unsigned long said_by_criu = 0x2fd;

}  // namespace godwit::engine::commands
