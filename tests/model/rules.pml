/* The rules that hold the protocol together, each beside what it would be without. Every BREAK_ must break a law. */

/* Freeze: every other epoch of this copy is over, and what made the copy has resumed. */
#define FIRST_RESUMED (destination[1] == RESUMED || UNKNOWN(1) || destination[1] == TOMBSTONE)
#define OTHER_OVER(m) (source[3 - (m)] == NONE || source[3 - (m)] == THAWED)
#if defined(CHAIN) && defined(BREAK_FREEZE_BEFORE_RESUMED)
#define MAY_FREEZE(m) ((m) == 1 || FIRST_RESUMED || destination[1] == COMMITTED)
#elif defined(CHAIN)
#define MAY_FREEZE(m) ((m) == 1 || FIRST_RESUMED)
#elif defined(RETRY) && defined(BREAK_RETRY_WITHOUT_PROOF)
#define MAY_FREEZE(m) (OTHER_OVER(m) || source[3 - (m)] == ARMED)
#elif defined(RETRY) && defined(BREAK_RETRY_BEFORE_THAWED)
#define MAY_FREEZE(m) (OTHER_OVER(m) || source[3 - (m)] == ABORTED)
#elif defined(RETRY)
#define MAY_FREEZE(m) OTHER_OVER(m)
#else
#define MAY_FREEZE(m) true
#endif

/* A held copy that has died is not let go, but lost: what the destination has may go on. */
#ifdef BREAK_DEATH_UNSEEN
#define GONE(m) false
#else
#define GONE(m) (MOVED(m) == DEAD)
#endif

/* Freeze: a last difference that is too large is known before anything but pages is sent, and is none: the next Freeze holds
 * the copy, and what runs is not armed. */
#define HOLDS(m) (runs_on[m] -> COMMANDED(m, FREEZE, MOVING, SOURCE_NODE(m)) : !(sent[m] & IMAGES))
#if defined(BREAK_STATE_BEFORE_COUNT)
#define IS_TOO_LARGE(m) SEND(m, IMAGES)
#elif defined(BREAK_ARM_WHILE_IT_RUNS_ON)
#define IS_TOO_LARGE(m) SEND(m, IMAGES); runs_on[m] = false
#else
#define IS_TOO_LARGE(m)
#endif
#ifdef BREAK_ARM_WHILE_IT_RUNS_ON
#define MAY_ARM(m) ((sent[m] & IMAGES) && (MOVED(m) == HELD || MOVED(m) == RUNS))
#else
#define MAY_ARM(m) ((sent[m] & IMAGES) && MOVED(m) == HELD && !runs_on[m])
#endif

/* The source's own word counts until it is armed. */
#if defined(BREAK_THAW_WHEN_ARMED)
#define MAY_ABORT(m) (source[m] == FROZEN || source[m] == ARMED)
#elif defined(BREAK_JOURNAL_IS_PROOF) /* "it rolls back, so by its journal it has never asked for the commit" */
#define MAY_ABORT(m) (source[m] == FROZEN || (source[m] == ARMED && ARRIVES(m, ABORT, false)))
#else
#define MAY_ABORT(m) (source[m] == FROZEN)
#endif

/* A restart does not bring it back. */
#ifdef BREAK_RESTART_THAWS
#define RESTART_THAWS(m) (source[m] == ARMED)
#else
#define RESTART_THAWS(m) false
#endif

/* An epoch that has frozen nothing lets nothing go. */
#ifdef BREAK_TOMBSTONE_THAWS
#define SOURCE_TOMBSTONE ABORTED
#else
#define SOURCE_TOMBSTONE THAWED
#endif

/* Commit needs the token, which nobody has before the source is armed. */
#ifdef BREAK_COMMIT_WITHOUT_TOKEN
#define MAY_COMMIT(m) ARRIVES(m, FINISHED, false)
#else
#define MAY_COMMIT(m) COMMIT_ARRIVES(m)
#endif

