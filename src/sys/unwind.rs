//! Stubs for the unwinder that this program does not have. A panic aborts, and a stripped binary has no names to show
//! for a stack, so an unwinder, and all that std needs to read debugging information, would be a fifth of the binary
//! for nothing. A backtrace ends at once; the other functions are there to be linked, and never called (Itanium C++
//! ABI, exception handling, level 1).

use std::ffi::{c_int, c_void};

/// `_URC_END_OF_STACK`.
const END_OF_STACK: c_int = 5;

/// Reports no frame.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Backtrace(_trace: *const c_void, _argument: *const c_void) -> c_int {
    END_OF_STACK
}

/// Functions that only unwinding calls.
macro_rules! never {
    ($($name:ident)*) => {$(
        /// Never called.
        #[unsafe(no_mangle)]
        extern "C" fn $name() -> ! {
            // SAFETY: abort takes nothing and touches nothing.
            unsafe { libc::abort() }
        }
    )*};
}

never! {
    _Unwind_DeleteException _Unwind_FindEnclosingFunction _Unwind_GetCFA _Unwind_GetDataRelBase _Unwind_GetGR
    _Unwind_GetIP _Unwind_GetIPInfo _Unwind_GetLanguageSpecificData _Unwind_GetRegionStart _Unwind_GetTextRelBase
    _Unwind_RaiseException _Unwind_Resume _Unwind_SetGR _Unwind_SetIP
}
