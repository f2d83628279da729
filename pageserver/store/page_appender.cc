#include "pageserver/store/page_appender.h"

namespace godwit::pageserver {

void PageAppender::append(std::span<const Piece> pieces) {
  for (const Piece& piece : pieces) {
    file_.write(piece, stored_);
    stored_ += piece.size();
  }
}

}  // namespace godwit::pageserver
