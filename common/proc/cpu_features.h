// What a program may have found on one CPU and would miss on another.
#pragma once

#include <set>
#include <string>
#include <vector>

namespace godwit::proc {

// Instructions and features that a program may have found by CPUID at `from` and that `to` lacks: flags as in
// /proc/cpuinfo, of which those that speak of the kernel, of power or of virtual machines may differ.
std::vector<std::string> missing_features(const std::set<std::string>& from, const std::set<std::string>& to);

// "its CPU lacks avx2, sha_ni"; empty when nothing is missing.
std::string lacking_features(const std::set<std::string>& from, const std::set<std::string>& to);

}  // namespace godwit::proc
