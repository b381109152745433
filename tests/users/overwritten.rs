//! Kak's own binary, which root runs outside, and what a jail can do to it while it is run in there: every process of
//! kak's in the jail is one that could be written by /proc/PID/exe (CVE-2019-5736), did it not run.

use std::process::{Command, Stdio};

use crate::people::*;
use crate::sandbox::*;

/// Opens the binary of every process of kak's that it sees, holds it, and tries to write it, by that, by its process and
/// by its names, as long as there is somebody who runs it and after that; what became of the tries.
const WRITE: &str = r"
import os, sys
held, said = {}, set()
print('trying', flush=True)
def attempt(path):
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC, os.O_WRONLY | os.O_APPEND):
        try: fd = os.open(path, flags)
        except OSError as error: said.add(error.strerror)
        else:
            os.write(fd, b'#!/home/evil\n')
            said.add('WRITTEN ' + path)
    try: os.truncate(path, 0)
    except OSError as error: said.add(error.strerror)
    else: said.add('CUT ' + path)
while not os.path.exists('/home/look/done'):
    for pid in filter(str.isdigit, os.listdir('/proc')):
        exe = '/proc/' + pid + '/exe'
        try:
            if not os.readlink(exe).startswith(sys.argv[1]): continue
            if pid not in held: held[pid] = os.open(exe, os.O_PATH)
        except OSError: continue
        attempt(exe)
    for fd in held.values(): attempt('/proc/self/fd/%d' % fd)
    for path in sys.argv[1:]: attempt(path)
print(len(held), '|'.join(sorted(said)))
";

/// The binary and the set-user-ID copy, to the byte.
fn binaries() -> String {
    sh("sha256sum /bin/kak /bin/nssh; stat -L -c '%i %s %a %u %y' /bin/kak /bin/nssh")
}

/// Starts the tries in the jail, lets root and alice come and go, and says what became of the tries.
fn tried(mut nssh: Command, paths: &str) -> String {
    sh("rm -f /home/look/done");
    std::fs::write("/home/look/write.py", WRITE).unwrap();
    let command = format!("exec python3 /home/look/write.py {paths} >/home/look/said");
    sh("mkdir -p /home/look; : >/home/look/said; chmod 666 /home/look/said");
    let mut tries = nssh
        .args(["-c", &command])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    until("it tries", || {
        sh("cat /home/look/said").starts_with("trying")
    });
    for _ in 0..20 {
        run("nssh -c true");
        run("kak nssh --pty -- -c true");
        ALICE.run("nssh -c true");
    }
    sh("touch /home/look/done");
    tries.wait().unwrap();
    sh("sed 1d /home/look/said")
}

sandboxed! {
    fn the_binary_stays_what_it_is_whatever_the_jails_root_does() {
        live_together();
        sh("mkdir /home/look");
        let binary = sh("readlink -f /bin/kak");
        let before = binaries();
        let said = tried(Command::new("nssh"), &binary);
        // By its names it is read-only, by who runs it busy; some have gone in between.
        let (held, became) = said.split_once(' ').unwrap();
        let became = became.trim_start_matches("No such file or directory|");
        assert_eq!(became, "Read-only file system|Text file busy");
        assert!(held.parse::<u32>().unwrap() > 5, "{said}");
        // Nor where the shell is a script that has whoever runs it run once more, with all that a loader is told.
        sh("nssh -c 'printf \"#!/proc/self/exe\\n\" >/tmp/again; chmod 755 /tmp/again; mount --bind /tmp/again /usr/bin/bash'");
        run("LD_PRELOAD=/tmp/x.so timeout 10 nssh -c true");
        run("LD_PRELOAD=/tmp/x.so timeout 10 kak nssh --pty -- -c true");
        assert_eq!(binaries(), before);
        sh("kak teardown");
        assert_eq!(binaries(), before);
    }

    fn a_guest_writes_neither_the_binary_nor_the_copy() {
        live_together();
        sh("mkdir /home/look");
        let before = binaries();
        let said = tried(ALICE.command(&[], &["nssh"]), &format!("{} /bin/nssh", sh("readlink -f /bin/kak")));
        // She is not even shown what others run.
        assert_eq!(said, "0 Permission denied|Read-only file system");
        assert_eq!(binaries(), before);
    }
}
