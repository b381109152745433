//! Every step is compared with the shell command that it prints: what one does the other must see and undo.

use crate::sandbox::*;

/// A machine on which a jail has steps of every kind, given [`OPTIONS`].
fn plug() {
    uplink::plug6();
    sh("mkdir -p /run/nscd /run/systemd/resolve");
    sh("nft -f - <<'NFT'
        table ip filter {
            chain FORWARD { type filter hook forward priority 0; policy drop; jump DOCKER-USER; }
            chain DOCKER-USER { return; }
        }
        table ip6 filter { chain FORWARD { type filter hook forward priority 0; policy drop; }; }
        table inet filter { chain last { type filter hook forward priority 0; reject; }; }
NFT");
}

/// The options for that.
const OPTIONS: &str = "--login-shell root --publish 8080:80 --publish 203.0.113.2:5353:53/udp --ipv6 --publish [2001:db8::2]:5354:53/udp";

/// One step of the script that `kak setup --explain` prints.
struct Step {
    /// Its command.
    text: String,
}

/// The outer steps of the script: each has a reason (`# ...`), then its command. The inner ones are its last command.
fn steps(script: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut why = true;
    let outer = script.split("\nnsenter --net=").next().unwrap();
    for line in outer.lines() {
        if line.starts_with('#') {
            why = true;
        } else if !line.trim().is_empty() {
            if why {
                steps.push(Step {
                    text: String::new(),
                });
            }
            why = false;
            if let Some(step) = steps.last_mut() {
                step.text += line;
                step.text.push('\n');
            }
        }
    }
    steps
}

/// The lines of `kak setup --dry-run`: whether the step is done, and the first line of its command.
fn plan() -> Vec<(bool, String)> {
    sh(&format!("kak setup --dry-run {OPTIONS}"))
        .lines()
        .map(|line| {
            let (mark, text) = line.split_once(' ').unwrap();
            assert!(["+", "="].contains(&mark), "{line}");
            (mark == "=", text.to_owned())
        })
        .collect()
}

sandboxed! {
    fn what_sh_does_kak_sees_and_undoes() {
        plug();
        let before = dump();
        let script = steps(&sh(&format!("kak setup --explain {OPTIONS}")));
        let planned = plan();
        let outer = script.len() - 2; // `set -e` and /run/kak are not steps
        assert!(outer > 20, "{planned:?}");
        for (n, (done, text)) in planned.iter().take(outer).enumerate() {
            if *done {
                assert_eq!(text, "mkdir -p -m 755 /mnt", "done before it was");
                continue;
            }
            let step = script.iter().find(|step| step.text.lines().next() == Some(text));
            let Some(step) = step else {
                panic!("{text}: not in the script");
            };
            sh(&format!("set -u\n{}", step.text));
            for (other, (done, text)) in plan().iter().enumerate() {
                assert_eq!(*done, other <= n || planned[other].0, "{text}: after sh did {}", step.text);
            }
        }
        // All that sh made is removed again.
        sh("kak teardown");
        assert_same("sh made it, kak took it away", &before, &dump());
    }

    fn what_sh_did_kak_does_not_do_again() {
        plug();
        let script = steps(&sh(&format!("kak setup --explain {OPTIONS}")));
        for step in &script {
            sh(&step.text);
        }
        let whole = dump();
        let said = sh("kak setup");
        let again: Vec<&str> = said.lines().take(script.len() - 2).filter(|line| !line.starts_with("= ")).collect();
        assert_eq!(again, [""; 0]);
        assert_same("kak after sh", &whole, &dump());
        assert_eq!(sh(&format!("nssh -c 'cat </dev/tcp/{}/{}'", uplink::THEIRS, uplink::PORT)), uplink::OURS);
    }

    fn what_sh_undoes_inside_kak_sees() {
        uplink::plug();
        sh("mkdir /srv /data; kak setup --bind /data:/srv/data --hide srv");
        let pid = init("USER");
        let inner = || -> Vec<(bool, String)> {
            let status = run("kak status").text();
            let steps: Vec<(bool, String)> = status
                .lines()
                .filter_map(|line| Some((line.starts_with("ok"), line.strip_prefix("ok  ").or(line.strip_prefix("--  "))?.to_owned())))
                .collect();
            let first = steps.iter().position(|(_, text)| text.starts_with("mount --make-rslave")).unwrap();
            steps[first..].to_vec()
        };
        let whole = inner();
        assert!(whole.len() > 8 && whole.iter().all(|(done, _)| *done), "{whole:?}");
        // Every mount that can be unmounted in the jail, topmost first.
        let mut gone = Vec::new();
        for (n, (_, text)) in whole.iter().enumerate().rev() {
            // For a cover, the target is a path inside.
            let covered = text.split_whitespace().skip_while(|word| *word != "kak").nth(1);
            let Some(target) = covered.or_else(|| text.split_whitespace().filter(|word| word.starts_with("/mnt/user/")).find_map(|word| word.trim_end_matches(';').strip_prefix("/mnt/user"))) else {
                continue;
            };
            if ["/usr", "/dev"].contains(&target) {
                continue; // what this test runs is there
            }
            if ["/etc/resolv.conf", "/usr/bin/kak"].contains(&target) {
                continue; // init mounts it again
            }
            // A cover may lie over others that were covered.
            // umount2(2) by number: umount(8) would want the /proc that goes too.
            sh(&format!("nsenter -t {pid} -m perl -e 'my $at = q({target}); exit(syscall(166, $at, 2) != 0)'"));
            gone.push(n);
            if target == "/etc" {
                gone.extend(whole.iter().position(|(_, text)| text.ends_with("/etc/resolv.conf")));
            }
            for (other, (done, text)) in inner().iter().enumerate() {
                assert_eq!(*done, !gone.contains(&other), "{text}: after umount {target}");
            }
        }
        assert!(gone.len() > 8, "{gone:?} of {whole:?}");
        let ended = program(&["kak", "setup"]).code(1);
        assert!(ended.stderr.contains("is missing in the jail"), "{ended}");
        sh("kak teardown; kak setup --bind /data:/srv/data --hide srv; kak status");
    }

    fn the_whole_script_makes_a_jail() {
        plug();
        let before = dump();
        sh(&format!("kak setup --explain {OPTIONS} >/tmp/script"));
        std::process::Command::new("setsid").args(["sh", "-eu", "/tmp/script"]).spawn().unwrap();
        until("kak calls it complete", || run("kak status").status.code() == Some(0));
        assert_eq!(json("kak status --json")["up"], true);
        // It is a jail like one of setup's.
        assert_eq!(sh("nssh -c 'ls /sys/class/net; ls -A /opt /mnt; stat -c %a /tmp'"), "eth0\nlo\n/mnt:\n\n/opt:\n1777");
        assert_eq!(sh(&format!("nssh -c 'cat </dev/tcp/{}/{}'", uplink::THEIRS, uplink::PORT)), uplink::OURS);
        sh("kak teardown; rm -f /tmp/script");
        assert_same("sh made the jail, kak took it away", &before, &dump());
        until("nobody is left", || processes().is_empty());
    }

    fn the_script_hides_no_name_of_a_network() {
        plug();
        let look = "ip netns exec one true; ip netns exec two true; grep -c ' /run/netns ' /proc/self/mountinfo";
        for last in ["kak setup --explain >/tmp/script; ip netns add one; ip netns add two", "kak setup --explain >/tmp/script"] {
            sh(last);
            assert_eq!(sh(look), "1");
            std::process::Command::new("setsid").args(["sh", "-eu", "/tmp/script"]).spawn().unwrap();
            until("kak calls it complete", || run("kak status").status.code() == Some(0));
            assert_eq!(sh(look), "1");
            sh("kak teardown");
            assert_eq!(sh(look), "1");
        }
    }

    fn the_script_makes_the_same_machine_as_setup() {
        plug();
        sh(&format!("kak setup --explain {OPTIONS} >/tmp/script"));
        // Without link indexes and hardware addresses, and what follows from these: they differ each time.
        let comparable = || {
            let inside = sh("nssh -c 'findmnt -rn -o TARGET,FSTYPE,OPTIONS | sort; cat /etc/resolv.conf; ip -4 -o addr | cut -d \" \" -f 2-; ip route; ip -6 route show default; ip -6 -o addr show scope global | cut -d \" \" -f 2-'");
            format!("{}\n{}\n{inside}", sh("ip -4 -o addr | cut -d ' ' -f 2-; ip route"), lasting(&dump()))
        };
        sh(&format!("kak setup {OPTIONS}"));
        let by_kak = comparable();
        sh("kak teardown");
        std::process::Command::new("setsid").args(["sh", "-eu", "/tmp/script"]).spawn().unwrap();
        until("kak calls it complete", || run("kak status").status.code() == Some(0));
        assert_same("kak's jail and sh's", &by_kak, &comparable());
    }

    fn what_sh_did_at_last_kak_undoes() {
        plug();
        sh("mkdir /srv; echo x >/var/file");
        let options = format!("{OPTIONS} --hide srv --bind /var:/opt/var --bind /var/file:/mnt/a/b/file");
        let before = dump();
        let script = steps(&sh(&format!("kak setup --explain {options}")));
        // Each step is once the last one: else undoing the one that it is based on could hide what is left of it.
        for last in 2..script.len() {
            let text: String = script.iter().take(last + 1).map(|step| format!("{}\n", step.text)).collect();
            sh(&text);
            assert_eq!(run("kak teardown").code(0).stderr, "", "{}", script[last].text);
            assert_same(&script[last].text, &before, &dump());
        }
    }

    fn a_namespace_that_is_not_the_jails_is_as_it_was() {
        plug();
        sh("ip netns add USER");
        // Once lo was up, the kernel leaves it its address.
        sh("ip -n USER link set lo up; ip -n USER link set lo down");
        let look = "cat /proc/sys/net/ipv4/ip_forward; nft list ruleset";
        // If the user namespace has only one group, the kernel does not accept the range that allows nobody.
        let ping = "/proc/sys/net/ipv4/ping_group_range";
        let ping = if run(&format!("ip netns exec USER sh -c 'echo 1 0 >{ping}'")).status.success() { ping } else { "" };
        let inside = || sh(&format!("ip -n USER addr; ip -n USER route; ip netns exec USER sh -c '{look}; cat </dev/null {ping}'"));
        let (before, within) = (dump(), inside());
        sh(&format!("kak setup {OPTIONS}"));
        assert_ne!(inside(), within);
        sh("kak teardown");
        assert_same("what is in it", &within, &inside());
        assert_same("what is around it", &before, &dump());
    }

    fn the_script_does_all_that_options_ask_for() {
        uplink::plug();
        sh("mkdir -p /srv /data/sub /opt/tools; mount -t tmpfs sub /data/sub; mkdir '/data/sub/a b'; mount -t tmpfs deep '/data/sub/a b'
            echo one >/data/one; echo two >/data/sub/two; echo three >/var/three; ln -s data /link");
        // kak is in a place that the jail does not see, and that is not in PATH.
        sh("mv /usr/bin/kak /opt/tools/kak; ln -s /opt/tools/kak /usr/bin/kak");
        let all = "--hide srv --bind /data:/opt/data:ro --bind /data:/srv/rw --bind /var/three:/mnt/deep/er/three --dns 192.0.2.53 --dns 2001:db8::53
            --unshare uts,ipc,cgroup,time --hostname inside --shell /bin/sh --root /var/jails/one --subnet 172.30.7.0/28 --publish 8080:80";
        let few = "--no-nat --root '/var/a jail' --bind '/data/sub/a b:/opt/a b:ro'";
        // Without the numbers of namespaces and mounts, and hardware addresses: they differ each time.
        let comparable = || {
            let inside = "findmnt -rn -o TARGET,FSTYPE,OPTIONS | sort; cat /etc/resolv.conf; ip -4 -o addr | cut -d ' ' -f 2-; ip route
                hostname; echo $0; ls -A / /opt /srv /mnt; cut -d . -f 1 /proc/uptime | grep -c ^.$ || true";
            let inside = sh(&format!("nssh -c \"{}\"", inside.replace('$', "\\$")));
            format!("{}\n{}\n{inside}", sh("ip -4 -o addr | cut -d ' ' -f 2-; ip route"), lasting(&dump()))
        };
        let before = dump();
        for options in [all, few] {
            let options = options.replace('\n', " ");
            sh(&format!("kak setup {options}"));
            let by_kak = comparable();
            sh("kak teardown");
            sh(&format!("kak setup --explain {options} >/tmp/script; rm /usr/bin/kak"));
            std::process::Command::new("setsid").args(["sh", "-eu", "/tmp/script"]).spawn().unwrap();
            until("kak calls it complete", || run("/opt/tools/kak status").status.code() == Some(0));
            sh("ln -s /opt/tools/kak /usr/bin/kak; rm /tmp/script");
            assert_same(&options, &by_kak, &comparable());
            sh("kak teardown");
            assert_same(&options, &before, &dump());
            until("nobody is left", || processes().is_empty());
        }
    }

    fn what_kak_does_the_tools_show() {
        uplink::plug();
        sh("kak setup");
        let pid = init("USER");
        // ip
        let outer = &json("ip -j -d addr show kak-USER")[0];
        assert_eq!(outer["linkinfo"]["info_kind"], "veth");
        assert_eq!((outer["operstate"].as_str(), outer["ifalias"].as_str()), (Some("UP"), Some("kak:USER")));
        assert_eq!(outer["mtu"], uplink::MTU);
        let address = &outer["addr_info"][0];
        assert_eq!((address["local"].as_str(), address["prefixlen"].as_u64()), (Some("10.0.0.1"), Some(24)));
        assert_eq!(json("ip -n USER -j -d link show eth0")[0]["linkinfo"]["info_kind"], "veth");
        let names = json("ip -j netns list");
        assert_eq!(names[0]["name"], "USER");
        assert_eq!(json("ip -n USER -j route show default")[0]["gateway"], "10.0.0.1");
        // nft
        let rules = json("nft -j list ruleset");
        let rules = rules["nftables"].as_array().unwrap();
        let tables: Vec<_> = rules.iter().filter_map(|object| object.get("table")).collect();
        assert_eq!(tables.len(), 1, "{tables:?}");
        assert_eq!((tables[0]["family"].as_str(), tables[0]["name"].as_str()), (Some("ip"), Some("kak-USER")));
        let hooks: Vec<_> = rules.iter().filter_map(|object| object.get("chain")?.get("hook")?.as_str()).collect();
        assert!(hooks.contains(&"postrouting"), "{hooks:?}");
        let all = serde_json::to_string(&rules).unwrap();
        assert!(all.contains("masquerade") && all.contains("10.0.0.0"), "{all}");
        assert!(all.contains("tcp option") && all.contains("maxseg"), "no MSS clamp: {all}");
        // findmnt, outside and inside
        let mounts = json("findmnt -J -t nsfs -o TARGET,FSTYPE");
        let targets: Vec<_> = mounts["filesystems"].as_array().unwrap().iter().map(|mount| mount["target"].as_str().unwrap()).collect();
        assert!(targets.contains(&"/run/netns/USER"), "{targets:?}");
        let inner = json(&format!("findmnt -J -l -N {pid} -o TARGET,FSTYPE,OPTIONS"));
        let inner = inner["filesystems"].as_array().unwrap();
        let kind = |target: &str| inner.iter().rfind(|mount| mount["target"] == target).and_then(|mount| mount["fstype"].as_str());
        assert_eq!(kind("/proc"), Some("proc"));
        assert_eq!(kind("/sys"), Some("sysfs"));
        assert_eq!(kind("/run/kak"), Some("tmpfs"));
        assert_eq!(kind("/run/netns"), Some("tmpfs"));
        assert_eq!(kind("/dev/pts"), Some("devpts"));
        assert!(kind("/").is_some());
        // lsns
        for (kind, fresh) in [("pid", true), ("mnt", true), ("net", true), ("user", false)] {
            let listed = json(&format!("lsns -J -t {kind} -o NS,PID,COMMAND"));
            let listed = listed["namespaces"].as_array().unwrap();
            let number = sh(&format!("readlink /proc/{pid}/ns/{kind} | tr -dc 0-9"));
            assert!(listed.iter().any(|namespace| namespace["ns"].to_string().trim_matches('"') == number), "{kind}: {listed:?}");
            assert_eq!(number != sh(&format!("readlink /proc/self/ns/{kind} | tr -dc 0-9")), fresh, "{kind}");
        }
    }
}
