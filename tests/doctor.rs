//! `kak doctor`: each defect is really made, must be reported with its cure, and the cure must remove it.

use serde_json::Value;

use crate::sandbox::*;

/// Runs the doctor and checks its output.
mod told;

use told::*;

/// A prefix: a user namespace in the sandbox, with mount, network and PID namespaces of its own.
const NESTED: &str = "unshare --user --map-root-user --mount --net --pid --fork";

sandboxed! {
    fn a_healthy_machine_has_nothing_and_stays_as_it_is() {
        uplink::plug();
        sh("ip netns add blue");
        let before = dump();
        doctor().is_content();
        assert_same("looked at", &before, &dump());
        until("nobody is left", || processes().is_empty());
        sh("kak setup; kak netns add red --uplink");
        let before = dump();
        doctor().is_content();
        assert_same("looked at with a jail", &before, &dump());
        sh("kak status; kak teardown; kak netns delete red");
        doctor().is_content();
    }

    fn usage() {
        for wrong in ["word", "--nonsense", "-x", "--json=1"] {
            program(&["kak", "doctor", wrong]).code(2).says("kak: doctor: ");
        }
        sh("ln -s /bin/kak /opt/kak-doctor");
        uplink::plug();
        assert_eq!(sh("/opt/kak-doctor"), sh("kak doctor"));
    }

    fn a_missing_capability_is_named() {
        uplink::plug();
        for (word, state, unchecked) in [
            ("SYS_ADMIN", "fail", &["namespace", "mount", "proc", "sysfs", "nf-tables", "setns"][..]),
            ("NET_ADMIN", "fail", &["nf-tables", "veth", "firewall"]),
            ("SYS_CHROOT", "fail", &[]),
            ("NET_BIND_SERVICE", "warn", &[]),
        ] {
            let lower = word.to_lowercase();
            let told = doctor_by(&format!("setpriv --bounding-set -{lower} --inh-caps -{lower}"));
            let cure = told.has("capability", state, &[&format!("CAP_{word}")]);
            assert!(cure.contains("run as root") && cure.contains(&format!("--cap-add {word}")), "{cure}");
            for name in unchecked {
                let bad = told.bad(name);
                assert!(!bad.is_empty(), "{name}: {told:#?}");
                for check in bad {
                    assert_eq!(check.state, "warn");
                    assert!(check.why.contains(&format!("not checked: that takes CAP_{word}")), "{check:?}");
                }
            }
            // No other check fails.
            assert!(told.checks.iter().all(|check| check.state != "fail" || check.name == "capability"), "{told:#?}");
        }
        let none = doctor_by("setpriv --bounding-set -all --inh-caps -all");
        assert_eq!(none.status, 1);
        assert_eq!(none.bad("capability").len(), 4);
    }

    fn a_setting_that_cannot_be_written() {
        uplink::plug();
        sh("mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys");
        cured("proc-sys", "warn", &["/proc/sys: read-only", "run: mount -o remount,bind,rw /proc/sys"]);
        // A setting that has the right value already need not be written.
        sh("echo 1 >/proc/sys/net/ipv4/ip_forward; mount -o remount,bind,ro /proc/sys");
        let told = doctor();
        told.is_content();
        told.is_well("proc-sys", "read-only");
        told.is_well("ip-forward", "is on");
    }

    fn directories_that_cannot_be_written() {
        uplink::plug();
        sh("mount --rbind /etc /etc; mount -o remount,bind,ro /etc");
        cured("writable", "warn", &["/etc: Read-only file system", "/etc/shells", "run: mount -o remount,bind,rw /etc"]);
        for (dir, said) in [("/run", "names of networks"), ("/mnt", "--root DIR")] {
            sh(&format!("mount -t tmpfs -o ro ro {dir}"));
            assert_eq!(doctor().status, 1);
            cured("writable", "fail", &[&format!("{dir}: Read-only file system: "), said, &format!("run: mount -o remount,rw {dir} || mount -t tmpfs tmpfs {dir}")]);
            sh(&format!("umount {dir}; ! mountpoint -q {dir} || umount {dir}"));
        }
        // As with docker run --read-only.
        sh("umount -l /etc");
        sh("mount -o remount,bind,ro /");
        let told = doctor();
        assert_eq!((told.status, told.bad("writable").len()), (1, 3));
        for check in told.bad("writable") {
            let cure = check.cure.clone().unwrap();
            match check.what.as_str() {
                "/etc" => assert!(!check.command && cure.contains("--read-only"), "{check:?}"),
                dir => {
                    assert_eq!(cure, format!("mount -t tmpfs tmpfs {dir}"));
                    sh(&cure);
                }
            }
        }
        let told = doctor();
        told.has("writable", "warn", &["/etc"]);
        assert_eq!(told.status, 0);
        sh("kak setup; kak teardown");
    }

    fn what_is_left_is_told_and_taken_away() {
        uplink::plug();
        // Names.
        sh("ip netns add old; umount -l /run/netns/old");
        cured("ghost", "warn", &["/run/netns/old: a name that has lost its namespace", "run: kak netns delete old"]);
        sh("touch '/run/netns/a b'");
        cured("ghost", "warn", &["run: kak netns delete 'a b'"]);
        // A file with contents is not a lost name.
        sh("echo text >/run/netns/text");
        doctor().is_content();
        sh("rm /run/netns/text");
        // Files.
        for path in ["/etc/shells.kak-new", "/bin/nssh.kak-new"] {
            sh(&format!("touch {path}"));
            cured("unfinished", "warn", &[&format!("run: rm {path}")]);
        }
        // The lock and its temporary name are hard links to one file.
        sh("echo 1 >/etc/passwd.lock.kak-new; ln /etc/passwd.lock.kak-new /etc/passwd.lock");
        cured("unfinished", "warn", &["run: rm /etc/passwd.lock /etc/passwd.lock.kak-new"]);
        // Links and tables.
        sh("ip link add kak-X type veth peer name other; ip link set kak-X alias kak:X");
        cured("link", "warn", &["link kak-X: belongs to the jail X, of which there is no record", "run: ip link delete kak-X"]);
        sh("nft 'table ip kak-X { comment \"kak:X\"; }'; nft 'table ip mine { comment \"kax\"; }'; nft add table inet other");
        cured("table", "warn", &["table ip kak-X: ", "run: nft delete table ip kak-X"]);
        // Records.
        sh("mkdir -p -m 700 /run/kak/X");
        cured("jail", "warn", &["jail X: has a directory and no record", "run: kak teardown -n X"]);
        sh("mkdir -p -m 700 /run/kak /run/kak/X; echo nonsense >/run/kak/X/record");
        cured("jail", "warn", &["is not a record that this kak understands", "run: rm -r /run/kak/X"]);
        sh("rmdir /run/kak || :; kak netns add red --uplink; umount -l /run/netns/red");
        cured("jail", "warn", &["jail red: a network that has lost its namespace", "run: kak netns delete red"]);
    }

    fn a_jail_that_is_not_what_its_record_says() {
        uplink::plug();
        let before = dump();
        sh("kak setup -n web");
        sh(&format!("kill -KILL {}", process_field(init("web"), "PPid").unwrap()));
        until("nobody is left", || processes().is_empty());
        cured("jail", "warn", &["jail web: has a record and is not up", "run: kak teardown -n web"]);
        assert_same("a jail that was killed", &before, &dump());
        sh("kak setup; umount -l /run/netns/USER");
        cured("jail", "warn", &["jail USER: is up, and its network has lost its name", "run: kak setup -n USER"]);
        // The jail's network is the same as before.
        assert_eq!(sh(&format!("kak netns identify {}", init("USER"))), "USER");
        sh("kak netns delete USER; kak setup; kak status; nssh -c true; nft delete table ip kak-USER");
        cured("jail", "warn", &["jail USER: is up, but not complete: nft -f - <<'KAK'", "run: kak setup -n USER"]);
        sh("kak status");
    }

    fn resolvers() {
        uplink::plug();
        doctor().is_well("resolver", "resolver 203.0.113.1");
        sh("umount /etc/resolv.conf");
        let none = |told: Told, said: &str| {
            let cure = told.has(if said.contains("none in") { "resolver" } else { "resolv-conf" }, "warn", &[said]);
            assert_eq!((cure.contains("--dns"), told.status), (true, 0), "{cure}");
        };
        none(doctor(), "none in /etc/resolv.conf");
        sh("rm /etc/resolv.conf");
        none(doctor(), "there is none");
        sh("ln -s /run/systemd/resolve/stub-resolv.conf /etc/resolv.conf");
        none(doctor(), "a link to /run/systemd/resolve/stub-resolv.conf, where there is nothing");
        sh("mkdir -p /run/systemd/resolve; echo nameserver 127.0.0.53 >/run/systemd/resolve/stub-resolv.conf");
        let told = doctor();
        told.is_content();
        told.is_well("resolv-conf", "a link to /run/systemd/resolve/stub-resolv.conf");
        told.is_well("resolver", "resolver 127.0.0.53: only this machine reaches it: it is relayed");
        sh("echo nameserver fe80::1 >/run/systemd/resolve/stub-resolv.conf");
        doctor().has("resolver", "warn", &["resolver fe80::1"]);
    }

    fn firewalls() {
        uplink::plug();
        sh("nft 'table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; }; }'");
        let told = doctor();
        told.is_content();
        told.is_well("firewall", "ip filter FORWARD drops forwarded packets; setup has it accept those of jails");
        sh("kak setup; kak teardown; nft flush ruleset");
        doctor().is_well("firewall", "nothing drops");
        // Rights in a user namespace are none over a network namespace that it does not own.
        doctor_by("unshare --user --map-root-user").has("firewall", "warn", &["not checked"]);
        // In a user namespace the kernel does not say which tables of iptables-legacy there are.
        if is_root() {
            sh("iptables-legacy -P FORWARD DROP");
            cured("firewall", "warn", &["the FORWARD chain of iptables-legacy drops", "run: iptables-legacy -I FORWARD -i kak-USER -j ACCEPT && "]);
            sh("kak setup -n web");
            cured("firewall", "warn", &["run: iptables-legacy -I FORWARD -i kak-web -j ACCEPT && "]);
            sh("kak teardown -n web");
        }
    }

    fn a_chain_that_only_its_owner_changes() {
        uplink::plug();
        sh("mkfifo /tmp/commands");
        let mut owner = std::process::Command::new("sh").args(["-c", "exec nft -i </tmp/commands >/dev/null 2>&1"]).spawn().unwrap();
        let mut commands = std::fs::File::create("/tmp/commands").unwrap();
        std::io::Write::write_all(&mut commands, b"table inet firewalld { flags owner; chain f { type filter hook forward priority 0; policy drop; }; }\n").unwrap();
        until("it is there", || run("nft list table inet firewalld").text().contains("policy drop"));
        let told = doctor();
        told.has("firewall", "warn", &["inet firewalld f drops", "--add-interface=kak-USER"]);
        assert_eq!(told.status, 0);
        drop(commands);
        owner.wait().unwrap();
    }

    fn the_way_out() {
        let told = doctor();
        told.has("uplink", "warn", &["the way out: there is no default route", "--network none"]);
        assert_eq!(told.status, 0);
        uplink::plug();
        let told = doctor();
        told.is_content();
        told.is_well("uplink", "the way out: eth0");
        told.is_well("mtu", "1400 bytes");
        sh("ip route add default via 203.0.113.7 metric 7");
        doctor().is_well("uplink", "eth0, the best of 2 default routes");
        sh("ip link set eth0 mtu 1000");
        cured("mtu", "warn", &["1000 bytes", "run: ip link set eth0 mtu 1280"]);
    }

    fn subnets() {
        uplink::plug();
        doctor().is_well("subnet", "10.0.0.0/24 is the first that is free");
        sh("ip route add blackhole 10.0.0.0/23");
        doctor().is_well("subnet", "10.0.2.0/24 is the first that is free");
        sh("ip route add blackhole 10.0.0.0/8");
        doctor().is_well("subnet", "172.16.0.0/24 is the first that is free");
        sh("ip route add blackhole 172.16.0.0/12; ip route add blackhole 192.168.0.0/16");
        let told = doctor();
        told.has("subnet", "fail", &["no /24 of 10.0.0.0/8, 172.16.0.0/12 and 192.168.0.0/16 is free", "kak setup --subnet"]);
        assert_eq!(told.status, 1);
        sh("kak setup --subnet 100.64.0.0/24; kak teardown; ip route del 10.0.0.0/8");
        doctor().is_content();
    }

    fn a_limit_of_namespaces() {
        uplink::plug();
        for (kind, state) in [("net", "fail"), ("mnt", "fail"), ("pid", "fail"), ("uts", "warn"), ("time", "warn")] {
            let path = format!("/proc/sys/user/max_{kind}_namespaces");
            // The limit is per user namespace.
            let said = sh(&format!(
                "{NESTED} --mount-proc sh -ec 'echo 0 >{path}; kak doctor >/tmp/before || :; sed -n \"/ {kind} n/{{n;s/ *run: //p}}\" /tmp/before >/tmp/cure
                sh /tmp/cure; kak doctor >/tmp/after || :; cat {path}'; cat /tmp/before"
            ));
            let wanted = format!("{state}  {kind} namespaces: {path} is 0: ");
            assert!(said.starts_with("1024\n") && said.contains(&wanted), "{said}");
            assert_eq!(sh("cat /tmp/cure"), format!("echo 1024 >{path}"));
            let after = sh("cat /tmp/after");
            assert!(after.contains(&format!("ok    {kind} namespaces\n")) && !after.contains("fail"), "{after}");
        }
    }

    fn a_user_namespace_that_sees_less_of_proc() {
        uplink::plug();
        let told = doctor_by(&format!("{NESTED} --mount-proc"));
        assert_eq!(told.status, 0, "{told:#?}");
        told.is_well("user-namespace", "one of its own");
        // Now every proc has a mount over a part of it, and the kernel refuses another one in a user namespace.
        sh("umount /var/proc; mount --bind /dev/null /proc/version");
        let told = doctor_by(NESTED);
        let cure = told.has("proc", "fail", &["mount -t proc proc /proc: Operation not permitted"]);
        assert_eq!((cure.contains("systempaths=unconfined"), told.status), (true, 1), "{cure}");
        told.is_well("sysfs", "");
        told.is_well("proc-masks", "1 mounts below it");
    }

    fn calls_that_the_kernel_does_not_have() {
        uplink::plug();
        for (call, errno, name, state, said) in [
            ("pidfd_open", "ENOSYS", "pidfd_open", "fail", "use Linux 5.3 or later"),
            ("clone3", "ENOSYS", "clone3", "fail", "no jail can be started"),
            ("open_tree", "ENOSYS", "move_mount", "fail", "use Linux 5.2 or later"),
            ("move_mount", "ENOSYS", "move_mount", "fail", "Function not implemented"),
            ("openat2", "ENOSYS", "openat2", "warn", "use Linux 5.6 or later"),
            ("close_range", "ENOSYS", "close_range", "warn", "takes longer"),
            ("mount_setattr", "ENOSYS", "mount_setattr", "warn", "--bind SRC:ro"),
            ("setns", "EINVAL", "setns", "warn", "use Linux 5.8 or later"),
            ("getsockopt", "ENOPROTOOPT", "netns-cookie", "warn", "use Linux 5.14 or later"),
            ("mount", "EACCES", "mount", "fail", "mount --make-rslave /: Permission denied"),
        ] {
            let told = doctor_by(&format!("strace -f -qq -o /dev/null -e trace={call} -e inject={call}:error={errno}"));
            told.has(name, state, &[said]);
            assert_eq!(told.status, i32::from(state == "fail"), "{call}");
        }
        // The kernel has no namespaces of any kind that is tried.
        let told = doctor_by("strace -f -qq -o /dev/null -e trace=unshare -e inject=unshare:error=EINVAL:when=1");
        assert_eq!(told.bad("namespace").len(), 7);
        assert!(told.bad("namespace")[6].cure.as_ref().unwrap().contains("CONFIG_TIME_NS"), "{told:#?}");
        doctor().is_content();
    }

    fn a_kernel_without_nf_tables() {
        uplink::plug();
        sh("strace -f -qq -o /tmp/trace -e trace=socket kak doctor");
        let trace = sh("grep 'socket(' /tmp/trace");
        // strace's `when=` counts for each process separately, and nf_tables is tried in a child.
        let mut told = None;
        for (at, _) in trace.lines().enumerate() {
            let ended = doctor_by(&format!(
                "strace -f -qq -o /tmp/trace -e trace=socket -e inject=socket:error=EPROTONOSUPPORT:when={}",
                at + 1
            ));
            let injected = sh("grep INJECTED /tmp/trace || :");
            // Any socket that is refused makes a check fail or warn.
            assert!(injected.is_empty() || ended.checks.iter().any(|check| check.state != "ok"), "{injected}");
            if !injected.is_empty() && !ended.bad("nf-tables").is_empty() {
                assert!(injected.contains("NETFILTER"), "{injected}");
                told = Some(ended);
                break;
            }
        }
        let told = told.expect("one of them is for nf_tables");
        told.has("nf-tables", "fail", &["nf_tables NAT: nft list ruleset: Protocol not supported", "kak setup --no-nat"]);
        assert_eq!(told.status, 1);
    }

    fn whatever_fails_he_comes_to_an_end_and_changes_nothing() {
        uplink::plug();
        sh("kak setup");
        let before = dump();
        sh("strace -f -qq -e signal=none -o /tmp/trace kak doctor >/dev/null");
        let trace = sh("cut -d ' ' -f 2- /tmp/trace | grep -o '^ *[a-z][a-z0-9_]*(' | tr -d ' (' | sort -u");
        // These calls cannot fail, or are made before the program begins.
        let never = ["execve", "arch_prctl", "getuid", "geteuid", "getgid", "getegid", "getpid", "uname", "exit", "exit_group"];
        let all: Vec<&str> = trace.lines().filter(|call| !never.contains(call)).collect();
        assert!(all.len() > 30, "{all:?}");
        for call in all {
            for (errno, name, when) in [(libc::EPERM, "EPERM", ""), (libc::ENOSYS, "ENOSYS", ":when=1"), (libc::EIO, "EIO", ":when=2+3")] {
                let inject = match call.strip_prefix("syscall_0x") {
                    None => format!("strace -f -qq -o /dev/null -e inject={call}:error={name}{when}"),
                    Some(number) => refusing(&i64::from_str_radix(number, 16).unwrap().to_string(), errno),
                };
                let ended = run(&format!("timeout 20 {inject} kak doctor --json"));
                let told = ended.status.code().is_some_and(|code| code <= 1) && serde_json::from_slice::<Value>(&ended.stdout).is_ok();
                // Only without memory, or if it cannot write, may the doctor end without a full answer.
                assert!(told || ["brk", "mmap", "write"].contains(&call), "{inject}: {ended}");
                assert_ne!(ended.status.code(), Some(124), "{inject}: {ended}");
            }
        }
        assert_same("looked at", &before, &dump());
        sh("kak status; kak teardown");
    }

    fn a_machine_without_proc() {
        uplink::plug();
        sh("umount -l /proc");
        let told = doctor();
        let cure = told.has("place", "fail", &["/proc: there is none"]);
        assert_eq!((cure.as_str(), told.status), ("mount -t proc proc /proc", 1));
        sh(&cure);
        doctor().is_content();
    }

    fn set_user_id() {
        uplink::plug();
        for bit in ["u+s", "g+s"] {
            sh(&format!("chmod {bit} /bin/kak"));
            let path = sh("readlink -f /bin/kak");
            assert_eq!(doctor().status, 1);
            cured("setuid-kak", "fail", &[&format!("run: chmod ug-s {path}")]);
        }
    }

    fn nobody_gets_more_rights() {
        uplink::plug();
        let told = doctor_by("setpriv --no-new-privs");
        told.has("no_new_privs", "warn", &["set-user-ID nssh", "no-new-privileges"]);
        assert_eq!(told.status, 0);
    }

    fn login_shells() {
        uplink::plug();
        for end in ["", "\n"] {
            sh(&format!("printf '/bin/sh{end}' >/etc/shells; echo 'alice:x:1000:1000::/:/bin/nssh' >>/etc/passwd"));
            cured("shells", "warn", &["/etc/shells: lacks the line /bin/nssh, alice's shell"]);
            assert_eq!(sh("cat /etc/shells"), "/bin/sh\n/bin/nssh");
        }
        sh("mount --bind /etc/passwd /etc/passwd");
        doctor().has("passwd", "warn", &["/etc/passwd: is a mount: chsh", "kak setup --login-shell USER"]);
    }

    fn a_run_directory_that_only_follows() {
        uplink::plug();
        sh("ip netns add blue");
        let told = doctor_by("unshare --mount --propagation slave");
        told.has("run-netns", "fail", &["/run/netns: what is mounted in it is not seen outside"]);
        sh("ip netns delete blue; mount -t tmpfs none /run; mkdir -m 755 /run/other; ln -s other /run/kak");
        doctor().has("run-kak", "fail", &["/run/kak", "not a directory"]);
    }

    fn inside_a_jail() {
        uplink::plug();
        sh("kak setup; touch /run/netns/ghost");
        let told = doctor_by("nssh -c 'exec \"$@\"' sh");
        told.has("place", "warn", &["this is the inside of a jail", "outside"]);
        assert_eq!(told.status, 0, "{told:#?}");
        assert!(told.bad("ghost").is_empty());
        sh("kak teardown");
    }
}
