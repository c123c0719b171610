//! Memory that is needed soon, fetched while something else is done.
//!
//! A pass over players touches what belongs to each once, and by the next pass other things have taken its place in the CPU's cache.

/// Has the CPU fetch `value`, without waiting for it.
pub(super) fn prefetch<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    for line in (0..size_of::<T>()).step_by(64) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let start = std::ptr::from_ref(value).cast::<i8>();
        // SAFETY: the address is within `value`, and a prefetch of any address does nothing but take time.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(start.add(line)) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}
