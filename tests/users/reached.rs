//! What can be reached from inside a jail, by its root, who has every capability here, and by a guest: through /proc,
//! descriptors, abstract sockets and ptrace(2). Inside and outside are distinguished by the kernel's own numbers:
//! devices and inodes, mounts, namespaces.

use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::people::*;
use crate::sandbox::*;

/// Prints of every process that is seen its root, directory, descriptors and namespaces, as far as permitted.
const LOOK: &str = r"
import json, os
def what(path):
    try: about = os.stat(path)
    except OSError as error: return error.strerror
    return '%d:%d %o' % (about.st_dev, about.st_ino, about.st_mode & 0o170000)
def link(path):
    try: return os.readlink(path)
    except OSError as error: return error.strerror
mounts = [line.split()[0] for line in open('/proc/self/mountinfo')]
all = {}
for pid in filter(str.isdigit, os.listdir('/proc')):
    dir = '/proc/' + pid
    try: name = open(dir + '/comm').read().strip()
    except OSError: continue
    one = {'name': name, 'fds': []}
    for place in ('root', 'cwd'): one[place] = [link(dir + '/' + place), what(dir + '/' + place), what(link(dir + '/' + place))]
    try: fds = os.listdir(dir + '/fd')
    except OSError: fds = []
    for fd in fds:
        try: info = dict(line.split(':', 1) for line in open(dir + '/fdinfo/' + fd) if ':' in line)
        except OSError: continue
        one['fds'].append([int(fd), link(dir + '/fd/' + fd), what(dir + '/fd/' + fd), info['mnt_id'].strip() in mounts])
    one['ns'] = {kind: link(dir + '/ns/' + kind) for kind in sorted(os.listdir('/proc/self/ns'))}
    all[pid] = one
print(json.dumps(all))
";

/// Tries to get another process's memory, descriptors and namespaces, and prints what it got.
const TAKE: &str = r"
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
pid = int(sys.argv[1])
got = []
here = ctypes.create_string_buffer(8)
class Vec(ctypes.Structure): _fields_ = [('base', ctypes.c_void_p), ('len', ctypes.c_size_t)]
start = [int(line.split('-')[0], 16) for line in open('/proc/%d/maps' % pid)] if os.access('/proc/%d/maps' % pid, os.R_OK) and os.geteuid() == 0 else [0x400000]
local, remote = Vec(ctypes.addressof(here), 8), Vec((start or [0x400000])[0], 8)
if libc.syscall(310, pid, ctypes.byref(local), 1, ctypes.byref(remote), 1, 0) >= 0: got.append('memory')
try: pidfd = os.pidfd_open(pid)
except OSError: pidfd = -1
for fd in range(64):
    copy = libc.syscall(438, pidfd, fd, 0)
    if copy < 0: continue
    about = os.fstat(copy)
    got.append('fd %o' % (about.st_mode & 0o170000))
    # SO_PEERPIDFD: the process at the other end of a socket
    peer, size = ctypes.c_int(-1), ctypes.c_uint(4)
    if libc.getsockopt(copy, 1, 77, ctypes.byref(peer), ctypes.byref(size)) == 0:
        got.append('peer')
        # CLONE_NEWNS, CLONE_NEWNET
        if libc.setns(peer.value, 0x20000 | 0x40000000) == 0: got.append('peer namespaces ' + ' '.join(sorted(os.listdir('/opt'))))
        for fd in range(16):
            if libc.syscall(438, peer.value, fd, 0) >= 0: got.append('peer fd %d' % fd)
# PTRACE_SEIZE, PTRACE_DETACH
if libc.ptrace(0x4206, pid, 0, 0) == 0:
    got.append('trace')
    libc.ptrace(17, pid, 0, 0)
print('\n'.join(got))
";

/// Gets the descriptors of new processes in their first moments, and prints which kinds of them lead further: pidfds,
/// sockets and directories.
const CATCH: &str = r"
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
call = libc.syscall
got, caught = set(), 0
last = os.getpid()
print('catching', flush=True)
while not os.path.exists('/home/look/done'):
    for _ in range(2000):
        for pid in (last + 1, last + 2, last + 3):
            one = call(434, pid, 0)
            if one < 0: continue
            last = pid
            for fd in range(3, 16):
                copy = call(438, one, fd, 0)
                if copy < 0: continue
                caught += 1
                link = os.readlink('/proc/self/fd/%d' % copy)
                if 'pidfd' in link or link.startswith('socket:') or os.path.isdir('/proc/self/fd/%d' % copy): got.add(link.split(':')[0])
                os.close(copy)
            os.close(one)
            break
