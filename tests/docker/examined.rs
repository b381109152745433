//! `kak doctor` in containers of all kinds.

use crate::rig::*;

/// Runs `kak doctor` in a container with these rights: the exit status, and the lines that are not ok.
fn doctor(rights: &[&str]) -> (Option<i32>, String) {
    let args = [
        &["run", "--rm", "--entrypoint", "kak"][..],
        rights,
        &[image(), "doctor"],
    ];
    let ended = docker(&args.concat());
    assert_eq!(ended.stderr, "", "{ended:?}");
    let bad = ended.stdout.lines().filter(|line| !line.starts_with("ok "));
    let bad: Vec<&str> = bad.collect();
    (ended.status.code(), bad.join("\n"))
}

/// The two capabilities, and nothing more.
const TWO: [&str; 4] = ["--cap-add", "SYS_ADMIN", "--cap-add", "NET_ADMIN"];

#[test]
fn what_is_missing_is_named() {
    let (status, bad) = doctor(&[]);
    assert_eq!(status, Some(1), "{bad}");
    for capability in ["SYS_ADMIN", "NET_ADMIN"] {
        let cure = format!("run as root; in Docker use --cap-add {capability}");
        let told = bad
            .split("\nfail")
            .find(|part| part.contains(&format!("  CAP_{capability}: ")));
        assert!(told.is_some_and(|told| told.contains(&cure)), "{bad}");
    }
    // No other check fails: those that need the capabilities are not made.
    let failed = bad.lines().filter(|line| line.starts_with("fail"));
    assert_eq!(failed.count(), 2, "{bad}");
    assert!(bad.contains("mounts: not checked: that takes CAP_SYS_ADMIN"));
    // One is not enough.
    let (status, bad) = doctor(&["--cap-add", "SYS_ADMIN"]);
    assert_eq!(status, Some(1), "{bad}");
    assert!(
        bad.starts_with("fail  CAP_NET_ADMIN: ") && !bad.contains("CAP_SYS_ADMIN"),
        "{bad}"
    );
}

#[test]
fn two_capabilities_are_enough() {
    assert_eq!(doctor(&TWO), (Some(0), String::new()));
    assert_eq!(doctor(&["--privileged"]), (Some(0), String::new()));
}

#[test]
fn what_a_container_lacks() {
    let with = |more: &[&str]| doctor(&[&TWO, more].concat());
    let (status, bad) = with(&["--read-only"]);
    assert_eq!(status, Some(1), "{bad}");
    assert!(
        bad.contains("fail  /run: Read-only file system") && bad.contains("fail  /mnt: Read-only"),
        "{bad}"
    );
    let (status, bad) = with(&["--read-only", "--tmpfs", "/run", "--tmpfs", "/mnt"]);
    assert_eq!(status, Some(0), "{bad}");
    assert!(
        bad.starts_with("warn  /etc: Read-only file system") && bad.lines().count() == 2,
        "{bad}"
    );
    let (status, bad) = with(&["--network", "none"]);
    assert_eq!(status, Some(0), "{bad}");
    assert!(
        bad.starts_with("warn  the way out: there is no default route"),
        "{bad}"
    );
    let (status, bad) = with(&["--security-opt", "no-new-privileges"]);
    assert_eq!(status, Some(0), "{bad}");
    assert!(bad.starts_with("warn  no_new_privs: is set"), "{bad}");
}

#[test]
fn inside_and_outside_of_the_jail() {
    let container = Container::jail();
    let outside = container.exec(&["kak", "doctor"]).code(0).stdout;
    assert!(!outside.contains("warn"), "{outside}");
    let inside = container.inside("kak doctor");
    assert!(
        inside.starts_with("warn  this is the inside of a jail: "),
        "{inside}"
    );
}
