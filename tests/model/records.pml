/* What outlives an agent: copies, and the two records of each migration. */

mtype = {
  NONE, FROZEN, ARMED, ABORTED, THAWED, KILLING, KILLED,  /* source: agent/service/phases.h */
  BUILDING, PREPARED, REFUSED, COMMITTED, RESUMED,        /* destination */
  LOST,                                                   /* both */
  TOMBSTONE,  /* destination: `refused`, of an id that it knew nothing of */
  PRUNED,     /* destination: settled, and its slot used again: an id that it knows nothing of */
  ABSENT, HELD, RUNS, DEAD,              /* a copy */
  DOWN, STARTING, UP,                    /* a node's agent */
  IDLE, MOVING, COMMITTING, ROLLING_BACK /* the coordinator's journal */
};

mtype copy[MOVES + 1] = ABSENT; /* 0: as the workload began; m: what migration m builds */
mtype source[MOVES + 1] = NONE;
mtype destination[MOVES + 1] = NONE;
mtype node[NODES] = UP;

#define MOVED(m) copy[FROM(m)]
#define BUILT(m) copy[m]
#define SOURCE_NODE(m) NODE_OF(FROM(m))
#define DESTINATION_NODE(m) NODE_OF(m)

#ifdef RESOLVE
#define BUILDS_ON(n) rebooted[n] = false
#define BOOTS_ANEW(n) rebooted[n] = true
#else
#define BUILDS_ON(n)
#define BOOTS_ANEW(n)
#endif

#define UNKNOWN(m) (destination[m] == NONE || destination[m] == PRUNED)

#define LIVES(n) (node[n] != DOWN) /* does what its records announce */
#define SERVES(n) (node[n] == UP)  /* and answers */

/* One step is one of these: a message is received and checked, and one record is on disk; or one thing is done to one
 * copy. An agent may die between any two steps. */
#define SOURCE_RECORD(m, phase) source[m] = phase; printf("%d: source is %e\n", m, source[m])
#define DESTINATION_RECORD(m, phase) destination[m] = phase; printf("%d: destination is %e\n", m, destination[m])
#define COPY(k, state) copy[k] = state; printf("copy %d on %c %e\n", k, 65 + NODE_OF(k), copy[k])

/* No state of the protocol, but what laws and operators know. */
bool ran[MOVES + 1]; /* what migration m built has run, if only for a moment */
bool stale[MOVES + 1]; /* what was built is of before the source's copy ran on */
bool off[NODES];     /* the node was rebooted and has not come back */
bool rebooted[NODES]; /* since it began to build: not the boot id that the source knows. Kept for RESOLVE only */
bool resolved;       /* an operator has decided: the source goes on */
byte taken_over;     /* or that the destination does, of this migration */
