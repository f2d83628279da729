/* The good endings. `run` reads from the checker's report which of them were reached: where one is out of reach that
 * should not be, a pass is worth nothing. */

ENDING(source[1] == THAWED && !(sent[1] & IMAGES) && copy[0] == RUNS, "never frozen\n");
ENDING(source[1] == THAWED && (sent[1] & IMAGES) && !(sent[1] & TOKEN) && copy[0] == RUNS, "thawed unarmed\n");
ENDING(source[1] == THAWED && (sent[1] & TOKEN) && HAS_REFUSED(1) && copy[0] == RUNS, "refused\n");
ENDING(source[1] == KILLED && copy[1] == RUNS, "moved\n");
ENDING(source[1] == THAWED && destination[1] == LOST && copy[0] == RUNS, "lost there\n");
ENDING(source[1] == LOST && copy[1] == RUNS, "lost here\n");
ENDING(coordinator_gone && (sent[1] & TOKEN) && HAS_REFUSED(1) && copy[0] == RUNS, "refused undriven\n");
ENDING(coordinator_gone && source[1] == KILLED && copy[1] == RUNS, "moved undriven\n");
ENDING(source[1] == ARMED && copy[0] == HELD && !CAN_ASK(1), "waits\n");
ENDING(resolved && source[1] == THAWED && copy[0] == RUNS, "resolved\n");
ENDING(taken_over && !(sent[1] & TOKEN) && copy[1] == RUNS, "taken over unarmed\n");
ENDING(taken_over && source[1] == LOST && copy[1] == RUNS, "taken over\n");
ENDING(source[1] == ARMED && copy[0] == HELD && CAN_ASK(1) && HELD_AFTER_LOSS(1), "held after a loss\n");
ENDING(run_ons < RUN_ONS && source[1] == KILLED && copy[1] == RUNS, "moved after it ran on\n");
ENDING(runs_on[1] && source[1] == THAWED && copy[0] == RUNS, "let go while it runs on\n");
/* RETRY */
ENDING(MOVES == 2 && FROM(MOVES) == 0 && (sent[1] & IMAGES) && source[MOVES] == KILLED, "moved elsewhere\n");
/* CHAIN */
ENDING(FROM(MOVES) == 1 && source[MOVES] == KILLED && copy[MOVES] == RUNS, "back again\n");
ENDING(FROM(MOVES) == 1 && source[MOVES] == THAWED && (sent[MOVES] & TOKEN) && copy[1] == RUNS, "stays there\n");
