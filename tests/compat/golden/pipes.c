// Two pipes: one with bytes in it that wait to be read, and one that is empty, whose reading end does not block.
#include "bare.h"

enum { waiting = 300 };

static int full[2], empty[2];
static unsigned char bytes[2 * waiting];

static unsigned char byte(int at) { return (unsigned char)(at * 7 + 3); }

void start(void) {
  int good = call(sys_pipe2, (long)full, 0, 0, 0) == 0 && call(sys_pipe2, (long)empty, o_nonblock, 0, 0) == 0;
  for (int i = 0; i < waiting; i++) bytes[i] = byte(i);
  good = good && call(sys_write, full[1], (long)bytes, waiting, 0) == waiting;
  make("ready");
  while (!is_to_verify()) pause_a_moment();
  for (int i = 0; i < waiting; i++) bytes[i] = 0;
  good = good && call(sys_read, full[0], (long)bytes, sizeof bytes, 0) == waiting;
  for (int i = 0; i < waiting; i++)
    if (bytes[i] != byte(i)) good = 0;
  const long try_again = -11;
  good = good && call(sys_read, empty[0], (long)bytes, 1, 0) == try_again;
  good = good && call(sys_write, empty[1], (long)"x", 1, 0) == 1 && call(sys_read, empty[0], (long)bytes, 9, 0) == 1;
  end(good && bytes[0] == 'x');
}
