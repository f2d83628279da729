// What a foreign page server answers to a dump, by CRIU's protocol, before it hangs up. The first byte says how the
// session goes and when the server has gone: before the client has written, or after it has read everything.
#include "agent/engine/memory/criu_client.h"
#include "common/base/error.h"
#include "common/base/units.h"
#include "tests/fuzz/fuzz.h"

#include <array>
#include <cstring>

#include <sys/socket.h>

namespace godwit {

using namespace pagewire;

namespace {

constexpr std::array<std::byte, 2 * page_size> pages{};

std::int32_t number_at(std::string_view answers, std::size_t at) {
  std::int32_t number = 0;
  std::memcpy(&number, answers.data() + at, sizeof number);
  return number;
}

// Each answer is what the bytes say, and where there are none, an error is.
void session(engine::CriuClient& client, unsigned how, std::string_view answers) {
  std::size_t at = 0;
  const ObjectId object = object_id(ObjectType::task, 7);
  if (how & 1) {
    const bool has = client.parent_has(object);
    require(answers.size() >= at + 4 && has == (number_at(answers, at) != 0));
    at += 4;
  }
  for (unsigned opened = 0; opened < (how >> 1 & 3); opened++) {
    const bool has = client.open(object);
    require(answers.size() > at && has == (answers[at] != 0));
    at++;
    client.add_pages({.address = 0x10000, .pages = 2}, pages);
    if (has) client.add_hole({.address = 0x30000, .pages = 3});
    client.flush();
  }
  client.close();
  require(answers.size() >= at + 4 && number_at(answers, at) == 0);
}

}  // namespace

void fuzz(std::string_view input) {
  if (input.empty()) return;
  const auto how = static_cast<unsigned char>(input[0]);
  const std::string_view answers = input.substr(1, 4096);
  auto [ours, theirs] = make_socketpair(AF_UNIX, SOCK_STREAM);
  write_all(theirs.get(), answers);
  check(::shutdown(theirs.get(), SHUT_WR), "end the answers");
  if (how & 0x80) theirs.reset();
  engine::CriuClient client(std::move(ours), how & 0x40 ? criu::HeaderSize::until_4_1 : criu::HeaderSize::since_4_2);
  try {
    session(client, how, answers);
  } catch (const Error& e) {
    require(e.errc() == Errc::peer_lost || e.errc() == Errc::protocol);
  }
}

}  // namespace godwit
