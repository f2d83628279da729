/* What is said. What was sent once may arrive any number of times, in any order, at any later time, or never: `sent`
 * only grows. From `quiet` on only what somebody who is alive says again still arrives. Nothing fails any more then,
 * and what the protocol promises for the end has to come true. */

byte sent[MOVES + 1];
#define PREPARE 1   /* coordinator to destination; one bit with */
#define FREEZE 1    /* coordinator to source, Connect and the rounds before it */
#define IMAGES 2    /* source to destination: the last difference, and Finish */
#define FINISHED 4  /* destination to coordinator */
#define ARM 8       /* coordinator to source */
#define TOKEN 16    /* source to coordinator: Armed */
#define COMMIT 32   /* coordinator to destination, with the token */
#define ABORT 64    /* coordinator to source; one bit with */
#define DISCARD 64  /* coordinator to destination */
#define REFUSE 128  /* source to destination */
bool quiet;

mtype coordinator[MOVES + 1] = IDLE;
bool token[MOVES + 1]; /* in its memory */
bool runs_on[MOVES + 1]; /* in the source's: a Freeze was over its budget, and another one has to hold the copy */
bool coordinator_lives = true, coordinator_gone;

byte cut; /* links that do not work, a bit each */
#define A_B 1
#define COORDINATOR_A 2
#define COORDINATOR_B 4
#define A_C 8
#define COORDINATOR_C 16
#ifdef RETRY
#define DIRECT(m) !(cut & ((m) == 2 -> A_C : A_B))
#else
#define DIRECT(m) !(cut & A_B)
#endif
#define REACHES(n) \
  (coordinator_lives && !(cut & ((n) == 0 -> COORDINATOR_A : ((n) == 1 -> COORDINATOR_B : COORDINATOR_C))))
/* The two sides hear each other: over their own link, or because the coordinator passes on what they say. */
#define CONNECTED(m) (DIRECT(m) || (REACHES(SOURCE_NODE(m)) && REACHES(DESTINATION_NODE(m))))

/* `again`: somebody says it anew. */
#define SEND(m, messages) sent[m] = sent[m] | (messages)
#define ARRIVES(m, message, again) ((!quiet && (sent[m] & (message))) || (again))
#define COORDINATOR_AT(m, phase, n) (coordinator[m] == phase && REACHES(n))
#define SOURCE_AT(m, phase) (source[m] == phase && SERVES(SOURCE_NODE(m)) && PEERS(m))

/* What no rule depends on but the one for operators: the next migration of a workload waits for the last one's end. */
#ifdef TAKE_OVER
byte last_begun;
#define BEGINS(m) last_begun = m
#define MAY_BEGIN(m) \
  (last_begun == 0 || source[last_begun] == THAWED || source[last_begun] == KILLED || source[last_begun] == LOST)
#else
#define BEGINS(m)
#define MAY_BEGIN(m) true
#endif

#ifdef ARBITRARY /* but it cannot know a token that no source has told */
#define COMMANDED(m, message, phase, n) (!quiet || COORDINATOR_AT(m, phase, n))
#define COMMIT_ARRIVES(m) \
  ARRIVES(m, TOKEN, token[m] && COORDINATOR_AT(m, COMMITTING, DESTINATION_NODE(m)))
#else
#define COMMANDED(m, message, phase, n) ARRIVES(m, message, COORDINATOR_AT(m, phase, n))
#define COMMIT_ARRIVES(m) \
  ARRIVES(m, COMMIT, token[m] && COORDINATOR_AT(m, COMMITTING, DESTINATION_NODE(m)))
#endif

/* Answers to Query, Refuse and QuerySource, and Settled: one side tells its record to the other. Only records that
 * never change again have consequences, so an answer that is still on its way is as good as a fresh one. */
bool replaced;  /* B has another record file than at the beginning */
bool source_replaced; /* A has, and knows nothing of a migration that had begun, its secret neither */
bool pretended; /* BREAK_UNRECORDED_REFUSAL */
#define DESTINATION_SAYS(m, phase) \
  (destination[m] == phase && SAME_RECORDS && (!quiet || (SERVES(DESTINATION_NODE(m)) && PEERS(m))))
#define SOURCE_SAYS(m, phase) (source[m] == phase && !source_replaced && (!quiet || SOURCE_AT(m, phase)))
