//! The name and the command line of this process. One that outlives its caller would otherwise keep the caller's words:
//! they no longer apply, and whoever kills processes by their command line (pkill -f) would end a jail.

use std::ffi::CStr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// What `main` was called with; null where there is no main of ours.
static ARGV: AtomicPtr<*const libc::c_char> = AtomicPtr::new(std::ptr::null_mut());

/// Remembers where the kernel has put the words (`execve`(2)): argv's pointers, a null pointer, those of the
/// environment, and another null pointer.
#[cfg(not(any(test, fuzzing)))]
pub(super) fn remember(argv: *const *const libc::c_char) {
    ARGV.store(argv.cast_mut(), Ordering::Relaxed);
}

/// Names this process: `name` alone, 15 bytes at most, as its `comm` (`PR_SET_NAME`), and `name` and `of` as the
/// command line that ps(1) shows, cut off where there is no more room. The environment's strings are overwritten too:
/// `/proc/PID/environ` would show them, and nothing reads them later.
/// <https://man7.org/linux/man-pages/man5/proc_pid_cmdline.5.html>
pub fn set_title(name: &CStr, of: &str) {
    rustix::thread::set_name(name).ok();
    let mut title = name.to_bytes().to_vec();
    if !of.is_empty() {
        title.push(b' ');
        title.extend(of.as_bytes());
    }
    let (start, size) = words();
    title.truncate(size.saturating_sub(1));
    // SAFETY: these bytes are this process's own, writable and as many (see `words`); there is no other thread, and
    // nothing holds on to a string in them.
    unsafe { start.write_bytes(0, size) };
    // SAFETY: as above; the title is no longer than they are.
    unsafe { std::ptr::copy_nonoverlapping(title.as_ptr().cast(), start, title.len()) };
}

/// Where the strings of argv and of the environment begin, one behind the other, and how many bytes they are.
fn words() -> (*mut libc::c_char, usize) {
    let mut next = ARGV.load(Ordering::Relaxed).cast_const();
    let mut start = std::ptr::NonNull::dangling().as_ptr();
    let (mut size, mut nulls) = (0, 0);
    while !next.is_null() && nulls < 2 {
        // SAFETY: the second null pointer has not been passed yet.
        let string = unsafe { *next };
        // SAFETY: nor is this it, or the loop ends here.
        next = unsafe { next.add(1) };
        if string.is_null() {
            nulls += 1;
            continue;
        }
        if size == 0 {
            start = string.cast_mut();
        } else if string != start.wrapping_add(size).cast_const() {
            break;
        }
        // SAFETY: each points to a string that ends in NUL.
        size += unsafe { CStr::from_ptr(string) }.count_bytes() + 1;
    }
    (start, size)
}
