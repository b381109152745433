//! Parsers for the files of /proc: pure, total, fed with bytes. They know nothing of jails.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

/// One line of /proc/PID/mountinfo (proc_pid_mountinfo(5)).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mount {
    /// The kernel's number for it.
    pub id: u32,
    /// That of the mount that it stands on.
    pub parent: u32,
    /// Which part of its file system is mounted.
    pub root: PathBuf,
    /// Where it is mounted, as the process sees it.
    pub point: PathBuf,
    /// Whether the mount itself is read-only.
    pub read_only: bool,
    /// Whether it is in a peer group.
    pub shared: bool,
    /// Whether it is a slave of another one.
    pub slave: bool,
    /// The file system's type.
    pub kind: String,
    /// What it was mounted from.
    pub source: OsString,
    /// The mount's own options, as mount(8) lists them.
    pub options: String,
    /// Those of the file system, which all its mounts have.
    pub data: String,
}

/// The mounts that a mountinfo lists, in its order: what was mounted last on a place comes last. A line that is not
/// one is left out.
pub fn mounts(text: &[u8]) -> Vec<Mount> {
    mounts_in(text, &[])
}

/// The same, but only mounts whose mount points begin with one of these strings, or all if there are none. A machine
/// may have thousands of others.
pub fn mounts_in(text: &[u8], dirs: &[&str]) -> Vec<Mount> {
    let wanted = |line: &[u8]| {
        let point = line
            .splitn(6, |byte| *byte == b' ')
            .nth(4)
            .unwrap_or_default();
        dirs.is_empty() || dirs.iter().any(|dir| point.starts_with(dir.as_bytes()))
    };
    text.split(|byte| *byte == b'\n')
        .filter(|line| wanted(line))
        .filter_map(mount)
        .collect()
}

/// Parses a line of mountinfo.
fn mount(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let number = |bytes: &[u8]| std::str::from_utf8(bytes).ok()?.parse().ok();
    let id = number(fields.next()?)?;
    let parent = number(fields.next()?)?;
    let root = fields.nth(1)?;
    let point = fields.next()?;
    let options = fields.next()?;
    let (mut shared, mut slave) = (false, false);
    loop {
        match fields.next()? {
            b"-" => break,
            tag => {
                shared |= tag.starts_with(b"shared:");
                slave |= tag.starts_with(b"master:");
            }
        }
    }
    let kind = String::from_utf8_lossy(fields.next()?).into_owned();
    let source = unescape(fields.next()?);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let data = text(fields.next().unwrap_or_default());
    let read_only = options
        .split(|byte| *byte == b',')
        .any(|option| option == b"ro");
    Some(Mount {
        id,
        parent,
        root: unescape(root).into(),
        point: unescape(point).into(),
        read_only,
        shared,
        slave,
        kind,
        source,
        options: text(options),
        data,
    })
}

/// Takes back the kernel's escapes: a backslash and three octal digits for each blank, tab, newline and backslash.
pub fn unescape(text: &[u8]) -> OsString {
    if !text.contains(&b'\\') {
        return OsString::from_vec(text.into());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        let octal = match tail {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] if *first == b'\\' => {
                Some((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'))
            }
            _ => None,
        };
        bytes.push(octal.unwrap_or(*first));
        if octal.is_some() {
            rest = tail.get(3..).unwrap_or_default();
        }
    }
    OsString::from_vec(bytes)
}

/// Puts the escapes in that [`unescape`] takes back.
pub fn escape(bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' => text.extend(format!("\\{byte:03o}").bytes()),
            _ => text.push(*byte),
        }
    }
    text
}

/// Of some mount points, those below a directory that are not below another one of these.
pub fn uppermost_below<'a>(points: impl Iterator<Item = &'a Path>, dir: &Path) -> Vec<&'a Path> {
    let mut found: Vec<&Path> = Vec::new();
    for point in points.filter(|point| *point != dir && point.starts_with(dir)) {
        if !found.iter().any(|upper| point.starts_with(upper)) {
            // The kernel lists mounts in the order of their making, which is not always from the top down.
            found.retain(|lower| !lower.starts_with(point));
            found.push(point);
        }
    }
    found
}

/// What /proc/PID/stat says of a process (proc_pid_stat(5)).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stat {
    /// What it calls itself.
    pub name: Vec<u8>,
    /// Whether it sleeps until something happens (state S).
    pub waits: bool,
    /// Whether it is dead, and not reaped yet.
    pub dead: bool,
    /// Its parent.
    pub parent: i32,
    /// Its process group, 0 for one of another PID namespace.
    pub group: i32,
    /// Its session, 0 for one of another PID namespace.
    pub session: i32,
    /// Its controlling terminal's device number, 0 for none.
    pub terminal: i32,
    /// When it started, in ticks since boot.
    pub started: u64,
}

