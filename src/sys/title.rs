//! What a process is called: its name and its command line. Who goes on after its caller would otherwise keep his words:
//! they are nobody's business any more, and whoever ends processes by their words would end a jail.

use std::ffi::CStr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

/// The strings of argv and, behind them, those of the environment, where the kernel has put them (`execve`(2)).
static START: AtomicPtr<libc::c_char> = AtomicPtr::new(std::ptr::null_mut());
/// How many bytes there are.
static SIZE: AtomicUsize = AtomicUsize::new(0);

/// Remembers where the strings are.
///
/// # Safety
///
/// `argv` is what `main` was called with: `argc` pointers and a null one, and then those of the environment.
#[cfg(not(any(test, fuzzing)))]
pub(super) unsafe fn remember(argc: usize, argv: *const *const libc::c_char) {
    let mut end: *const libc::c_char = std::ptr::null();
    let mut n = 0;
    loop {
        // SAFETY: there is a null pointer behind argv's, and another at the end.
        let at = unsafe { argv.add(n) };
        // SAFETY: one of them.
        let string = unsafe { *at };
        n += 1;
        if string.is_null() {
            if n > argc + 1 {
                break;
            }
            continue;
        }
        if end.is_null() {
            START.store(string.cast_mut(), Ordering::Relaxed);
        } else if string != end {
            break;
        }
        // SAFETY: each points to a string that ends in NUL.
        let size = unsafe { CStr::from_ptr(string) }.count_bytes() + 1;
        // SAFETY: behind that.
        end = unsafe { string.add(size) };
        SIZE.fetch_add(size, Ordering::Relaxed);
    }
}

/// Names this process: by `name` alone, 15 bytes at most, for `comm` (`PR_SET_NAME`), and by `name` and `of` for ps(1),
/// which reads of a longer one what there is room for. Its environment goes with its words: `/proc/PID/environ` shows what
/// was there, and nothing that is read later.
/// <https://man7.org/linux/man-pages/man5/proc_pid_cmdline.5.html>
pub fn set_title(name: &CStr, of: &str) {
    rustix::thread::set_name(name).ok();
    let (start, size) = (START.load(Ordering::Relaxed), SIZE.load(Ordering::Relaxed));
    let mut title = name.to_bytes().to_vec();
    if !of.is_empty() {
        title.push(b' ');
        title.extend(of.as_bytes());
    }
    title.truncate(size.saturating_sub(1));
    if size > 0 {
        title.resize(size, 0);
        // SAFETY: these bytes are this process's own, writable and as many (see `remember`); there is no other thread, and
        // nobody holds on to a string in them.
        unsafe { std::ptr::copy_nonoverlapping(title.as_ptr().cast(), start, size) };
    }
}
