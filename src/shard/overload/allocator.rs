//! What the program's allocator is told to do.

/// Gives back to the kernel what is free of this thread's memory, and of what no thread has. By itself the allocator does so as
/// the thread allocates and frees more, for which a node that has closed whoever used it may wait for minutes. Takes a system
/// call per free range; threads that allocate meanwhile do not wait.
pub(super) fn give_back() {
    // SAFETY: the call takes no pointers, any thread may make it, and memory in use is not touched.
    unsafe { libmimalloc_sys::mi_collect(true) }
}