/* Or the word of a source that has lost its copy. */
#ifdef BREAK_NO_ROLL_FORWARD
#define PERMITTED(m) false
#else
#define PERMITTED(m) TOLD(m, LOST)
#endif

/* From then on the destination's record decides: `resumed` kills the source's copy, and nothing else does. */
#if defined(BREAK_KILL_ON_COMMITTED)
#define MAY_KILL(m) (DESTINATION_SAYS(m, RESUMED) || DESTINATION_SAYS(m, COMMITTED))
#elif defined(BREAK_KILL_WITHOUT_ASKING)
#define MAY_KILL(m) (DESTINATION_SAYS(m, RESUMED) || ARRIVES(m, COMMIT, false))
#else
#define MAY_KILL(m) DESTINATION_SAYS(m, RESUMED)
#endif
#define MAY_THAW(m) \
  (DESTINATION_SAYS(m, REFUSED) || DESTINATION_SAYS(m, TOMBSTONE) || LOST_UNRUN(m) || pretended || FORGED(m))

/* With files that both nodes share the source is held after the loss of a copy that may have run: that is in the record. A
 * destination that was restarted at `committed`, and finds its copy gone, cannot tell. */
#ifdef HOLD_IF_LOST
bool may_have_run[MOVES + 1]; /* recorded with LOST */
#define LOSES(m) may_have_run[m] = ran[m]
#define MAY_GO_ON(m) (DESTINATION_SAYS(m, LOST) && may_have_run[m])
#define HELD_AFTER_LOSS(m) (destination[m] == LOST && may_have_run[m])
#else
#define LOSES(m)
#define HELD_AFTER_LOSS(m) false
#endif
#ifdef BREAK_THAW_AFTER_LOSS
#define LOST_UNRUN(m) DESTINATION_SAYS(m, LOST)
#else
#define LOST_UNRUN(m) (DESTINATION_SAYS(m, LOST) && !HELD_AFTER_LOSS(m))
#endif

/* Where their link does not work the coordinator passes on what the two sides say, under a MAC that it cannot make. */
#ifdef BREAK_NO_RELAY
#define PEERS(m) DIRECT(m)
#else
#define PEERS(m) CONNECTED(m)
#endif
#ifdef BREAK_RELAY_FORGED
#define FORGED(m) !quiet
#else
#define FORGED(m) false
#endif

/* Answers out of another record file than at the beginning prove nothing. */
#ifdef BREAK_BELIEVE_NEW_RECORDS
#define SAME_RECORDS true
#else
#define SAME_RECORDS !replaced
#endif

/* A source is known by the secret that it made for its hello, and that its record keeps. Without the record it says nothing
 * that is believed, and begins no second time. */
#ifdef BREAK_ANOTHER_HELLO
#define LET_IN true
#else
#define LET_IN !source_replaced
#endif

/* Each side asks by itself, whether or not there is a coordinator. */
#define DRIVEN(m) (REACHES(SOURCE_NODE(m)) && REACHES(DESTINATION_NODE(m)))
#ifdef BREAK_SOURCE_NEVER_ASKS
#define HEARS(m) DRIVEN(m)
#else
#define HEARS(m) true
#endif
#ifdef BREAK_DESTINATION_NEVER_ASKS
#define TOLD(m, phase) (SOURCE_SAYS(m, phase) && DRIVEN(m))
#else
#define TOLD(m, phase) SOURCE_SAYS(m, phase)
#endif

/* A refusal is recorded before it is said. Of an unknown id it is a tombstone, which touches nothing. */
#ifdef BREAK_TOMBSTONE_KILLS
#define REFUSE_UNKNOWN(m) COPY(m, DEAD); LAST_IS_DEAD; assert(!excused)
#else
#define REFUSE_UNKNOWN(m) DESTINATION_RECORD(m, TOMBSTONE)
#endif
#ifdef BREAK_UNRECORDED_REFUSAL
#define REFUSAL(m) pretended = true
#else
#define REFUSAL(m) if :: UNKNOWN(m) -> REFUSE_UNKNOWN(m) :: else -> DESTINATION_RECORD(m, REFUSED) fi
#endif

