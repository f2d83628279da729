/* The side that the workload leaves: agent/service/source_*.cc. */

#define AT_SOURCE LIVES(SOURCE_NODE(m))
#define SOURCE_SERVES SERVES(SOURCE_NODE(m))

proctype Source(byte m) {
end:
  do
  :: d_step { /* Freeze: the record */
      SOURCE_SERVES && source[m] == NONE && COMMANDED(m, FREEZE, MOVING, SOURCE_NODE(m)) &&
      MAY_FREEZE(m) && LET_IN && (MOVED(m) == RUNS || MOVED(m) == HELD) ->
      SOURCE_RECORD(m, FROZEN) }
  :: d_step { /* the copy's cgroup is frozen, the last difference sent */
      SOURCE_SERVES && source[m] == FROZEN && HOLDS(m) && (MOVED(m) == RUNS || MOVED(m) == HELD) ->
      COPY(FROM(m), HELD); SEND(m, IMAGES); stale[m] = BUILT(m) == HELD; runs_on[m] = false }
#if RUN_ONS > 0
  :: d_step { /* or that is too large, and it runs on behind the record */
      SOURCE_SERVES && source[m] == FROZEN && HOLDS(m) && MOVED(m) == RUNS && run_ons > 0 ->
      run_ons--; runs_on[m] = true; printf("%d: too large, it runs on\n", m); IS_TOO_LARGE(m) }
#endif
#ifdef BREAK_TOKEN_BEFORE_RECORD
  :: d_step {
      SOURCE_SERVES && source[m] == FROZEN && MAY_ARM(m) && COMMANDED(m, ARM, COMMITTING, SOURCE_NODE(m)) &&
      !(sent[m] & TOKEN) -> SEND(m, TOKEN) }
  :: d_step {
      SOURCE_SERVES && source[m] == FROZEN && (sent[m] & TOKEN) -> SOURCE_RECORD(m, ARMED) }
#else
  :: d_step { /* Arm. A source that was frozen when its agent died has aborted before it serves again */
      SOURCE_SERVES && source[m] == FROZEN && MAY_ARM(m) && COMMANDED(m, ARM, COMMITTING, SOURCE_NODE(m)) ->
      SOURCE_RECORD(m, ARMED); SEND(m, TOKEN) }
#endif

  :: d_step { /* on its own word: a failure, a time-out, an Abort, a restart */
      AT_SOURCE && MAY_ABORT(m) && !GONE(m) -> SOURCE_RECORD(m, ABORTED) }
  :: d_step { /* an Abort before anything was frozen: a tombstone */
      SOURCE_SERVES && source[m] == NONE && COMMANDED(m, ABORT, ROLLING_BACK, SOURCE_NODE(m)) ->
      SOURCE_RECORD(m, SOURCE_TOMBSTONE) }

  :: d_step { /* armed: it asks for a refusal, after a time-out or when it gets an Abort */
      SOURCE_SERVES && source[m] == ARMED && !GONE(m) && !quiet && !(sent[m] & REFUSE) ->
      SEND(m, REFUSE); printf("%d: source asks for a refusal\n", m) }
  :: d_step {
      SOURCE_SERVES && source[m] == ARMED && !GONE(m) && HEARS(m) && MAY_THAW(m) -> SOURCE_RECORD(m, ABORTED) }
  :: d_step {
      SOURCE_SERVES && source[m] == ARMED && HEARS(m) && MAY_KILL(m) -> SOURCE_RECORD(m, KILLING) }
  :: d_step { /* its copy has died, with its node or without it */
      AT_SOURCE && (source[m] == FROZEN || source[m] == ARMED) && GONE(m) -> SOURCE_RECORD(m, LOST) }
  :: d_step { /* never, but in the breakage */
      node[SOURCE_NODE(m)] == STARTING && RESTART_THAWS(m) -> SOURCE_RECORD(m, ABORTED) }
#ifdef RESOLVE
  :: d_step {
      SOURCE_SERVES && source[m] == ARMED && !quiet && MAY_RESOLVE(m) ->
      resolved = true; printf("an operator resolves\n"); SOURCE_RECORD(m, ABORTED) }
#endif
#ifdef HOLD_IF_LOST
  :: d_step {
      SOURCE_SERVES && source[m] == ARMED && !quiet && !GONE(m) && MAY_GO_ON(m) ->
      resolved = true; printf("an operator lets it go on\n"); SOURCE_RECORD(m, ABORTED) }
#endif

  /* What the record has announced is done, by whichever life of the agent. */
  :: d_step {
      AT_SOURCE && source[m] == ABORTED && MOVED(m) == HELD && GOES_ON(SOURCE_NODE(m)) ->
      COPY(FROM(m), RUNS); ONE_RUNS; NOT_BEHIND(m) }
  :: d_step {
      AT_SOURCE && source[m] == ABORTED && MOVED(m) != HELD -> SOURCE_RECORD(m, THAWED) }
  :: d_step {
      AT_SOURCE && source[m] == KILLING && MOVED(m) == HELD && GOES_ON(SOURCE_NODE(m)) ->
      OTHER_RAN(m); COPY(FROM(m), DEAD) }
  :: d_step {
      AT_SOURCE && source[m] == KILLING && MOVED(m) != HELD -> SOURCE_RECORD(m, KILLED) }
#ifdef BREAK_KILL_BY_NAME /* instead of by cgroup: a kill that comes late finds what has come back to this node */
  :: d_step {
      AT_SOURCE && m == 1 && source[1] == KILLED && !quiet && copy[2] == RUNS ->
      COPY(2, DEAD); LAST_IS_DEAD; assert(!excused) }
#endif
  od
}

/* What is done before a restarted agent serves. */
#define SOURCE_READY(m) \
  (source[m] != FROZEN && source[m] != ABORTED && source[m] != KILLING && !(source[m] == ARMED && GONE(m)) && \
   !RESTART_THAWS(m))
