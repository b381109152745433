//! What the caller of a set-user-ID nssh passes to it: environment, descriptors, limits, signals. nssh is not
//! influenced by them while it has rights, and the shell gets those that are meant for it.

use crate::people::*;
use crate::sandbox::*;

/// Runs some lines of Python as alice, then executes a program.
fn after(lines: &str, argv: &[&str]) -> Ended {
    let script =
        format!("import os, resource, signal, sys\n{lines}\nos.execv(sys.argv[1], sys.argv[1:])");
    ALICE.program(&[&["python3", "-c", script.as_str()], argv].concat())
}

sandboxed! {
    fn the_environment_decides_nothing() {
        move_in();
        sh("mkdir -m 755 /home/evil; printf '#!/bin/sh\\necho evil\\n' >/home/evil/bash; cp /home/evil/bash /home/evil/sh; chmod 755 /home/evil/*
            kak setup --allow alice; kak setup -n other --allow alice");
        let inside = ALICE.bash("nssh -c 'readlink /proc/self/ns/net'");
        let hostile = "KAK_JAIL=other KAK_NETNS=other PATH=/home/evil SHELL=/home/evil/bash HOME=/home/evil USER=root LOGNAME=root \
            TMPDIR=/home/evil LD_PRELOAD=/home/evil/x.so LD_LIBRARY_PATH=/home/evil GLIBC_TUNABLES=glibc.malloc.check=3 \
            RUST_BACKTRACE=full RUST_LOG=trace LANG=evil LC_ALL=evil IFS=/";
        assert_eq!(ALICE.bash(&format!("env -i {hostile} /bin/nssh -c '/bin/readlink /proc/self/ns/net' 2>/dev/null")), inside);
        assert_ne!(sh("kak nssh -n other -- -c 'readlink /proc/self/ns/net'"), inside);
        let said = ALICE.bash(&format!("env -i {hostile} /bin/nssh -c '/bin/readlink /proc/$$/exe; echo $SHELL; /usr/bin/id -u; echo $PATH $HOME $USER' 2>/dev/null"));
        assert_eq!(said, format!("{}\n/bin/bash\n1000\n/home/evil /home/evil root", sh("readlink -f /bin/bash")));
    }

    fn what_is_unsafe_does_not_come_along() {
        live_together();
        let (keep, lose) = (
            ["MARK=1", "EMPTY=", "LANG=C", "LC_ALL=C", "LDX=1", "XLD_PRELOAD=1", "MALLOC=1", "TMP=/x", "TZ=UTC", "PATH=/bin:/usr/bin", "HOME=/home/alice", "USER=u", "LOGNAME=l", "ODD=a=b c"],
            [
                "LD_PRELOAD=x", "LD_LIBRARY_PATH=x", "LD_AUDIT=x", "LD_DEBUG=x", "LD_NEW_ONE=x", "LD_=x", "GLIBC_TUNABLES=x", "MALLOC_CHECK_=x", "MALLOC_TRACE=x",
                "GCONV_PATH=x", "GETCONF_DIR=x", "HOSTALIASES=x", "LOCALDOMAIN=x", "LOCPATH=x", "NIS_PATH=x", "NLSPATH=x", "RESOLV_HOST_CONF=x",
                "RES_OPTIONS=x", "TMPDIR=x", "TZDIR=x", "KAK_NETNS=x", "LISTEN_FDS=1", "NOTIFY_SOCKET=x",
            ],
        );
        // Each dangerous one twice: the C library would use the first, a shell the last.
        let all = [&lose[..], &keep, &lose].concat();
        let mut nssh = ALICE.command(&[], &["env", "-i"]);
        let said = end(nssh.args(&all).args(["/bin/nssh", "-c", "exec cat /proc/self/environ"])).code(0).text();
        let mut said: Vec<&str> = said.split_terminator('\0').filter(|pair| !["_=", "PWD=", "SHLVL=", "OLDPWD="].iter().any(|own| pair.starts_with(own))).collect();
        said.sort_unstable();
        let mut wanted = [&keep[..], &["SHELL=/bin/bash"]].concat();
        wanted.sort_unstable();
        assert_eq!(said, wanted);
        // The same in the jail, although nssh joins nothing there.
        assert_eq!(ALICE.bash("nssh -c 'LD_DEBUG=all TMPDIR=/x nssh -c \"echo \\$LD_DEBUG\\$TMPDIR\" 2>&1'"), "");
    }

    fn descriptors_do_not_come_along() {
        live_together();
        for closed in ["<&-", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-"] {
            ALICE.run(&format!("nssh -c 'exit 3' {closed}")).code(3);
        }
        assert_eq!(ALICE.bash("nssh -c 'readlink /proc/$$/fd/0' <&-"), "/dev/null");
        assert_eq!(ALICE.run("nssh -c 'readlink /proc/$$/fd/0 /proc/$$/fd/1 >&2' <&- >&-").stderr, "/dev/null\n/dev/null\n");
        // The message then goes nowhere; in particular into no file that nssh has opened.
        BOB.run("nssh -c id <&- >&- 2>&-").code(125);
        for directory in ["</", "</etc 1</etc 2</etc"] {
            let said = ALICE.run(&format!("nssh -c 'readlink /proc/$$/fd/0' {directory}"));
            assert_eq!(said.code(0).text().trim(), if directory == "</" { "/dev/null" } else { "" });
        }
        let said = after(
            "for fd in range(3, 201): os.dup2(os.open('/etc', os.O_RDONLY), fd); os.set_inheritable(fd, True)",
            &["/bin/nssh", "-c", "ls /proc/self/fd | xargs"],
        );
        assert_eq!(said.code(0).text(), "0 1 2 3\n");
    }

    fn limits_hurt_only_who_sets_them() {
        live_together();
        let before = dump();
        let stat = sh("stat -c '%a %s %y' /bin/nssh /run/kak/USER/*");
        for limit in ["FSIZE, (0, 0)", "FSIZE, (4, 4)", "CORE, (0, 0)", "MEMLOCK, (0, 0)", "STACK, (65536, 65536)", "SIGPENDING, (0, 0)", "NICE, (0, 0)"] {
            let lines = format!("resource.setrlimit(resource.RLIMIT_{limit})");
            let said = after(&lines, &["/bin/nssh", "-c", "ulimit -f"]);
            assert_eq!(said.text(), after(&lines, &["/bin/bash", "-c", "ulimit -f"]).text(), "{limit}: {said}");
        }
        // Limits too low to run: a message, or death by a signal, but no shell outside and nothing half-done.
        let inside = ALICE.bash("nssh -c 'readlink /proc/self/ns/net'");
        let mut starved = 0;
        for limit in (0..14).map(|most| format!("NOFILE, ({most}, {most})")).chain((0..24).map(|most| format!("AS, ({0}, {0})", most << 18))) {
            let ended = after(
                &format!("resource.setrlimit(resource.RLIMIT_{limit})"),
                &["/bin/nssh", "-c", "readlink /proc/self/ns/net"],
            );
            if ended.status.success() {
                assert_eq!(ended.text().trim(), inside, "{limit}");
            } else {
                starved += 1;
                assert_eq!(ended.text(), "", "{limit}: {ended}");
            }
            if ended.status.code() == Some(125) {
                assert!(ended.stderr.lines().count() <= 1, "{limit}: {ended}");
            }
        }
        assert!(starved > 0);
        assert_eq!(sh("stat -c '%a %s %y' /bin/nssh /run/kak/USER/*"), stat);
        assert_same("afterwards", &before, &dump());
    }

    fn a_user_with_too_many_processes_is_told_so() {
        // A UID that nothing else on the host uses: the kernel counts a user's processes over all namespaces.
        let lonely = 1_500_000_000 + std::process::id() + u32::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() % 100_000_000).unwrap();
        move_in();
        sh(&format!("echo 'lonely:x:{lonely}:1000::/:/bin/sh' >>/etc/passwd; kak setup --allow lonely"));
        let person = Person { name: "alice", user: lonely, group: 1000, beside: "" };
        let (mut told, mut ran) = (0, 0);
        for most in 0..8 {
            let limit = format!("--nproc={most}");
            let ended = end(&mut person.command(&[], &["prlimit", &limit, "/bin/nssh", "-c", "readlink /proc/self/ns/net"]));
            match ended.status.code() {
                Some(0) => ran += 1,
                // fork(2) failed, or execve(2).
                Some(125 | 126) => {
                    assert!(ended.stderr.contains("Resource temporarily unavailable") && ended.stderr.lines().count() == 1, "{ended}");
                    assert_eq!(ended.text(), "");
                    told += 1;
                }
                // The shell itself could not fork, for readlink.
                _ => assert!(ended.stderr.contains("bash"), "{ended}"),
            }
        }
        assert!(told > 0 && ran > 0, "told {told}, ran {ran}");
    }

    fn signals_are_as_the_caller_has_them() {
        live_together();
        let fields = "grep -E '^Sig(Blk|Ign|Cgt)' /proc/self/status";
        for lines in [
            "signal.signal(signal.SIGCHLD, signal.SIG_IGN)",
            "for n in set(range(1, 32)) - {9, 19, 32, 33}: signal.signal(n, signal.SIG_IGN)",
            "signal.pthread_sigmask(signal.SIG_SETMASK, set(range(1, 32)) - {9, 19})",
            "signal.pthread_sigmask(signal.SIG_SETMASK, {signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGCONT})",
        ] {
            let inside = after(lines, &["/bin/nssh", "-c", &format!("exec {fields}")]).code(0).text();
            assert_eq!(inside, after(lines, &["/bin/bash", "-c", &format!("exec {fields}")]).text(), "{lines}");
            after(lines, &["/bin/nssh", "-c", "exit 7"]).code(7);
        }
        // A timer that was set before does not end nssh, which waits for the shell's status.
        after("signal.setitimer(signal.ITIMER_REAL, 0.05)", &["/bin/nssh", "-c", "sleep 0.2; exit 7"]).code(7);
        assert_eq!(ALICE.bash("nice -n 7 nssh -c nice"), "7");
    }

    fn an_old_kernel_closes_descriptors_too() {
        live_together();
        // Before Linux 5.9 there is no close_range; and a caller that has lowered its limit may have descriptors above
        // it.
        let said = sh("bash -c \"exec 200</etc 3</; ulimit -S -n 64; strace -f -o /dev/null -e trace=close_range -e inject=close_range:error=ENOSYS nssh -c 'ls /proc/self/fd | xargs'\"");
        assert_eq!(said, "0 1 2 3");
    }
}
