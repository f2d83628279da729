// Standard input, output and error as a program finds and leaves them.
#pragma once

namespace godwit {

// First thing in main. Those that nobody has opened (`<&- >&- 2>&-`) are opened, or a file or socket of this program
// would become one of them, to be written into by the log. What reads finds the end, what is logged is gone, and what
// is printed fails: see below. Ends the program when that cannot be done.
void open_standard_streams();

// What was printed has arrived, or an Error says why not.
void finish_output();

// From here on a write that nobody reads any more (the log in `2>&1 | head`, a status) fails, and does not end this
// program. What it becomes or starts knows nothing of that; it would inherit SIG_IGN.
void survive_broken_pipes();

}  // namespace godwit
