#include "deploy/demo.d/client/dataset.h"

#include <algorithm>

namespace godwit::demo {

namespace {

constexpr std::uint64_t window = 512;  // commands unanswered: half a megabyte of values, well below any buffer limit
constexpr std::size_t most_examples = 10;
constexpr std::chrono::milliseconds digest_limit{300'000};

void set_all(Connection& redis, const Values& values, const std::vector<Write>& writes) {
  std::string value(values.size(), '\0');
  pipeline(
      redis, writes.size(), window,
      [&](std::uint64_t i) {
        values.fill(writes[i], value);
        redis.queue({"SET", key_name(writes[i].key), value});
      },
      [](std::uint64_t, const Reply& reply) {
        if (reply.text != "OK") fail(Errc::internal, "redis did not take a value: {}", reply.text);
      });
}

}  // namespace

void load(Connection& redis, const Values& values, std::uint32_t keys) {
  std::string value(values.size(), '\0');
  pipeline(
      redis, keys, window,
      [&](std::uint64_t i) {
        const auto key = static_cast<std::uint32_t>(i);
        values.fill({.key = key, .version = 0}, value);
        redis.queue({"SET", key_name(key), value});
      },
      [](std::uint64_t, const Reply& reply) {
        if (reply.text != "OK") fail(Errc::internal, "redis did not take a value: {}", reply.text);
      });
}

Verdict verify(Connection& redis, const Values& values, std::uint32_t keys, const Expectation& expected) {
  Verdict verdict;
  verdict.keys = keys;
  const auto lose = [&](std::uint64_t& count, std::string sentence) {
    ++count;
    ++verdict.lost;
    if (verdict.examples.size() < most_examples) verdict.examples.push_back(std::move(sentence));
  };
  pipeline(
      redis, keys, window, [&](std::uint64_t i) { redis.queue({"GET", key_name(static_cast<std::uint32_t>(i))}); },
      [&](std::uint64_t i, const Reply& reply) {
        const auto key = static_cast<std::uint32_t>(i);
        if (reply.kind != Reply::Kind::bulk) return lose(verdict.missing, key_name(key) + " is missing");
        const auto write = values.recognise(reply.text);
        if (!write || write->key != key) return lose(verdict.foreign, key_name(key) + " holds what nobody wrote");
        if (!expected.allows(*write))
          return lose(verdict.outdated, fmt::format("{} holds version {}, version {} was acknowledged", key_name(key),
                                                    write->version, expected.last_acknowledged(key)));
        if (expected.is_unknown(*write)) verdict.carried_out.push_back(*write);
      });
  return verdict;
}

void replay(Connection& redis, const Values& values, std::uint32_t keys, const std::vector<LogRecord>& log,
            const std::vector<Write>& carried_out) {
  load(redis, values, keys);
  std::vector<Write> writes;
  for (const LogRecord& record : log) {
    const Write write{.key = record.key, .version = record.version};
    const bool happened =
        record.outcome == Outcome::acknowledged || std::ranges::find(carried_out, write) != carried_out.end();
    if (happened) writes.push_back(write);
  }
  set_all(redis, values, writes);
}

std::string digest(Connection& redis) {
  redis.queue({"DEBUG", "DIGEST"});
  const Reply reply = redis.wait_reply(digest_limit);
  if (reply.kind == Reply::Kind::error) fail(Errc::internal, "redis has no digest to give: {}", reply.text);
  return reply.text;
}

}  // namespace godwit::demo
