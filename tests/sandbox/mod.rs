//! A machine for one test. Not a mock: the kernel is the test double.
//!
//! A test made by [`sandboxed!`] runs three times over. The copy that the harness calls starts the test binary again in
//! fresh namespaces (mount, network, UTS, IPC, PID, and user unless it is root) and judges the result. That second copy
//! is PID 1: it builds a root of its own (see [`root`]), starts the third and reaps orphans, as every machine's first
//! process does. The third runs the test's body. When PID 1 ends, the kernel kills, unmounts and deletes the rest.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{WaitOptions, getpid, getppid};

pub use machine::*;

/// What a test asks the machine.
mod machine;
/// A DNS server and client.
pub mod resolver;
/// The root file system.
mod root;
/// A terminal, and what a person at it does.
pub mod terminal;
/// Clients, servers and packet counters.
pub mod traffic;
/// The rest of the world.
pub mod uplink;

/// The variable that tells a copy of this binary which one it is.
const STAGE: &str = "KAK_TEST_STAGE";

/// A test may take this many seconds. Most take one; the fault matrix waits for the kernel, which tears down the
/// network namespaces of all tests one after the other. The endurance tests may take long on a busy machine.
const LIMIT: &str = if ENDURES { "1200" } else { "180" };

/// Whether these are the endurance tests, which look at state of the whole kernel: they run one at a time.
const ENDURES: bool = matches!(env!("CARGO_CRATE_NAME").as_bytes(), b"endurance");

/// Is held by the one that runs.
static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());

/// The caller's variables that are passed on to a test's body.
const KEPT: &[&str] = &["KAK_SEED", ALL];

/// The limit where [`ALL`] is set.
const LIMIT_OF_ALL: &str = "3600";

/// The variable that says how much of the fault matrix to run.
const ALL: &str = "KAK_FAULTS";

/// The search path of a Debian login of root.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Makes each function a test whose body runs on a machine of its own.
macro_rules! sandboxed {
    ($($(#[$meta:meta])* fn $name:ident() $body:block)*) => {$(
        $(#[$meta])*
        #[test]
        fn $name() {
            $crate::sandbox::enter(concat!(module_path!(), "::", stringify!($name)), || $body);
        }
    )*};
}

/// Runs `body` on a machine of its own; `name` is the test's, with the crate's before it.
pub fn enter(name: &str, body: impl FnOnce()) {
    let name = name.split_once("::").unwrap().1;
    match std::env::var(STAGE).as_deref() {
        Err(_) => outside(name),
        // Both the variable and the place are needed: nobody lands in here by accident.
        Ok("first") if getpid().is_init() => first(name),
        Ok("body") if getppid().is_some_and(rustix::process::Pid::is_init) && root::is_ours() => {
            body();
        }
        Ok(stage) => panic!("{STAGE}={stage} is set, but this is not the sandbox"),
    }
}

/// In the harness: starts this binary again where the test can do no harm, and judges the result.
fn outside(name: &str) {
    let user = if rustix::process::geteuid().is_root() {
        &[][..]
    } else {
        &["--user", "--map-root-user"][..]
    };
    let _turn = ENDURES.then(|| {
        TURN.lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    });
    let limit = std::env::var_os(ALL).map_or(LIMIT, |_| LIMIT_OF_ALL);
    let output = Command::new("timeout")
        .args(["--signal=KILL", limit, "unshare"])
        .args(user)
        .args(["--mount", "--net", "--uts", "--ipc", "--pid"])
        .args(["--fork", "--kill-child", "--mount-proc"])
        .arg(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(STAGE, "first")
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .output()
        .expect("the tests need timeout (coreutils) and unshare (util-linux)");
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        !stderr.contains("unshare: unshare failed") && !stderr.contains("uid_map"),
        "no sandbox here: {stderr}{}",
        cure()
    );
    // One test in PID 1 and one in its child: a wrong name would have run none, and succeeded.
    let ran = stdout.matches("test result: ok. 1 passed").count();
    // What the body printed, without the lines of the inner harness.
    let said = stdout
        .lines()
        .filter(|line| !line.is_empty() && !line.contains("test"))
        .collect::<Vec<_>>()
        .join("\n");
    println!("{said}");
    assert!(
        output.status.success() && ran == 2,
        "{name}: {}{}\n{stderr}\n{said}",
        output.status,
        if output.status.code() == Some(137) {
            format!(" (still running after {limit} s?)")
        } else {
            String::new()
        },
    );
}

/// The settings that may keep an unprivileged user from having a sandbox.
fn cure() -> String {
    let mut text = String::from("user namespaces are needed where the tests do not run as root:\n");
    for (setting, wanted) in [
        ("user.max_user_namespaces", "10000"),
        ("kernel.unprivileged_userns_clone", "1"),
        ("kernel.apparmor_restrict_unprivileged_userns", "0"),
    ] {
        let path = Path::new("/proc/sys").join(setting.replace('.', "/"));
        if let Ok(value) = std::fs::read_to_string(path) {
            let value = value.trim();
            writeln!(text, "  is {setting}={value}: sysctl -w {setting}={wanted}").unwrap();
        }
    }
    text + "in a container: docker run --privileged"
}

/// As PID 1: builds the root, runs the body in a child, reaps whatever else dies.
fn first(name: &str) {
    root::build();
    let child = Command::new("/proc/self/exe")
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env_clear()
        .envs([
            (STAGE, "body"),
            ("PATH", PATH),
            ("HOME", "/root"),
            ("LC_ALL", "C"),
        ])
        .envs(
            KEPT.iter()
                .filter_map(|name| Some((name, std::env::var_os(name)?))),
        )
        .current_dir("/root")
        .spawn()
        .unwrap();
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid.as_raw_pid().cast_unsigned() == child.id() => {
                let status = status.exit_status();
                assert_eq!(status, Some(0), "the body's exit status");
                return;
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("wait: {error}"),
        }
    }
}
