// What the helper of a restore is asked and what it answers. The first byte says which: a request, an answer, a number
// in one, or the images that go with a request. What is understood is said again and understood the same.
#include "agent/engine/restore/helper_words.h"
#include "tests/fuzz/fuzz.h"

namespace godwit {

using namespace engine;

namespace {

void request(std::string_view words) {
  const helper::Request asked = helper::parse_request(words);
  require(helper::parse_request(helper::words_of(asked)) == asked);
  if (const auto* spawn = std::get_if<helper::Spawn>(&asked)) require(spawn->pid > 0);
  if (const auto* reap = std::get_if<helper::Reap>(&asked)) require(reap->pid > 0);
  if (const auto* place = std::get_if<helper::Place>(&asked)) require(place->pid > 0);
}

void images(std::string_view bytes) {
  const image::ImageSet set = helper::unpacked(bytes);
  require(helper::unpacked(helper::packed(set)).files() == set.files());
}

}  // namespace

void fuzz(std::string_view input) {
  if (input.empty()) return;
  const std::string_view rest = input.substr(1);
  switch (input[0]) {
    case 'r': return request(rest);
    case 'a': {
      const std::string text = helper::parse_answer(rest);
      require(helper::answer(text) == rest);
      break;
    }
    case 'n': require(helper::parse_number(rest) >= 0); break;
    case 'i': return images(rest);
    default: break;
  }
}

}  // namespace godwit