/* What is prepared is given up on the source's word only; and when it is gone, which is recorded. */
#ifdef BREAK_COORDINATOR_REFUSES
#define MAY_DISCARD(m) (UNKNOWN(m) || destination[m] == BUILDING || destination[m] == PREPARED)
#else
#define MAY_DISCARD(m) (UNKNOWN(m) || destination[m] == BUILDING)
#endif
#ifdef BREAK_PREPARED_FORGOTTEN
#define PREPARED_GONE(m) DESTINATION_RECORD(m, NONE); BUILT(m) = ABSENT
#else
#define PREPARED_GONE(m) DESTINATION_RECORD(m, REFUSED)
#endif

/* What cannot resume is seen dead, and then recorded as lost. */
#ifdef BREAK_LOST_BEFORE_DEAD
#define DOES_NOT_LIVE(m) DESTINATION_RECORD(m, LOST)
#else
#define DOES_NOT_LIVE(m) COPY(m, DEAD); LAST_IS_DEAD
#endif

/* `resumed` is for ever: nothing that comes later touches the copy, which may have become another migration's. */
#if defined(BREAK_COMMIT_TWICE)
#define RESUMES_AGAIN(m) (SERVES(DESTINATION_NODE(m)) && MAY_COMMIT(m))
#elif defined(BREAK_RESUME_AT_RESTART)
#define RESUMES_AGAIN(m) (node[DESTINATION_NODE(m)] == STARTING)
#else
#define RESUMES_AGAIN(m) false
#endif

/* A record is kept until the source has said how it ended. */
#ifdef BREAK_PRUNE_EARLY
#define SETTLED(m) true
#else
#define SETTLED(m) (TOLD(m, KILLED) || TOLD(m, THAWED) || TOLD(m, LOST))
#endif

/* A write that failed is read back. What then turns out to be recorded is done, as if the agent had been restarted. */
#ifdef BREAK_STOP_AFTER_FAILED_WRITE
bool stuck[NODES]; /* the step whose write it was has ended, and no other takes its place */
#define GOES_ON(n) (!stuck[n])
#define NEW_LIFE(n) stuck[n] = false
#else
#define GOES_ON(n) true
#define NEW_LIFE(n)
#endif

/* An operator resolves only while the destination's node is off; or when its records were replaced, and by its boot id it
 * has been off. */
#if defined(BREAK_RESOLVE_WHILE_ON)
#define MAY_RESOLVE(m) true
#elif defined(BREAK_RESOLVE_SAME_BOOT)
#define MAY_RESOLVE(m) (off[DESTINATION_NODE(m)] || replaced)
#else
#define MAY_RESOLVE(m) (off[DESTINATION_NODE(m)] || (replaced && rebooted[DESTINATION_NODE(m)]))
#endif

/* And the other way round, for what is prepared: of the last migration that was begun, for the source may have let an
 * earlier one go and given its copy to somebody else. */
#ifdef BREAK_TAKE_OVER_OF_OLD
#define LAST_BEGUN(m) true
#else
#define LAST_BEGUN(m) (last_begun == m)
#endif
#if defined(BREAK_TAKE_OVER_WHILE_ON)
#define MAY_TAKE_OVER(m) true
#else
#define MAY_TAKE_OVER(m) (off[SOURCE_NODE(m)] && LAST_BEGUN(m))
#endif

/* Nothing of a copy is seen outside before it is recorded as resumed: its network is closed until then. Files are not. */
#if defined(BREAK_SEEN_BEFORE_RESUMED) || defined(HOLD_IF_LOST)
#define SEEN(m) ran[m]
#else
#define SEEN(m) HAS_RESUMED(m)
#endif
