// A command's side of a holder: the process that keeps the tracker of another one between commands (keeper.h).
#pragma once

#include "common/base/fd.h"
#include "common/commandline/actions.h"

#include <optional>
#include <string>
#include <vector>

namespace godwit::engine::holder {

class Client {
 public:
  // The holder of this process, if there is one. Waits while it works for somebody else.
  static std::optional<Client> find(pid_t pid);
  // The same, started when there is none: detached from our session, terminal, output and control groups.
  static Client find_or_start(pid_t pid);

  // Has it run this command line here, with our output; the steps are run on our side. Throws what it failed with. When
  // the holder itself dies, whatever it had borrowed from the process is put back, `recovered` is done, and
  // Errc::peer_lost says so.
  // Errc::busy: it lives, and has not waited for us.
  // `page_server`: the socket that the command line speaks of, or none. It is the holder's from then on: the server
  // waits for nobody else to hang up.
  void run(const std::vector<std::string>& words, const RunAction& act, const std::function<void()>& recovered,
           UniqueFd page_server = {});

 private:
  Client(UniqueFd socket, UniqueFd holder, UniqueFd journal)
      : socket_(std::move(socket)), holder_(std::move(holder)), journal_(std::move(journal)) {}
  std::optional<Error> converse(const std::vector<std::string>& words, const RunAction& act, UniqueFd page_server);

  UniqueFd socket_;
  UniqueFd holder_;  // a pidfd
  UniqueFd journal_;
};

}  // namespace godwit::engine::holder
