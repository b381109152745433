//! kak's own binary, which root also runs outside, and what a jail can do to it: kak's processes in the jail lead to it
//! by /proc/PID/exe (CVE-2019-5736), through which it could be written once it is not running.

use std::process::{Command, Stdio};

use crate::people::*;
use crate::sandbox::*;

/// A Python program that opens the binary of each of kak's processes that it sees, and tries to write to it, through
/// that descriptor, through /proc/PID/exe and by its paths, while it is running and after that. Prints the outcomes.
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

/// The checksums and attributes of the binary and of the set-user-ID copy.
fn binaries() -> String {
    sh("sha256sum /bin/kak /bin/nssh; stat -L -c '%i %s %a %u %y' /bin/kak /bin/nssh")
}

/// Starts that program in the jail by this nssh, lets root and alice join and leave, and returns the outcomes.
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
        // By its path it is read-only, through a process it is busy; and some processes have ended in between.
        let (held, became) = said.split_once(' ').unwrap();
        let became = became.trim_start_matches("No such file or directory|");
        assert_eq!(became, "Read-only file system|Text file busy");
        assert!(held.parse::<u32>().unwrap() > 5, "{said}");
        // Nor if the shell is a script whose interpreter is /proc/self/exe, with variables for the dynamic loader.
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
        // She cannot even read which binary other users' processes run.
        assert_eq!(said, "0 Permission denied|Read-only file system");
        assert_eq!(binaries(), before);
    }
}
