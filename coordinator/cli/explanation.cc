#include "coordinator/cli/explanation.h"

#include "coordinator/cli/fields.h"

namespace godwit::cli {

Explanation explanation(Errc code) {
  switch (code) {
    case Errc::unsupported:
      return {"a kind of state that cannot be carried; the sentence names it",
              "stop using it, or wait for a release that carries it"};
    case Errc::refused:
      return {
          "preflight or policy said no, and the workload runs on where it was; or a migration is not to be resolved, "
          "because a node is not off, or its source is not armed or not held for a loss, or its destination not "
          "prepared",
          "read the sentence: it names every reason, with the numbers"};
    case Errc::invalid_argument: return {"a bad command line, request or configuration", "correct what is named"};
    case Errc::not_found:
      return {
          "no such workload, node, process, file, policy or migration, or a migration to cancel or watch that is not "
          "under way",
          "`godwit ps`, `godwit nodes`, `godwit policies` and `godwit history` list what there is"};
    case Errc::already_exists:
      return {
          "a name or PID is taken, or the destination already has this workload; as the reason of a migration that was "
          "resolved: two copies run",
          "choose another name or node; of two copies, end one at once with `godwit kill --from`"};
    case Errc::target_gone:
      return {
          "the process ended, before or while it was being worked on; as the reason of a migration that is unknown, or "
          "rolled back after it was resolved: the copy at the destination was lost after it may have run",
          "start it again; a copy that is held at the source goes on with `godwit resolve --go-on`"};
    case Errc::image_corrupt:
      return {"a file or a run of pages failed its check; nothing of it was used",
              "repeat; if it stays, look at memory and disks of both nodes"};
    case Errc::kernel_missing:
      return {"the node's kernel lacks something that is needed, or CPU time cannot be limited there",
              "the sentence names it; use a newer kernel or another node"};
    case Errc::peer_lost:
      return {"a connection broke or was never made", "`godwit nodes`; look at the agent and at the path between"};
    case Errc::denied:
      return {"a certificate, role or token was not accepted",
              "use a certificate of the identity that would be; the hint names it where it is known"};
    case Errc::protocol:
      return {"the other side said something that the protocol does not allow",
              "versions that do not fit, or a program that is no godwit"};
    case Errc::no_space: return {"disk, tmpfs or memory is full", "free some, or choose another node"};
    case Errc::timed_out:
      return {"no answer, or no progress, within the limit that is named",
              "look at the load of the nodes and at the path between"};
    case Errc::cancelled:
      return {"somebody gave up: the coordinator was stopped, or the operator asked for it", "start again when ready"};
    case Errc::busy:
      return {
          "something else is under way: another migration, a dry run that probes the workload, somebody else who keeps "
          "track of the memory of a process, or at the freeze a child process, unread events, connections not "
          "accepted, AIO requests in flight, or at the destination somebody with one of its fifos open; or it is too "
          "late to cancel a migration or to change its rate",
          "try again later; `godwit watch` tells how the migration ends"};
    case Errc::internal:
      return {"a system call failed for a reason nobody foresaw, or our bug",
              "please report it, with the log of both agents"};
  }
  return {};
}

std::string hint_or_advice(Errc code, const std::string& hint) {
  return hint.empty() ? std::string(explanation(code).advice) : hint;
}

std::string hint_of(const nlohmann::json& reason) {
  const std::string code = text(reason, "code"), hint = text(reason, "hint");
  const Errc known = errc_from_name(code);
  return name(known) == code ? hint_or_advice(known, hint) : hint;
}

}  // namespace godwit::cli