/// Parses /proc/PID/stat. The name in parentheses may contain anything, parentheses too.
pub fn stat(text: &[u8]) -> Option<Stat> {
    let start = text.iter().position(|byte| *byte == b'(')?;
    let end = text.iter().rposition(|byte| *byte == b')')?;
    let name = text.get(start + 1..end)?.to_vec();
    let rest = std::str::from_utf8(text.get(end + 1..)?).ok()?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let field = |n: usize| fields.get(n);
    Some(Stat {
        name,
        waits: *field(0)? == "S",
        dead: ["Z", "X"].contains(field(0)?),
        parent: field(1)?.parse().ok()?,
        group: field(2)?.parse().ok()?,
        session: field(3)?.parse().ok()?,
        terminal: field(4)?.parse().ok()?,
        started: field(19)?.parse().ok()?,
    })
}

/// Whether somebody holds an flock on a file, by /proc/locks (proc_locks(5)). Waiting for one does not count.
pub fn is_flocked(text: &[u8], (major, minor): (u32, u32), inode: u64) -> bool {
    let file = format!("{major:02x}:{minor:02x}:{inode}");
    text.split(|byte| *byte == b'\n').any(|line| {
        let mut words = line
            .split(|byte| *byte == b' ')
            .filter(|word| !word.is_empty());
        words.nth(1) == Some(b"FLOCK") && words.nth(3) == Some(file.as_bytes())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_line_of_mountinfo() {
        let text = b"36 35 98:0 /mnt1 /mnt/a\\040b rw,noatime master:1 shared:7 - ext3 /dev/root rw\nrubbish\n\n";
        let mounts = mounts(text);
        assert_eq!(mounts.len(), 1);
        let mount = &mounts[0];
        assert_eq!(mount.point, Path::new("/mnt/a b"));
        assert!(mount.shared && mount.slave && !mount.read_only);
        assert_eq!((mount.id, mount.parent), (36, 35));
        assert_eq!(
            (mount.kind.as_str(), mount.root.to_str()),
            ("ext3", Some("/mnt1"))
        );
        assert_eq!(
            (mount.options.as_str(), mount.data.as_str()),
            ("rw,noatime", "rw")
        );
    }

    #[test]
    fn uppermost() {
        let line = |point: &str| format!("1 1 0:1 / {point} rw - tmpfs x rw\n");
        let text: String = [
            "/sys",
            "/sys/fs/a/b",
            "/sys/fs/a",
            "/sys/fs/a/c",
            "/sysx",
            "/sys/k",
        ]
        .map(line)
        .concat();
        let mounts = mounts(text.as_bytes());
        assert_eq!(
            uppermost_below(
                mounts.iter().map(|mount| mount.point.as_path()),
                Path::new("/sys")
            ),
            [Path::new("/sys/fs/a"), Path::new("/sys/k")]
        );
    }

    #[test]
    fn a_process_may_call_itself_what_it_likes() {
        let text = b"7 (a) 1 (b) R 42 7 7 34816 7 0 0 0 0 0 0 0 0 0 20 0 1 0 991 0";
        let name = b"a) 1 (b".to_vec();
        assert_eq!(
            stat(text),
            Some(Stat {
                name,
                waits: false,
                dead: false,
                parent: 42,
                group: 7,
                session: 7,
                terminal: 34816,
                started: 991
            })
        );
    }

    #[test]
    fn locks() {
        let text = b"1: POSIX  ADVISORY  WRITE 7 00:1a:5 0 1\n2: FLOCK  ADVISORY  WRITE 812 00:1a:1187 0 EOF\n2: -> FLOCK  ADVISORY  WRITE 9 00:1a:6 0 EOF\n";
        assert!(is_flocked(text, (0, 0x1a), 1187));
        for (device, inode) in [
            ((0, 0x1a), 5),
            ((0, 0x1a), 6),
            ((0, 0x1b), 1187),
            ((0, 0x1a), 118),
        ] {
            assert!(!is_flocked(text, device, inode));
        }
    }

    proptest! {
        #[test]
        fn any_bytes(text: Vec<u8>) {
            mounts(&text);
            stat(&text);
            is_flocked(&text, (0, 0), 0);
            unescape(&text);
        }

        #[test]
        fn escapes_come_back(text: Vec<u8>) {
            prop_assert_eq!(unescape(&escape(&text)).into_vec(), text);
        }
    }
}
