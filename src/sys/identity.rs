//! The IDs that the kernel has for this process, and what that still has of its caller. Part of the one door, as
//! unsafe.

use rustix::io::Result;

use super::check;

/// Whether the kernel gave this process more rights than its caller has (`AT_SECURE`, getauxval(3)).
pub fn is_privileged_by_file() -> bool {
    // SAFETY: getauxval reads what the kernel put on the stack.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// `int getresuid(uid_t *real, uid_t *effective, uid_t *saved)`.
/// <https://man7.org/linux/man-pages/man2/getresuid.2.html>
pub fn user_ids() -> Result<[u32; 3]> {
    let [mut real, mut effective, mut saved] = [0; 3];
    // SAFETY: the three live until the call returns.
    check(unsafe { libc::getresuid(&raw mut real, &raw mut effective, &raw mut saved) })?;
    Ok([real, effective, saved])
}

/// `int getresgid(gid_t *real, gid_t *effective, gid_t *saved)`.
pub fn group_ids() -> Result<[u32; 3]> {
    let [mut real, mut effective, mut saved] = [0; 3];
    // SAFETY: the three live until the call returns.
    check(unsafe { libc::getresgid(&raw mut real, &raw mut effective, &raw mut saved) })?;
    Ok([real, effective, saved])
}

/// `environ = NULL`: from here on there is no environment (as clearenv(3), but without the C library's heap).
pub fn clear_environment() {
    unsafe extern "C" {
        /// The C library's.
        static mut environ: *const *const libc::c_char;
    }
    // SAFETY: there is no other thread, and nobody keeps a pointer into it.
    unsafe { environ = std::ptr::null() };
}

/// `setitimer(which, 0)` for each timer that an exec leaves running.
/// <https://man7.org/linux/man-pages/man2/setitimer.2.html>
pub fn stop_timers() {
    // SAFETY: plain data, for which zeroes are valid: no timer.
    let never: libc::itimerval = unsafe { std::mem::zeroed() };
    for which in [libc::ITIMER_REAL, libc::ITIMER_VIRTUAL, libc::ITIMER_PROF] {
        // SAFETY: the structure is whole, and the old value is not asked for.
        unsafe { libc::setitimer(which, &raw const never, std::ptr::null_mut()) };
    }
}
