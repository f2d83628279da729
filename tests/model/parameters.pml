/* How many migrations there are, and what may go wrong. The table in `run` sets these for each variant.
 *
 * Every fault has a budget, and every step makes a record, a copy or a budget go forward: so a run ends, and what must
 * come to pass is asserted where nothing can happen any more (laws.pml). `run` also checks that no run is endless. */

#if defined(RETRY) /* migration 1 takes the workload from A to B, migration 2 takes the same copy from A to C */
#define MOVES 2
#define NODES 3
#define FROM(m) 0
#define NODE_OF(k) (k)
#elif defined(CHAIN) /* migration 1 takes it from A to B, migration 2 takes what arrived from B to A */
#define MOVES 2
#define NODES 2
#define FROM(m) ((m) - 1)
#define NODE_OF(k) ((k) % 2)
#else /* one migration, A to B */
#define MOVES 1
#define NODES 2
#define FROM(m) 0
#define NODE_OF(k) (k)
#endif

#ifndef CRASHES /* of agents; the copies on the node live on */
#define CRASHES 0
#endif
#ifndef REBOOTS /* of nodes; the copies there are gone, the records are not */
#define REBOOTS 0
#endif
#ifndef DEATHS /* of a copy that is held: somebody else kills it */
#define DEATHS 0
#endif
#ifndef COORDINATOR_CRASHES
#define COORDINATOR_CRASHES 0
#endif
#ifndef BACKUPS /* a coordinator that crashed comes back with an old journal */
#define BACKUPS 0
#endif
#ifndef CUTS /* of links, healed later */
#define CUTS 0
#endif
#ifndef BAD_THAWS /* a committed copy does not come to life as a whole */
#define BAD_THAWS 0
#endif
#ifndef RUN_ONS /* a freeze finds that the last difference is too large */
#define RUN_ONS 0
#endif
byte crashes = CRASHES, reboots = REBOOTS, deaths = DEATHS, bad_thaws = BAD_THAWS, run_ons = RUN_ONS;
byte coordinator_crashes = COORDINATOR_CRASHES, backups = BACKUPS, cuts = CUTS;

/* Without a number:
 *   COORDINATOR_GONE  a coordinator that crashed may stay away
 *   NODE_GONE=n       an agent of this node that crashed may stay away
 *   CUT_FOR_EVER      any set of links does not exist, from the start
 *   ARBITRARY         the coordinator sends anything at any time
 *   REPLACED          B's agent may come back with an empty record file
 *   REPLACED_SOURCE   so may A's
 *   RESOLVE           there is an operator who resolves
 *   TAKE_OVER         there is one who has a destination take over whose source is off
 *   HOLD_IF_LOST      what a copy writes into files is there for the other one, too (if_lost = hold); an operator may say
 *                     that a source goes on all the same
 *   PRUNES            records are given up when they are settled
 *   ONE_REBOOT        see world.pml
 *   BREAK_...         see rules.pml */
