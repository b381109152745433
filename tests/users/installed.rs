//! `kak --install --setuid-nssh PATH`: the copy, where it is put, and what it may replace.

use std::os::unix::fs::MetadataExt as _;

use crate::people::*;
use crate::sandbox::*;

/// Mode, owner, group and links of a file.
fn about(path: &str) -> (u32, u32, u32, u64) {
    let about = std::fs::symlink_metadata(path).unwrap();
    (
        about.mode() & 0o7777,
        about.uid(),
        about.gid(),
        about.nlink(),
    )
}

/// Runs the command.
fn install(path: &str) -> Ended {
    program(&["kak", "--install", "--setuid-nssh", path])
}

/// What it must be for a copy.
const RIGHT: (u32, u32, u32, u64) = (0o4755, 0, 0, 1);

sandboxed! {
    fn the_copy_is_a_file_of_its_own() {
        sh("mkdir -m 755 /opt/bin; chgrp 50 /opt/bin; chmod g+s /opt/bin");
        assert_eq!(run("umask 077; kak --install --setuid-nssh /opt/bin/nssh").code(0).stderr, "");
        assert_eq!(about("/opt/bin/nssh"), RIGHT);
        assert_eq!(std::fs::read("/opt/bin/nssh").unwrap(), std::fs::read("/bin/kak").unwrap());
        assert_eq!(sh("ls -A /opt/bin"), "nssh");
        // By a relative path, by a link to the directory, over itself, and run from itself.
        sh("cd /opt/bin; kak --install --setuid-nssh nssh; cd /opt; kak --install --setuid-nssh bin/nssh
            ln -s bin /opt/link; kak --install --setuid-nssh /opt/link/nssh
            bash -c 'exec -a kak /opt/bin/nssh --install --setuid-nssh /opt/bin/nssh'");
        assert_eq!(about("/opt/bin/nssh"), RIGHT);
        assert_eq!(about("/bin/kak").0, 0o755);
    }

    fn kaks_own_is_replaced() {
        sh("mkdir -m 755 /opt/bin /opt/kak; cp /bin/kak /opt/kak/kak");
        let old = std::fs::metadata("/opt/kak/kak").unwrap().ino();
        // Links to the binary, of either kind: the binary stays what it is.
        for make in ["ln /opt/kak/kak /opt/bin/nssh", "ln -sf /opt/kak/kak /opt/bin/nssh", "ln -sf ../kak/kak /opt/bin/nssh", "/opt/kak/kak --install /opt/bin"] {
            sh(&format!("rm -f /opt/bin/*; {make}; /opt/kak/kak --install --setuid-nssh /opt/bin/nssh"));
            assert_eq!(about("/opt/bin/nssh"), RIGHT, "{make}");
            assert_eq!(about("/opt/kak/kak").0, 0o755, "{make}");
            assert_eq!(std::fs::metadata("/opt/kak/kak").unwrap().ino(), old);
        }
        // A copy of another version: recognized by a text in it, not by being identical.
        sh("cp /bin/kak /opt/bin/nssh; printf 'another version' >>/opt/bin/nssh; chmod 4755 /opt/bin/nssh");
        assert_eq!(install("/opt/bin/nssh").code(0).stderr, "");
        assert_eq!(std::fs::read("/opt/bin/nssh").unwrap(), std::fs::read("/bin/kak").unwrap());
        sh("rm -r /opt/bin");
    }

    fn what_is_not_kaks_is_left_alone() {
        sh("mkdir -m 755 /opt/bin /opt/bin/true /opt/else");
        for make in [
            "echo mine >nssh",
            "cp /bin/true nssh",
            "ln -s /bin/true nssh",
            "ln -s nowhere nssh",
            "mkdir nssh",
            "mkfifo nssh",
            // Contains that text, but is no program.
            "grep -a -o 'kak: many names[ -~]*' /bin/kak >nssh",
            // Is a kak, but not root's.
            "cp /bin/kak nssh; printf x >>nssh; chown 1000 nssh",
            // A link to a kak other than this binary.
            "cp /bin/kak /opt/else/kak; printf x >>/opt/else/kak; ln -s /opt/else/kak nssh",
        ] {
            sh(&format!("cd /opt/bin; rm -rf nssh; {make}"));
            let before = sh("ls -lA --time-style=full-iso /opt/bin; test ! -f /opt/bin/nssh || cksum /opt/bin/nssh");
            install("/opt/bin/nssh").code(1).says("/opt/bin/nssh").says("left as it is");
            assert_eq!(sh("ls -lA --time-style=full-iso /opt/bin; test ! -f /opt/bin/nssh || cksum /opt/bin/nssh"), before, "{make}");
        }
    }

    fn it_is_put_only_where_it_is_safe() {
        move_in();
        sh("mkdir -m 755 /opt/fine /opt/hers /opt/group /opt/open /opt/sticky /opt/open/fine /opt/hers/fine
            chown 1000 /opt/hers; chmod 775 /opt/group; chmod 777 /opt/open; chmod 1777 /opt/sticky");
        for dir in ["/opt/hers", "/opt/group", "/opt/open", "/opt/sticky", "/tmp", "/home/alice", "/opt/open/fine", "/opt/hers/fine"] {
            let ended = install(&format!("{dir}/nssh")).code(1).says("not root's alone");
            assert_eq!(ended.stderr.lines().count(), 1, "{ended}");
            assert_eq!(sh(&format!("find {dir} -name 'nssh*'")), "");
        }
        sh("mkdir -m 755 /opt/sticky/fine");
        install("/opt/sticky/fine/nssh").code(0);
        install("/no/such/nssh").code(1).says("/no/such");
        for path in ["/opt/fine/kak", "/opt/fine/sh", "/opt/fine", "/", "", "/opt/fine/.."] {
            install(path).code(2).says("named nssh");
        }
        for words in [&["--setuid-nssh"][..], &["--setuid-nssh", "/opt/a/nssh", "/opt/b/nssh"], &["-s", "--setuid-nssh", "/opt/nssh"], &["--frob"], &[]] {
            program(&[&["kak", "--install"], words].concat()).code(2).says("--setuid-nssh PATH");
        }
        // Only root can make such a copy.
        sh("cp /bin/kak /opt/fine/kak");
        ALICE.program(&["/opt/fine/kak", "--install", "--setuid-nssh", "/home/alice/nssh"]).code(1).says("run as root");
        assert_eq!(sh("ls -A /opt/fine /home/alice"), "/home/alice:\n\n/opt/fine:\nkak");
    }

    fn it_is_there_whole_or_not_at_all() {
        sh("mkdir -m 755 /opt/bin; cp /bin/kak /opt/old; printf old >>/opt/old; chown 0:0 /opt/old; chmod 4755 /opt/old");
        let whole = std::fs::read("/bin/kak").unwrap();
        let old = std::fs::read("/opt/old").unwrap();
        for call in ["unlink", "openat", "open", "write", "fchown", "fchmod", "fsync", "rename", "renameat"] {
            for nth in 1..4 {
                for fault in ["signal=SIGKILL", "error=EIO"] {
                    sh("rm -rf /opt/bin/*; cp -p /opt/old /opt/bin/nssh");
                    let ended = run(&format!("strace -o /opt/trace -e trace={call} -e inject={call}:{fault}:when={nth} kak --install --setuid-nssh /opt/bin/nssh"));
                    let there = std::fs::read("/opt/bin/nssh").unwrap();
                    assert!(there == whole || there == old, "{call} {nth} {fault}: neither the old nor the new");
                    assert_eq!(about("/opt/bin/nssh"), RIGHT, "{call} {nth} {fault}");
                    if ended.status.code() == Some(0) {
                        assert!(there == whole, "{call} {nth} {fault}");
                    }
                    let left = sh("ls -A /opt/bin | grep -v '^nssh$' || true");
                    // A file that is left over has the set-user-ID bit only if it is complete; and the next run removes
                    // it.
                    if !left.is_empty() {
                        assert_eq!(left, "nssh.kak-new");
                        let (mode, ..) = about("/opt/bin/nssh.kak-new");
                        assert!(mode == 0o600 || std::fs::read("/opt/bin/nssh.kak-new").unwrap() == whole, "{mode:o}");
                        assert!(fault.starts_with("signal") || call == "unlink", "{call} {nth}: {ended}");
                    }
                    install("/opt/bin/nssh").code(0);
                    assert_eq!(sh("ls -A /opt/bin"), "nssh");
                    assert!(std::fs::read("/opt/bin/nssh").unwrap() == whole);
                }
            }
        }
        // A full file system.
        sh("mkdir /opt/small; mount -t tmpfs -o mode=755,size=100k x /opt/small");
        install("/opt/small/nssh").code(1).says("No space left");
        assert_eq!(sh("ls -A /opt/small"), "");
        sh("mount -o remount,ro /opt/small");
        install("/opt/small/nssh").code(1).says("Read-only");
    }
}
