//! The texts of /proc.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::doctor::rights;
use crate::procfs::{self, Mount, escape, unescape};
use crate::step::ping::Groups;

/// mountinfo, stat, locks, uid_map, status and /proc/sys/net/ipv4/ping_group_range.
pub fn proc(input: &[u8]) {
    mountinfo(input);
    if let Some(stat) = procfs::stat(input) {
        // Whatever a process's name is, its line gives that name and the other fields.
        let name = [b"1 (", stat.name.as_slice(), b") "].concat();
        let state = match (stat.waits, stat.dead) {
            (true, _) => "S",
            (_, true) => "Z",
            _ => "R",
        };
        let (parent, group, session) = (stat.parent, stat.group, stat.session);
        let (terminal, started) = (stat.terminal, stat.started);
        let rest = format!(
            "{state} {parent} {group} {session} {terminal} -1 4 0 0 0 0 0 0 0 0 20 0 1 0 {started} 1\n"
        );
        assert_eq!(procfs::stat(&[&name, rest.as_bytes()].concat()), Some(stat));
    }
    let file = ((0, 0x1a), 1187);
    let held = b"\n1: FLOCK  ADVISORY  WRITE 812 00:1a:1187 0 EOF\n";
    let waits = b"\n1: -> FLOCK  ADVISORY  WRITE 812 00:1a:1187 0 EOF\n";
    assert!(procfs::is_flocked(&[input, held].concat(), file.0, file.1));
    let there = procfs::is_flocked(input, file.0, file.1);
    assert_eq!(
        procfs::is_flocked(&[input, waits].concat(), file.0, file.1),
        there
    );
    assert_eq!(unescape(&escape(input)).as_bytes(), input);
    rights::map_of_its_own(input);
    rights::field(input, b"Seccomp:");
    if let Some(groups) = Groups::parse(input) {
        assert_eq!(Groups::parse(groups.to_string().as_bytes()), Some(groups));
    }
}

/// mountinfo.
fn mountinfo(input: &[u8]) {
    let mounts = procfs::mounts(input);
    assert!(mounts.len() <= input.split(|byte| *byte == b'\n').count());
    // The mounts below some places are a subsequence of all mounts.
    let below = procfs::mounts_in(input, &["/etc"]);
    let mut all = mounts.iter();
    assert!(below.iter().all(|mount| all.any(|other| other == mount)));
    for mount in &mounts {
        assert_eq!(procfs::mounts(&written(mount)), std::slice::from_ref(mount));
    }
    let dir = Path::new("/sys");
    let points = mounts.iter().map(|mount| mount.point.as_path());
    let upper = procfs::uppermost_below(points.clone(), dir);
    for point in points.filter(|point| *point != dir && point.starts_with(dir)) {
        assert!(upper.iter().any(|upper| point.starts_with(upper)));
    }
    for (n, one) in upper.iter().enumerate() {
        let other = |(m, other): (usize, &&Path)| m != n && one.starts_with(other);
        assert!(!upper.iter().enumerate().any(other));
    }
}

/// The line of mountinfo for a mount.
fn written(mount: &Mount) -> Vec<u8> {
    let shared = if mount.shared { " shared:1" } else { "" };
    let slave = if mount.slave { " master:1" } else { "" };
    let ids = format!("{} {} 0:1 ", mount.id, mount.parent);
    [
        ids.as_bytes(),
        &escape(mount.root.as_os_str().as_bytes()),
        b" ",
        &escape(mount.point.as_os_str().as_bytes()),
        format!(" {}{shared}{slave} - {} ", mount.options, mount.kind).as_bytes(),
        &escape(mount.source.as_bytes()),
        b" ",
        mount.data.as_bytes(),
        b"\n",
    ]
    .concat()
}
