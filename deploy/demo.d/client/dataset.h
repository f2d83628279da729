// What is done with the whole dataset: fill a redis, check one against a log, build a reference from a log.
#pragma once

#include "deploy/demo.d/client/connection.h"
#include "deploy/demo.d/client/write_log.h"

#include <cstdint>
#include <string>
#include <vector>

namespace godwit::demo {

// Version 0 of every key.
void load(Connection& redis, const Values& values, std::uint32_t keys);

struct Verdict {
  std::uint64_t keys = 0;
  std::uint64_t lost = 0;  // keys that do not hold what they must: the sum of the next three
  std::uint64_t missing = 0;
  std::uint64_t outdated = 0;         // an older write than the last acknowledged one
  std::uint64_t foreign = 0;          // not, byte for byte, the value of any write
  std::vector<Write> carried_out;     // writes of unknown outcome that redis holds
  std::vector<std::string> examples;  // of lost keys, in words; a few
};
Verdict verify(Connection& redis, const Values& values, std::uint32_t keys, const Expectation& expected);

// Into an empty redis: version 0 of every key, then the log in its order; of the unknown ones those that were found.
void replay(Connection& redis, const Values& values, std::uint32_t keys, const std::vector<LogRecord>& log,
            const std::vector<Write>& carried_out);

std::string digest(Connection& redis);  // DEBUG DIGEST

}  // namespace godwit::demo
