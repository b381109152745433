//! A trial: a child in PID, mount and network namespaces of its own, as a jail's init is, makes one mount of each kind
//! that a jail has. All of it goes with the child, and nothing is seen outside: mount propagation is cut off first, and
//! if that is refused nothing else is tried.

use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::{Errno, Result};
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount, mount_bind_recursive,
    mount_change, move_mount, open_tree,
};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{WaitOptions, waitpid};
use rustix::thread::UnshareFlags;

use super::kernel::{Call, judge};
use super::{Cure, Place, Report, State, rights, say};
use crate::error::Error;
use crate::sys;

/// Where everything is mounted, one mount over the other. It exists wherever kak works, and is covered in the child
/// only.
const HERE: &str = "/proc";

/// What is tried, in this order; each text is for the report: a shell's command where there is one.
const STEPS: [&str; 8] = [
    "unshare --net",
    "mount --make-rslave /",
    "mount -t proc proc /proc",
    "mount -t sysfs sysfs /sys",
    "mount -t tmpfs tmpfs /tmp",
    "mount --rbind /tmp /tmp",
    "open_tree and move_mount",
    "mount_setattr",
];
/// Index of the network in that list.
const NET: usize = 0;
/// Index of the step without which no later one is tried.
const SLAVE: usize = 1;
/// Index of the proc for the jail's own processes.
const PROC: usize = 2;
/// Index of the sysfs for the jail's own network devices.
const SYSFS: usize = 3;
/// Indices of the other uses of mount(2).
const PLAIN: [usize; 3] = [SLAVE, 4, 5];
/// Index of the mount without a path.
const MOVE: usize = 6;
/// Index of what makes a mount read-only with all that is below it.
const SETATTR: usize = 7;

/// The result of a step that was not tried.
const NOT: i32 = -1;

/// A call that a kernel may not have.
const CLONE3: Call = Call {
    name: "clone3",
    what: "clone3",
    since: (5, 3),
    state: State::Fail,
    lost: "no jail can be started",
};
/// The same.
const MOVE_MOUNT: Call = Call {
    name: "move_mount",
    what: "open_tree and move_mount",
    since: (5, 2),
    state: State::Fail,
    lost: "no jail can have its own resolv.conf",
};
/// The same.
const MOUNT_SETATTR: Call = Call {
    name: "mount_setattr",
    what: "mount_setattr",
    since: (5, 12),
    state: State::Warn,
    lost: "no jail can have --bind SRC:ro",
};

/// Runs the checks.
pub fn look(place: &Place, report: &mut Report) {
    if !place.is_admin() {
        for (name, what) in [
            ("clone3", "clone3"),
            ("mount", "mounts"),
            ("proc", "a proc of its own"),
            ("sysfs", "a sysfs of its own"),
        ] {
            report.unchecked(name, what, "SYS_ADMIN");
        }
        return;
    }
    let read_only = place.mount("/sys").is_some_and(|mount| mount.read_only);
    let results = match run(read_only) {
        Err(Errno::NOSPC) => {
            let cure = say("fix the namespaces first");
            let why = "not checked: the namespaces for it cannot be made";
            report.warn("mount", "mounts", why, cure);
            return;
        }
        Err(Errno::NOSYS) => {
            judge(place, report, &CLONE3, Err(Errno::NOSYS));
            return;
        }
        Err(errno) => {
            let why = format!("unshare --pid --mount --fork: {}", Error::reason(errno));
            report.fail("mount", "mounts", &why, denied(place));
            return;
        }
        Ok(results) => results,
    };
    report.ok(CLONE3.name, CLONE3.what, "");
    let result = |at: usize| match results.get(at) {
        Some(0) => Ok(()),
        Some(errno) => Err(Errno::from_raw_os_error(*errno)),
        None => Err(Errno::IO),
    };
    let text = |at: usize, errno| {
        let step = STEPS.get(at).copied().unwrap_or_default();
        format!("{step}: {}", Error::reason(errno))
    };
    let refused = PLAIN
        .into_iter()
        .find_map(|at| Some((at, result(at).err()?)));
    match refused {
        None => report.ok("mount", "mounts", ""),
        Some((at, errno)) => report.fail("mount", "mounts", &text(at, errno), denied(place)),
    }
    let tried = |at: usize| results.get(at).is_some_and(|result| *result != NOT);
    for (at, name, what) in [
        (PROC, "proc", "a proc of its own"),
        (SYSFS, "sysfs", "a sysfs of its own"),
    ] {
        // A sysfs shows a network; without one of the child's own it is refused for another reason.
        if !tried(at) || at == SYSFS && result(NET).is_err() {
            continue;
        }
        match result(at) {
            Ok(()) => report.ok(name, what, ""),
            Err(errno) => report.fail(name, what, &text(at, errno), revealing(errno, place)),
        }
    }
    for (at, call) in [(MOVE, &MOVE_MOUNT), (SETATTR, &MOUNT_SETATTR)] {
        if tried(at) {
            judge(place, report, call, result(at));
        }
    }
}

