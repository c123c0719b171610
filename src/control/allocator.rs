//! What the program's allocator is told to do.

/// Gives what is free back to the kernel now. By itself the allocator does so as other memory is freed, for which a node that
/// has refused or closed whoever used it may wait for minutes. Takes a system call per free range; threads that allocate
/// meanwhile do not wait.
pub(super) fn give_back() {
    // SAFETY: the call takes no pointers, any thread may make it, and memory in use is not touched.
    unsafe { libmimalloc_sys::mi_collect(true) }
}
