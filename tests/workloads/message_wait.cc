// Checks: msgrcv and msgsnd of System V go on waiting (no EINTR), for the type that they asked for and for room.

#include "tests/workloads/blocked_call.h"
#include "tests/workloads/system_v.h"

#include <cstring>
#include <list>
#include <sys/msg.h>

using namespace godwit::workloads;

namespace {

struct Message {
  long type;
  char text[8];
};
constexpr std::size_t size = sizeof Message::text;

int make_queue() { return must(msgget(IPC_PRIVATE, IPC_CREAT | 0600), "msgget"); }

int put(int queue, Message message, int flags = 0) { return msgsnd(queue, &message, size, flags); }

// What msgrcv returned, or -1000 when it is another message.
long get(int queue, long type, const char* text, int flags = 0) {
  Message got{};
  const long bytes = msgrcv(queue, &got, size, type, flags);
  return bytes >= 0 && std::strcmp(got.text, text) != 0 ? -1000 : bytes;
}

// For one message.
void fill_queue(int queue) {
  msqid_ds settings{};
  must(msgctl(queue, IPC_STAT, &settings), "IPC_STAT");
  settings.msg_qbytes = size;
  must(msgctl(queue, IPC_SET, &settings), "IPC_SET");
  must(put(queue, {1, "first"}), "msgsnd");
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  const int any = make_queue(), typed = make_queue(), full = make_queue();
  w.tell("objects", object("msg", any) + object("msg", typed) + object("msg", full));
  by_another([full] { fill_queue(full); });

  BlockedCall first("msgrcv", [any] { return get(any, 0, "any"); });
  BlockedCall exact("msgrcv of a type", [typed] { return get(typed, 7, "seven"); });
  BlockedCall lowest("msgrcv up to a type", [typed] { return get(typed, -5, "three"); });
  BlockedCall sender("msgsnd to a full queue", [full] { return put(full, {2, "second"}); });
  for (const BlockedCall* call : {&first, &exact, &lowest, &sender}) call->settle();

  w.ready();
  w.wait_for_verify();
  for (const BlockedCall* call : {&first, &exact, &lowest, &sender}) call->still_blocked(w);
  w.check(put(any, {9, "any"}) == 0, "msgsnd: %m");
  w.check(put(typed, {7, "seven"}) == 0, "msgsnd of a type: %m");
  w.check(put(typed, {3, "three"}) == 0, "msgsnd of another type: %m");
  for (const BlockedCall* call : {&first, &exact, &lowest}) call->comes_back(w, size);
  w.check(get(full, 0, "first", IPC_NOWAIT) == size, "the full queue has lost its message");
  sender.comes_back(w, 0);
  w.check(get(full, 0, "second", IPC_NOWAIT) == size, "the message that waited for room has not come");
  for (const int queue : {any, typed, full}) {
    w.check(get(queue, 0, "", IPC_NOWAIT) == -1 && errno == ENOMSG, "queue %d has one message too many", queue);
    w.check(msgctl(queue, IPC_RMID, nullptr) == 0, "IPC_RMID: %m");
  }
  return w.finish();
}
