/* The side where the workload arrives: agent/service/destination_*.cc. */

#define AT_DESTINATION LIVES(DESTINATION_NODE(m))
#define DESTINATION_SERVES SERVES(DESTINATION_NODE(m))

proctype Destination(byte m) {
end:
  do
  :: d_step { /* Prepare: the record, before the first process is made. A workload that is there is in the way */
      DESTINATION_SERVES && destination[m] == NONE && BUILT(m) == ABSENT &&
      COMMANDED(m, PREPARE, MOVING, DESTINATION_NODE(m)) ->
      DESTINATION_RECORD(m, BUILDING); BUILDS_ON(DESTINATION_NODE(m)) }
  :: d_step { /* Finish: every task is in the frozen cgroup */
      DESTINATION_SERVES && destination[m] == BUILDING && BUILT(m) == ABSENT &&
      ARRIVES(m, IMAGES, (sent[m] & IMAGES) && SOURCE_AT(m, FROZEN) && DIRECT(m)) ->
      COPY(m, HELD) }
  :: d_step {
      DESTINATION_SERVES && destination[m] == BUILDING && BUILT(m) == HELD ->
      DESTINATION_RECORD(m, PREPARED); SEND(m, FINISHED) }

  :: d_step { /* Commit, or the word of a source that has lost its copy */
      DESTINATION_SERVES && destination[m] == PREPARED && BUILT(m) == HELD && (MAY_COMMIT(m) || PERMITTED(m)) ->
#ifdef BREAK_RESUME_BEFORE_RECORD
      COPY(m, RUNS); ran[m] = true; ONE_RUNS }
  :: d_step {
      AT_DESTINATION && destination[m] == PREPARED && BUILT(m) == RUNS ->
#endif
      DESTINATION_RECORD(m, COMMITTED) }

#ifdef TAKE_OVER
  :: d_step {
      DESTINATION_SERVES && destination[m] == PREPARED && BUILT(m) == HELD && !quiet && MAY_TAKE_OVER(m) ->
      taken_over = m; printf("an operator has it take over\n"); DESTINATION_RECORD(m, COMMITTED) }
#endif

  :: d_step { /* Refuse, from an armed source */
      DESTINATION_SERVES && (UNKNOWN(m) || destination[m] == BUILDING || destination[m] == PREPARED) &&
      ARRIVES(m, REFUSE, SOURCE_AT(m, ARMED) && !GONE(m) && HEARS(m)) ->
      REFUSAL(m) }
  :: d_step { /* Discard */
      DESTINATION_SERVES && MAY_DISCARD(m) && COMMANDED(m, DISCARD, ROLLING_BACK, DESTINATION_NODE(m)) ->
      REFUSAL(m) }
  :: d_step { /* the source has let its copy go, or lost it too early */
      DESTINATION_SERVES && (destination[m] == BUILDING || destination[m] == PREPARED) &&
      (TOLD(m, ABORTED) || TOLD(m, THAWED)) ->
      DESTINATION_RECORD(m, REFUSED) }
  :: d_step {
      DESTINATION_SERVES && (UNKNOWN(m) || destination[m] == BUILDING) && TOLD(m, LOST) -> REFUSAL(m) }
  :: d_step { /* a failure of its own, or a restart */
      AT_DESTINATION && destination[m] == BUILDING -> DESTINATION_RECORD(m, REFUSED) }
  :: d_step {
      AT_DESTINATION && destination[m] == PREPARED && BUILT(m) == DEAD -> PREPARED_GONE(m) }

  /* What the record has announced is done, by whichever life of the agent. */
  :: d_step {
      AT_DESTINATION && destination[m] == REFUSED && BUILT(m) == HELD -> COPY(m, DEAD) }
  :: d_step {
      AT_DESTINATION && destination[m] == COMMITTED && BUILT(m) == HELD && GOES_ON(DESTINATION_NODE(m)) ->
      COPY(m, RUNS); ran[m] = true; ONE_RUNS; NOT_STALE(m) }
  :: d_step {
      AT_DESTINATION && destination[m] == COMMITTED && BUILT(m) == RUNS -> DESTINATION_RECORD(m, RESUMED) }
  :: d_step {
      AT_DESTINATION && destination[m] == COMMITTED && BUILT(m) == RUNS && bad_thaws > 0 ->
      bad_thaws--; DOES_NOT_LIVE(m) }
#ifndef BREAK_NEVER_LOST
  :: d_step {
      AT_DESTINATION && destination[m] == COMMITTED && BUILT(m) == DEAD -> LOSES(m); DESTINATION_RECORD(m, LOST) }
#ifdef HOLD_IF_LOST
  :: d_step { /* restarted: it cannot tell */
      node[DESTINATION_NODE(m)] == STARTING && destination[m] == COMMITTED && BUILT(m) == DEAD ->
      may_have_run[m] = true; DESTINATION_RECORD(m, LOST) }
#endif
#endif
  :: d_step { /* never, but in the breakages */
      destination[m] == RESUMED && BUILT(m) == HELD && RESUMES_AGAIN(m) -> COPY(m, RUNS); ONE_RUNS }
#ifdef PRUNES
  :: d_step { /* Settled */
      DESTINATION_SERVES && destination[m] == RESUMED && SETTLED(m) -> DESTINATION_RECORD(m, PRUNED) }
  :: d_step { /* a refusal: whoever asks for it again gets a tombstone */
      DESTINATION_SERVES && destination[m] == REFUSED && BUILT(m) != HELD -> DESTINATION_RECORD(m, PRUNED) }
#endif
  od
}

/* What is done before a restarted agent serves. */
#define DESTINATION_READY(m) \
  (destination[m] != BUILDING && destination[m] != COMMITTED && !(destination[m] == PREPARED && BUILT(m) == DEAD))
