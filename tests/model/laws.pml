/* Safety, asserted where a copy begins to run and where one dies; and the end, asserted where nothing can happen any
 * more. */

#if MOVES == 1
#define COPIES(state) ((copy[0] == state) + (copy[1] == state))
#define ANY(what) what(1)
#else
#define COPIES(state) ((copy[0] == state) + (copy[1] == state) + (copy[2] == state))
#define ANY(what) (what(1) || what(2))
#endif
#define HAS_RESUMED(m) (destination[m] == RESUMED || (destination[m] == PRUNED && ran[m]))
#define HAS_REFUSED(m) \
  (destination[m] == REFUSED || destination[m] == TOMBSTONE || (destination[m] == PRUNED && !ran[m]))

#define ONE_RUNS assert(COPIES(RUNS) <= 1)
/* The source's copy does not go back behind what was seen of the other. */
#define NOT_BEHIND(m) assert(!SEEN(m) || resolved)
/* Nor does what was built of it run when it has itself gone on since. */
#define NOT_STALE(m) assert(!stale[m] || taken_over == m)
/* Nor is it killed before the other has run. */
#define OTHER_RAN(m) assert(ran[m])

/* The last copy that somebody may still let run has died with its node, or on its way to life: no protocol helps. */
bool excused;
#define SOURCE_MAY_RUN(m) \
  (MOVED(m) == HELD && !HAS_RESUMED(m) && (source[m] == FROZEN || source[m] == ARMED || source[m] == ABORTED))
#define DESTINATION_MAY_RUN(m) \
  (BUILT(m) == HELD && (destination[m] == COMMITTED || \
    (destination[m] == PREPARED && !(sent[m] & REFUSE) && \
      (source[m] == FROZEN || source[m] == ARMED || source[m] == LOST))))
#define MAY_RUN(m) (SOURCE_MAY_RUN(m) || DESTINATION_MAY_RUN(m))
#define VIABLE (COPIES(RUNS) > 0 || ANY(MAY_RUN))
#define LAST_IS_DEAD excused = excused || !VIABLE

/* In the end only that is undecided which cannot ask: the peer is gone or cut off, or has lost its records. */
#define CAN_ASK(m) (SERVES(SOURCE_NODE(m)) && SERVES(DESTINATION_NODE(m)) && CONNECTED(m) && !replaced && !source_replaced)
#define SOURCE_OVER(m) \
  (source[m] == NONE || source[m] == THAWED || source[m] == KILLED || source[m] == LOST || \
   (source[m] == ARMED && (!CAN_ASK(m) || HELD_AFTER_LOSS(m))) || !LIVES(SOURCE_NODE(m)))
#define DESTINATION_OVER(m) \
  (UNKNOWN(m) || destination[m] == REFUSED || destination[m] == TOMBSTONE || destination[m] == RESUMED || \
   destination[m] == LOST || (destination[m] == PREPARED && !CAN_ASK(m)) || !LIVES(DESTINATION_NODE(m)))
#define NOT_HELD(m) (MOVED(m) != HELD && BUILT(m) != HELD)
#define OVER(m) assert(SOURCE_OVER(m)); assert(DESTINATION_OVER(m)); assert(NOT_HELD(m) || !CAN_ASK(m) || HELD_AFTER_LOSS(m))
#define ALL_SERVE(n) assert(node[n] != STARTING)

#define ENDING(condition, name) if :: (condition) -> printf(name) :: else fi

proctype End() {
end:
  timeout -> atomic {
    assert(quiet);
    OVER(1);
#if MOVES == 2
    OVER(2);
#endif
    ALL_SERVE(0);
    ALL_SERVE(1);
    ONE_RUNS;
    assert(COPIES(RUNS) == 1 || COPIES(HELD) > 0 || excused);
#include "endings.pml"
  }
}