/// What to do where mounts are denied in spite of the right.
fn denied(place: &Place) -> Cure {
    match rights::label().as_str() {
        "" | "unconfined" if place.filtered => {
            say("make the seccomp filter allow it; in Docker use --security-opt seccomp=unconfined")
        }
        "" | "unconfined" => say("allow it in the security module that forbids it"),
        label if label.contains(':') => say("in Docker use --security-opt label=disable"),
        _ => say("in Docker use --security-opt apparmor=unconfined"),
    }
}

/// What to do where a proc or a sysfs cannot be mounted afresh.
fn revealing(errno: Errno, place: &Place) -> Cure {
    match errno {
        Errno::PERM => say(
            "a user namespace needs a /proc and a /sys with nothing mounted over any part of them: \
             in Docker use --security-opt systempaths=unconfined, in Podman --security-opt unmask=ALL",
        ),
        _ => denied(place),
    }
}

/// Has a child try everything; returns each step's error number, 0, or [`NOT`].
fn run(read_only: bool) -> Result<Vec<i32>> {
    let (theirs, ours) = pipe_with(PipeFlags::CLOEXEC)?;
    let flags = libc::CLONE_NEWPID | libc::CLONE_NEWNS;
    let Some((pid, _)) = sys::clone(flags.unsigned_abs().into())? else {
        let results = attempt(read_only);
        let bytes = results.map(i32::to_ne_bytes).concat();
        rustix::io::write(&ours, &bytes).ok();
        sys::exit_now(0);
    };
    drop(ours);
    let results = read(&theirs);
    while waitpid(Some(pid), WaitOptions::empty()).is_err_and(|why| why == Errno::INTR) {}
    results
}

/// Reads the child's results.
fn read(from: &OwnedFd) -> Result<Vec<i32>> {
    let mut bytes = [0; 4 * STEPS.len()];
    let length = loop {
        match rustix::io::read(from, &mut bytes) {
            Err(Errno::INTR) => {}
            other => break other?,
        }
    };
    let (words, _) = bytes.get(..length).unwrap_or_default().as_chunks();
    Ok(words.iter().map(|word| i32::from_ne_bytes(*word)).collect())
}

/// In the child: tries everything.
fn attempt(read_only: bool) -> [i32; STEPS.len()] {
    let plain = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let of_sys = if read_only {
        plain | MountFlags::RDONLY
    } else {
        plain
    };
    let steps: [&dyn Fn() -> Result<()>; STEPS.len()] = [
        &|| sys::unshare(UnshareFlags::NEWNET),
        &|| {
            let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
            mount_change("/", slave)
        },
        &|| mount("proc", HERE, "proc", plain, None),
        &|| mount("sysfs", HERE, "sysfs", of_sys, None),
        &|| mount("tmpfs", HERE, "tmpfs", plain, Some(c"size=4k,mode=755")),
        &|| mount_bind_recursive(HERE, HERE),
        &|| {
            let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            let tree = open_tree(CWD, HERE, clone)?;
            move_mount(
                &tree,
                c"",
                CWD,
                HERE,
                MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
            )
        },
        &|| {
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            sys::make_read_only(rustix::fs::open(HERE, flags, Mode::empty())?.as_fd())
        },
    ];
    let mut results = [NOT; STEPS.len()];
    for (at, (step, result)) in steps.iter().zip(&mut results).enumerate() {
        *result = step().map_or_else(Errno::raw_os_error, |()| 0);
        if at == SLAVE && *result != 0 {
            break;
        }
    }
    results
}