print(caught, ' '.join(sorted(got)))
";

/// A jail that allows alice, with sessions of root's, one of them with `--pty`, and of alice's, all started in a
/// directory that the jail does not see, with directories and a file open.
fn sessions() -> Vec<Child> {
    move_in();
    sh(
        "mkdir -m 755 /opt/outer; touch /opt/outer/secret; mkdir -p /home/look
        kak setup --allow alice",
    );
    std::fs::write("/home/look/look.py", LOOK).unwrap();
    std::fs::write("/home/look/take.py", TAKE).unwrap();
    let open = "cd /opt/outer; exec 7</opt/outer 8</opt/outer/secret 9</ ";
    let root = |how: &str| {
        let script = format!("{open}; exec {how} 'sleep 1000; true'");
        let mut command = Command::new("bash");
        command.args(["-c", &script]);
        command
    };
    let mut guest = ALICE.command(
        &[],
        &[
            "bash",
            "-c",
            &format!("{open}; exec nssh -c 'sleep 1000; true'"),
        ],
    );
    let all = [
        root("nssh -c"),
        root("kak nssh --pty -- -c"),
        std::mem::replace(&mut guest, Command::new("true")),
    ];
    let all = all.map(|mut command| {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    });
    until("three shells", || {
        processes().values().filter(|name| *name == "sleep").count() == 3
    });
    all.into()
}

/// What a script in /home/look prints in the jail, run by root and by alice.
fn to_both(script: &str) -> [String; 2] {
    let command = format!("python3 /home/look/{script}");
    [
        sh(&format!("nssh -c '{command}'")),
        ALICE.bash(&format!("nssh -c '{command}'")),
    ]
}

