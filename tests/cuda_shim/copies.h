// Asynchronous copies to shared memory (cp.async), in groups.
#pragma once

namespace cuda_shim {

// Starts a copy of 16 bytes, or of zeros if not `real`. A device may carry it out at any time until it is waited for:
// in odd orders (set_order) the shim does so as late as possible, at the wait; in even orders at once.
void start_copy(void* to, const void* from, bool real);

// Commits the copies that this thread has started since its last commit as one group.
void commit_copy_group();

// Waits for all of this thread's copies, or until at most `pending` of its newest groups are in flight.
void wait_for_all_copies();
void wait_for_copy_groups(unsigned pending);

// Discards the copies of all threads, before a block starts.
void discard_copies();

}  // namespace cuda_shim
