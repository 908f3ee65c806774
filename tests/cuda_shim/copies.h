// Asynchronous copies to shared memory (cp.async), by group.
#pragma once

namespace cuda_shim {

// Starts a copy of 16 bytes, of zeros if not `real`. In orders of odd number (set_order) it is made when it is waited
// for, and no sooner; in the others at once, and no later. A device may do either.
void start_copy(void* to, const void* from, bool real);

// What this thread has started since the last call is one group.
void end_copy_group();

// This thread waits for all its copies, or for all but its newest groups.
void wait_for_all_copies();
void wait_for_copy_groups(unsigned newest_left_out);

// No thread has begun.
void forget_copies();

}  // namespace cuda_shim