sandboxed! {
    fn no_process_of_the_jail_leads_out() {
        let _sessions = sessions();
        let links = "for kind in pid mnt net; do readlink /proc/self/ns/$kind; done";
        let (outer, inner) = (sh(links), sh(&format!("nssh -c '{links}'")));
        let root = sh("nssh -c 'stat -c %d:%i /'");
        for (who, said) in ["root", "alice"].into_iter().zip(to_both("look.py")) {
            let all: Value = serde_json::from_str(&said).unwrap();
            let mut seen: Vec<&str> = Vec::new();
            for (pid, one) in all.as_object().unwrap() {
                let name = one["name"].as_str().unwrap();
                seen.push(name);
                let told = format!("{who} sees {pid}: {one:#}");
                let may = who == "root";
                for place in ["root", "cwd"] {
                    let [link, what, there] = [0, 1, 2].map(|n| one[place][n].as_str().unwrap());
                    if may || link.starts_with('/') {
                        // The path leads to the same directory in the jail, and the root is the jail's.
                        assert!(link.starts_with('/') && what == there, "{told}");
                        assert!(place == "cwd" || what.starts_with(&format!("{root} ")), "{told}");
                    }
                }
                for fd in one["fds"].as_array().unwrap() {
                    let number = fd[0].as_i64().unwrap();
                    let (link, what) = (fd[1].as_str().unwrap(), fd[2].as_str().unwrap());
                    // A directory could be a way out: only the looking process has one open, that which it reads.
                    assert!(!what.ends_with(" 40000") || name == "python3", "{told}");
                    let anonymous = !link.starts_with('/');
                    let lock = name == "kak-init" && link.ends_with("/lock");
                    let callers = number < 3 && !name.starts_with("kak-");
                    assert!(anonymous || fd[3] == true || lock || callers, "{fd} of outside: {told}");
                    assert!(number < 3 || name == "python3" || name.starts_with("kak-"), "{told}");
                }
                for (kind, link) in one["ns"].as_object().unwrap() {
                    let link = link.as_str().unwrap();
                    assert!(!outer.lines().any(|outer| outer == link), "{kind}: {told}");
                    if may && ["pid", "mnt", "net"].contains(&kind.as_str()) {
                        assert!(inner.lines().any(|inner| inner == link), "{kind}: {told}");
                    }
                }
            }
            for name in ["kak-init", "kak-session", "bash", "sleep"] {
                assert!(seen.contains(&name), "{who}: {seen:?}");
            }
        }
        // A control: outside, the same script does find what is outside.
        let out: Value = serde_json::from_str(&sh("exec 9</opt/outer; python3 /home/look/look.py")).unwrap();
        assert!(out.as_object().unwrap().values().any(|one| one["ns"]["mnt"].as_str() == outer.lines().nth(1)), "{out}");
    }

    fn the_directory_and_the_descriptors_of_the_caller_stay_outside() {
        let _sessions = sessions();
        for (nssh, home) in [("nssh", "/root"), ("kak nssh --", "/root")] {
            for cwd in ["/opt/outer", "/proc/self/fd/7", "/proc/self/cwd", "/proc/self/root/opt/outer"] {
                let said = sh(&format!("cd /opt/outer; exec 7</opt/outer; cd {cwd}; HOME=/root {nssh} -c 'pwd -P; ls -A . /proc/$$/cwd/; ls /proc/$$/fd | xargs; ls /proc/self/fd/7/ 2>&1 | tail -n 1'"));
                assert!(said.starts_with(home) && !said.contains("secret") && said.contains("No such file"), "{cwd}: {said}");
            }
        }
        ALICE.bash("cd /opt/outer; exec 7</opt/outer; ! nssh -c 'ls -A . /proc/self/fd/7/ 2>&1' | grep secret");
    }

    fn a_trace_of_init_leads_nowhere() {
        let _sessions = sessions();
        let monitors = "for file in /proc/[0-9]*/comm; do case $(cat $file) in (kak-*) dir=${file%/comm}; echo ${dir#/proc/};; esac; done";
        let mut taken = 0;
        for pid in sh(&format!("nssh -c '{monitors}'")).lines() {
            let [root, alice] = to_both(&format!("take.py {pid}"));
            assert_eq!(alice, "", "{pid}");
            // The jail's root gets only this of them, all of it the jail's: the lock file, the kernel's signals and
            // events, null devices, pipes and terminals. No directory, and no process outside.
            for got in root.lines() {
                assert!(["memory", "trace", "fd 0", "fd 10000", "fd 20000", "fd 100000"].contains(&got), "{pid}: {root}");
            }
            // The processes of the session that made the list have ended by now.
            taken += usize::from(root.contains("memory") && root.contains("trace"));
        }
        assert_eq!(taken, 4, "init and three monitors");
    }

    fn the_first_moments_of_a_session_give_nothing_away() {
        live_together();
        sh("mkdir /home/look; : >/home/look/said");
        std::fs::write("/home/look/catch.py", CATCH).unwrap();
        let mut catch = Command::new("nssh").args(["-c", "exec python3 /home/look/catch.py >/home/look/said"]).stderr(Stdio::null()).spawn().unwrap();
        until("it looks", || sh("cat /home/look/said") == "catching");
        // On a terminal, so that there is a guard outside; and with a delay in the first call that each session makes.
        let slowly = "strace -f -o /dev/null -e trace=close_range -e inject=close_range:delay_enter=20000";
        sh(&format!("script -qec 'for n in $(seq 5); do {slowly} nssh --norc -i -c true; {slowly} kak nssh --pty -- -c true; done' /dev/null </dev/null >/dev/null; touch /home/look/done"));
        catch.wait().unwrap();
        let said = sh("sed 1d /home/look/said");
        let (caught, got) = said.split_once(' ').unwrap_or((&said, ""));
        assert!(caught.parse::<u32>().unwrap() > 0 && got.is_empty(), "{said}");
    }

    fn abstract_sockets_are_of_one_side() {
        let _sessions = sessions();
        let listen = "import socket, sys, time\ns = socket.socket(socket.AF_UNIX)\ns.bind(chr(0) + sys.argv[1])\ns.listen()\nprint(1, flush=True)\ntime.sleep(1000)";
        let dial = |name: &str| format!("import socket\ntry:\n    socket.socket(socket.AF_UNIX).connect(chr(0) + \"{name}\")\n    print(\"reached\")\nexcept OSError as error: print(error.strerror)");
        std::fs::write("/home/look/listen.py", listen).unwrap();
        for name in ["outer", "inner"] {
            std::fs::write(format!("/home/look/{name}.py"), dial(name)).unwrap();
        }
        let _outer = Command::new("python3").args(["/home/look/listen.py", "outer"]).stdout(Stdio::null()).spawn().unwrap();
        let _inner = Command::new("nssh").args(["-c", "exec python3 /home/look/listen.py inner"]).stdout(Stdio::null()).spawn().unwrap();
        until("the outer one listens", || sh("python3 /home/look/outer.py") == "reached");
        until("the inner one listens", || sh("nssh -c 'python3 /home/look/inner.py'") == "reached");
        assert_eq!(to_both("outer.py"), ["Connection refused"; 2]);
        assert_eq!(sh("python3 /home/look/inner.py"), "Connection refused");
    }
}
