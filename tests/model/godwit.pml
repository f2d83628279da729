/* The commit protocol of docs/commit-protocol.md, as agent/service carries it out. In an order to read it in: */
#include "parameters.pml"
#include "records.pml"
#include "messages.pml"
#include "rules.pml"
#include "laws.pml"
#include "source.pml"
#include "destination.pml"
#include "coordinator.pml"
#include "world.pml"

init {
  atomic {
    copy[0] = RUNS;
#ifdef CUT_FOR_EVER
    select(cut : 0 .. 7);
#endif
    run Source(1); run Destination(1); run Coordinator(1);
    run Node(0); run Node(1);
#if MOVES == 2
    run Source(2); run Destination(2); run Coordinator(2);
#endif
#if NODES == 3
    run Node(2);
#endif
    run World(); run End()
  }
}
