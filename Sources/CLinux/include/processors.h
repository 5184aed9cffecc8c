// sched_getaffinity(2), which Glibc's Swift module hides.
#pragma once

/// How many processors this process may run on; -1 with errno set where that is not told.
int clinux_usable_processors(void);
