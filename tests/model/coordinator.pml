/* The coordinator drives: coordinator/migration. No rule depends on its journal, and it may roll back at any time, so
 * its phases are told apart only where they send different things. */

proctype Coordinator(byte m) {
end:
  do
  :: d_step {
      coordinator_lives && coordinator[m] == IDLE && MAY_BEGIN(m) ->
      coordinator[m] = MOVING; BEGINS(m); SEND(m, PREPARE | FREEZE); printf("%d: coordinator prepares and freezes\n", m) }
  :: d_step {
      coordinator_lives && coordinator[m] == MOVING &&
      ARRIVES(m, FINISHED,
              destination[m] == PREPARED && SERVES(DESTINATION_NODE(m)) && REACHES(DESTINATION_NODE(m))) ->
      coordinator[m] = COMMITTING; SEND(m, ARM); printf("%d: coordinator arms\n", m) }
  :: d_step {
      coordinator_lives && coordinator[m] == COMMITTING && !token[m] &&
      ARRIVES(m, TOKEN, source[m] == ARMED && SERVES(SOURCE_NODE(m)) && REACHES(SOURCE_NODE(m))) ->
      token[m] = true; SEND(m, COMMIT); printf("%d: coordinator commits\n", m) }
  :: d_step {
      coordinator_lives &&
#ifdef BREAK_JOURNAL_IS_PROOF
      coordinator[m] == MOVING ->
#else
      (coordinator[m] == MOVING || coordinator[m] == COMMITTING) ->
#endif
      coordinator[m] = ROLLING_BACK; SEND(m, ABORT | DISCARD); printf("%d: coordinator rolls back\n", m) }
  od
}
