//! What other processes of the same user can do to a set-user-ID nssh: look at it, stop it, kill it, at any moment; and
//! what it does if the kernel refuses it a system call.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::people::*;
use crate::sandbox::*;

/// Tries to get all that can be got from another process, with the rights of the user who runs it, and prints what it
/// got.
const NOSY: &str = r"
import ctypes, os, sys
pid = int(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
got = []
for name in ('environ', 'maps', 'smaps', 'mem', 'auxv', 'io', 'syscall', 'stack', 'pagemap', 'personality'):
    try:
        with open('/proc/%d/%s' % (pid, name), 'rb') as file:
            # At the address 0 there is nothing to read.
            name == 'mem' or file.read(1)
        got.append(name)
    except OSError: pass
for name in ('exe', 'cwd', 'root', 'fd/0', 'fd/3', 'ns/mnt', 'ns/net', 'ns/pid', 'ns/pid_for_children', 'ns/user'):
    try:
        os.readlink('/proc/%d/%s' % (pid, name))
        got.append(name)
    except OSError: pass
for name in ('fd', 'map_files', 'root', 'cwd', 'task/%d/fd' % pid):
    try:
        os.listdir('/proc/%d/%s' % (pid, name))
        got.append(name + '/')
    except OSError: pass
for name in ('oom_score_adj', 'coredump_filter', 'comm', 'mem', 'clear_refs', 'timerslack_ns'):
    try:
        with open('/proc/%d/%s' % (pid, name), 'r+b', 0) as file: file.write(b'0')
        got.append('write ' + name)
    except OSError: pass
pidfd = os.pidfd_open(pid)
for fd in range(8):
    if libc.syscall(438, pidfd, fd, 0) >= 0: got.append('pidfd_getfd %d' % fd)
for flag in (0x20000, 0x40000000, 0x20000000):
    if libc.setns(pidfd, flag) == 0: got.append('setns %x' % flag)
# PTRACE_ATTACH, PTRACE_SEIZE
for request in (16, 0x4206):
    if libc.ptrace(request, pid, 0, 0) == 0: got.append('ptrace %x' % request)
here = ctypes.create_string_buffer(8)
class Vec(ctypes.Structure): _fields_ = [('base', ctypes.c_void_p), ('len', ctypes.c_size_t)]
local, remote = Vec(ctypes.addressof(here), 8), Vec(0x400000, 8)
for call in (310, 311):
    if libc.syscall(call, pid, ctypes.byref(local), 1, ctypes.byref(remote), 1, 0) >= 0: got.append('process_vm %d' % call)
# kcmp
if libc.syscall(312, os.getpid(), pid, 0, 0, 0) >= 0: got.append('kcmp')
print(' '.join(got))
";

/// What that program prints for this person and process.
fn nose(person: Person, pid: i64) -> String {
    let pid = pid.to_string();
    person
        .program(&["python3", "-c", NOSY, &pid])
        .code(0)
        .text()
        .trim()
        .to_owned()
}

/// A guest's nssh that waits with root's rights, as the jail does not come up; and the process that holds that up.
fn hold() -> (Child, Child) {
    let starting = Command::new("python3")
        .args(["-c", "import fcntl, time; lock = open('/run/kak/USER/lock', 'r+'); fcntl.lockf(lock, fcntl.LOCK_EX, 1); time.sleep(1000)"])
        .spawn()
        .unwrap();
    until("the lock", || sh("cat /proc/locks").contains("POSIX"));
    let nssh = ALICE
        .command(&[], &["nssh", "-c", "true"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let pid = i64::from(nssh.id());
    until("a guest with rights", || {
        process_field(pid, "Uid").is_some_and(|ids| ids == "1000\t0\t0\t0")
    });
    (nssh, starting)
}

/// A child's PID.
fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed()).unwrap()
}

/// Starts a session whose shell stays, and waits for its monitor.
fn stay() -> (Child, i64) {
    let nssh = ALICE
        .command(&[], &["nssh", "-c", "exec sleep 1000"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let monitor = || {
        processes()
            .into_iter()
            .find(|(_, name)| name == "kak-session")
            .map(|(pid, _)| pid)
    };
    until("a monitor", || {
        monitor().is_some() && processes().values().any(|name| name == "sleep")
    });
    (nssh, monitor().unwrap())
}

/// The system calls of a guest's join: each name, and how many of them one process makes at most, as strace counts per
/// process.
fn calls() -> BTreeMap<String, usize> {
    sh("mkdir /var/calls; strace -u alice -ff -qq -e signal=none -o /var/calls/of nssh -c true");
    let mut most: BTreeMap<String, usize> = BTreeMap::new();
    for file in std::fs::read_dir("/var/calls").unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        // Without the shell's own calls.
        let ours = if text.starts_with("execve") {
            text.as_str()
        } else {
            text.split("execve(").next().unwrap()
        };
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for name in ours
            .lines()
            .filter_map(|line| Some(line.split_once('(')?.0))
        {
            *counts.entry(name).or_default() += 1;
        }
        for (name, count) in counts {
            let most = most.entry(name.to_owned()).or_default();
            *most = count.max(*most);
        }
    }
    sh("rm -r /var/calls");
    assert!(
        most.contains_key("setns") && most.contains_key("setresuid"),
        "{most:?}"
    );
    most
}

/// Runs a guest's nssh with a fault at the nth call of this name in each process.
fn fault(call: &str, nth: usize, fault: &str) -> Ended {
    run(&format!(
        "exec strace -u alice -f -o /var/trace -e trace={call} -e inject={call}:{fault}:when={nth} \
         nssh -c 'grep -E \"^(Uid|Gid|CapPrm|CapEff|CapInh|CapAmb)\" /proc/self/status; readlink /proc/self/ns/net'"
    ))
}

sandboxed! {
    fn nobody_looks_into_it() {
        live_together();
        // A control: from an ordinary process of hers alice gets all of that.
        let mut plain = ALICE.command(&[], &["sleep", "1000"]).spawn().unwrap();
        until("it", || process_field(plain.id().into(), "Name").as_deref() == Some("sleep"));
        let all = nose(ALICE, plain.id().into());
        for some in ["environ", "mem", "cwd", "ns/mnt", "fd/", "pidfd_getfd 0", "ptrace"] {
            assert!(all.contains(some), "{all}");
        }
        plain.kill().unwrap();
        plain.wait().unwrap();
        // After the join: nssh itself, and the monitor, seen from outside and from inside.
        let (mut nssh, monitor) = stay();
        for pid in [i64::from(nssh.id()), monitor] {
            assert_eq!(process_field(pid, "Uid").unwrap(), "1000\t1000\t1000\t1000");
            assert_eq!(nose(ALICE, pid), "", "{pid}");
        }
        std::fs::write("/home/nosy.py", NOSY).unwrap();
        let said = ALICE.bash("nssh -c 'for file in /proc/[0-9]*/comm; do if [ $(cat $file) = kak-session ]; then dir=${file%/comm}; python3 /home/nosy.py ${dir#/proc/}; echo one; fi; done'");
        assert_eq!(said.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>(), ["one", "one"]);
        nssh.kill().unwrap();
        nssh.wait().unwrap();
        // Nor while it still has root's rights. (fs.suid_dumpable, proc_sys_fs(5), could make such a program visible to
        // its user; it is one setting for the whole host, so the test does not change it.)
        sh("kak teardown; kak setup --allow alice");
        let init = init("USER");
        let keeper = process_field(init, "PPid").unwrap();
        sh(&format!("kill -KILL {keeper}"));
        until("the jail's end", || !alive(init));
        let (mut nssh, mut starting) = hold();
        assert_eq!(nose(ALICE, nssh.id().into()), "");
        // It has nothing open but the files that it reads, and its limit of a core's size is 0.
        let open = sh(&format!("ls /proc/{}/fd | wc -l; grep core /proc/{0}/limits", nssh.id()));
        assert!(open.starts_with('3') || open.starts_with('4'), "{open}");
        assert_eq!(open.lines().last().unwrap().split_whitespace().nth(4), Some("0"), "{open}");
        // She may kill it.
        ALICE.bash(&format!("kill -KILL {}", nssh.id()));
        nssh.wait().unwrap();
        starting.kill().unwrap();
        starting.wait().unwrap();
    }

    fn stopped_with_rights_it_holds_nobody_up() {
        live_together();
        let init = init("USER");
        let keeper = process_field(init, "PPid").unwrap();
        sh(&format!("kill -KILL {keeper}"));
        until("the jail's end", || !alive(init));
        let (mut nssh, mut starting) = hold();
        ALICE.bash(&format!("kill -STOP {}", nssh.id()));
        starting.kill().unwrap();
        starting.wait().unwrap();
        sh("nssh -c true; kak setup; kak teardown; kak setup --allow alice");
        ALICE.program(&["nssh", "-c", "true"]).code(0);
        // It goes on, and joins the jail that is up now.
        ALICE.bash(&format!("kill -CONT {}", nssh.id()));
        assert_eq!(nssh.wait().unwrap().code(), Some(0));
        sh("kak teardown");
    }

    fn stopped_or_killed_at_any_time_it_holds_nobody_up() {
        move_in();
        let before = dump();
        sh("kak setup --allow alice");
        let up = lasting(&dump());
        let mut stopped = Vec::new();
        let mut hits = [0; 2];
        for n in 0..240_u64 {
            let mut nssh = ALICE.command(&[], &["nssh", "-c", "true"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            // At some time in the three milliseconds or so that it takes, setpriv's start included.
            let moment = std::time::Instant::now() + std::time::Duration::from_micros(n * 7919 % 4000);
            while std::time::Instant::now() < moment {
                std::hint::spin_loop();
            }
            let signal = if n % 3 == 0 { Signal::STOP } else { Signal::KILL };
            if kill_process(pid(&nssh), signal).is_err() || nssh.try_wait().unwrap().is_some_and(|status| status.code().is_some()) {
                nssh.wait().unwrap();
                continue;
            }
            hits[usize::from(n % 3 == 0)] += 1;
            if n % 3 == 0 {
                stopped.push(nssh);
            } else {
                nssh.wait().unwrap();
            }
            if n % 12 == 0 {
                ALICE.program(&["nssh", "-c", "true"]).code(0);
                sh("nssh -c true");
            }
            if n % 40 == 0 {
                assert_same("stopped and killed", &up, &lasting(&dump()));
                sh("kak teardown; kak setup --allow alice");
            }
        }
        assert!(hits.iter().all(|hits| *hits > 20), "too late: {hits:?}");
        sh("kak teardown");
        assert_same("with many of them stopped", &before, &dump());
        for mut nssh in stopped {
            nssh.kill().unwrap();
            nssh.wait().unwrap();
        }
        until("nobody is left", || processes().is_empty());
    }

    fn killed_at_any_call_it_leaves_nothing() {
        live_together();
        let (before, there) = (dump(), processes());
        let inside = sh("nssh -c 'readlink /proc/self/ns/net'");
        let mut killed = 0;
        let mut tried = 0;
        for (call, most) in calls() {
            for nth in 1..=most {
                tried += 1;
                let ended = fault(&call, nth, "signal=KILL");
                killed += usize::from(std::fs::read_to_string("/var/trace").unwrap().contains("+++ killed by SIGKILL +++"));
                check(&ended, &inside, &format!("{call} {nth}"));
            }
        }
        assert!(killed * 10 >= tried * 9, "killed only {killed} of {tried} times");
        until("nobody else is left", || processes() == there);
        assert_same("afterwards", &before, &dump());
        ALICE.program(&["nssh", "-c", "true"]).code(0);
    }

    fn refused_any_call_it_is_nobodys_way_to_more() {
        live_together();
        let (before, there) = (dump(), processes());
        let inside = sh("nssh -c 'readlink /proc/self/ns/net'");
        // The kernel refuses none of these with valid arguments; and a monitor whose wait4(2) fails might wait for
        // ever.
        let certain = ["rt_sigaction", "wait4"];
        for (call, most) in calls().into_iter().filter(|(call, _)| !certain.contains(&call.as_str())) {
            for nth in 1..=most {
                for lie in ["error=EPERM", "error=ENOMEM"] {
                    check(&fault(&call, nth, lie), &inside, &format!("{call} {nth} {lie}"));
                }
            }
        }
        // A kernel that reports success without dropping the rights.
        for (with, call, nth) in [("env", "setresuid", 2), ("setpriv --inh-caps=+chown", "capset", 1)] {
            let lie = format!("{with} strace -u alice -f -o /dev/null -e trace={call} -e inject={call}:retval=0:when={nth} nssh -c id");
            refused(run(&lie).says("root's rights"));
        }
        until("nobody else is left", || processes() == there);
        assert_same("afterwards", &before, &dump());
    }
}

/// Asserts of a guest's nssh that whatever ran, ran in the jail and without any right.
#[track_caller]
fn check(ended: &Ended, inside: &str, point: &str) {
    // The programs that it executes get the same faults, so lines may be missing.
    for line in ended.text().lines() {
        let right = match line.split_once([':', '\t']).unwrap_or_default().0 {
            "Uid" | "Gid" => line.ends_with(":\t1000\t1000\t1000\t1000"),
            "CapInh" | "CapPrm" | "CapEff" | "CapAmb" => line.ends_with(":\t0000000000000000"),
            _ => line == inside,
        };
        assert!(right, "{point}: {ended}");
    }
}
