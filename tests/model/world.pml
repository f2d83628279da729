/* What goes wrong, and what comes back. */

/* A copy is held by the freezer of its cgroup, which outlives engine and agent. */
#ifdef BREAK_HOLD_BY_PTRACE
#define TRACER_DIES(n, k) if :: NODE_OF(k) == n && copy[k] == HELD -> COPY(k, RUNS); ONE_RUNS :: else fi
#else
#define TRACER_DIES(n, k)
#endif
#define NODE_DIES(n, k) if :: NODE_OF(k) == n && copy[k] != ABSENT -> copy[k] = DEAD :: else fi

#define MOVE_READY(m, n) \
  ((SOURCE_NODE(m) != n || SOURCE_READY(m)) && (DESTINATION_NODE(m) != n || DESTINATION_READY(m)))
#if MOVES == 1
#define EACH_COPY(what, n) what(n, 0); what(n, 1)
#define READY(n) MOVE_READY(1, n)
#else
#define EACH_COPY(what, n) what(n, 0); what(n, 1); what(n, 2)
#define READY(n) (MOVE_READY(1, n) && MOVE_READY(2, n))
#endif

bool gone;
#ifdef NODE_GONE
#define COMES_BACK(n) !(gone && n == NODE_GONE)
#else
#define COMES_BACK(n) true
#endif

/* An agent that starts first does what its records announce (Migrations::recover), and then serves. */
proctype Node(byte n) {
end:
  do
  :: d_step {
      !quiet && crashes > 0 && node[n] != DOWN ->
      crashes--; node[n] = DOWN; printf("agent %c dies\n", 65 + n); EACH_COPY(TRACER_DIES, n) }
  :: d_step {
      !quiet && reboots > 0 && !off[n] ->
      reboots--; node[n] = DOWN; off[n] = true; BOOTS_ANEW(n); printf("node %c goes off\n", 65 + n);
      EACH_COPY(NODE_DIES, n);
#ifdef ONE_REBOOT /* the death of the destination's node costs a workload nothing that has not run there */
      assert(VIABLE || ran[1] || n != 1);
#endif
      LAST_IS_DEAD }
  :: d_step {
      node[n] == DOWN && COMES_BACK(n) ->
      node[n] = STARTING; off[n] = false; NEW_LIFE(n); printf("agent %c starts\n", 65 + n) }
  :: d_step {
      node[n] == STARTING && READY(n) -> node[n] = UP; printf("agent %c serves\n", 65 + n) }
#ifdef BREAK_STOP_AFTER_FAILED_WRITE
  :: d_step {
      !quiet && node[n] == UP && !stuck[n] ->
      stuck[n] = true; printf("a write of agent %c fails, and yet is on disk\n", 65 + n) }
#endif
  od
}

proctype World() {
end:
  do
#if DEATHS > 0
#define DEATH(k) \
  d_step { !quiet && deaths > 0 && copy[k] == HELD -> deaths--; printf("killed: "); COPY(k, DEAD); LAST_IS_DEAD }
  :: DEATH(0)
  :: DEATH(1)
#if MOVES == 2
  :: DEATH(2)
#endif
#endif
  :: d_step { !quiet -> quiet = true; printf("quiet\n") }
  :: d_step {
      !quiet && coordinator_crashes > 0 && coordinator_lives ->
      coordinator_crashes--; coordinator_lives = false; token[1] = false; token[MOVES] = false;
      printf("coordinator dies\n") }
  :: d_step {
      !coordinator_lives && !coordinator_gone -> coordinator_lives = true; printf("coordinator returns\n") }
#ifdef COORDINATOR_GONE
  :: d_step { !coordinator_lives && !coordinator_gone -> coordinator_gone = true; printf("for ever\n") }
#endif
#if BACKUPS > 0
  :: d_step {
      !quiet && !coordinator_lives && backups > 0 ->
      backups--; coordinator[1] = MOVING; coordinator[MOVES] = MOVING; printf("its journal is of before the commit\n") }
  :: d_step {
      !quiet && !coordinator_lives && backups > 0 ->
      backups--; coordinator[1] = IDLE; coordinator[MOVES] = IDLE; printf("its journal knows of nothing\n") }
#endif
#ifdef NODE_GONE
  :: d_step { node[NODE_GONE] == DOWN && !gone -> gone = true; printf("agent %c stays away\n", 65 + NODE_GONE) }
#endif
#ifdef REPLACED
  :: d_step {
      !quiet && !replaced && node[1] == DOWN ->
      replaced = true; destination[1] = NONE; printf("the records of B are gone\n") }
#endif
#ifdef REPLACED_SOURCE
  :: d_step {
      !quiet && !source_replaced && node[0] == DOWN && source[1] != NONE ->
      source_replaced = true; source[1] = NONE; printf("the records of A are gone\n") }
#endif
#if CUTS > 0
#define CUT(link) \
  d_step { !quiet && cuts > 0 && !(cut & link) -> cuts--; cut = cut | link; printf("link %d is cut\n", link) }
  :: CUT(A_B)
  :: CUT(COORDINATOR_A)
  :: CUT(COORDINATOR_B)
#ifdef RETRY
  :: CUT(A_C)
  :: CUT(COORDINATOR_C)
#endif
  :: d_step { cut != 0 -> cut = 0; printf("the links heal\n") }
#endif
  od
}
