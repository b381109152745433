//! Name resolution in a jail: resolvers on loopback addresses by the relay (`kak-dns`), others by a route.
//!
//! ```text
//!   jail                    the machine of the test             upstream
//!   +------------------+    +-----------------------------+    +-----------------------------+
//!   | 127.0.0.53:53 -----relay----> 127.0.0.53:53         |    |                             |
//!   | eth0 10.0.0.2 ---|----|----------------- eth0 ------|----|---> up0 203.0.113.1:53      |
//!   +------------------+    +-----------------------------+    +-----------------------------+
//! ```

use crate::sandbox::resolver::*;
use crate::sandbox::*;

/// The jail's network.
const JAIL: &str = "/run/netns/USER";

/// Writes the machine's resolv.conf, as a plain file instead of a mount.
fn resolv_conf(text: &str) {
    run("umount /etc/resolv.conf");
    std::fs::write("/etc/resolv.conf", text).unwrap();
}

/// The PID of the relay, of which there must be exactly one.
fn relay() -> i64 {
    let all = processes();
    let mut relays = all.iter().filter(|(_, name)| *name == "kak-dns");
    let (pid, _) = relays
        .next()
        .unwrap_or_else(|| panic!("no relay among {all:?}"));
    assert!(relays.next().is_none(), "{all:?}");
    *pid
}

/// How many file descriptors a process has open.
fn descriptors(pid: i64) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .count()
}

/// Runs a closure in the jail's network namespace, on a thread of its own.
fn inside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = std::thread::spawn(|| {
        enter_network(JAIL);
        work()
    });
    thread.join().unwrap()
}

sandboxed! {
    fn a_jail_of_a_script_has_its_resolvers() {
        uplink::plug();
        let _resolver = Resolver::start("127.0.0.53:53");
        resolv_conf("nameserver 127.0.0.53\n");
        sh("kak setup --explain >/tmp/script");
        let mut script = std::process::Command::new("setsid").args(["sh", "-eu", "/tmp/script"]).spawn().unwrap();
        assert!(script.wait().unwrap().success());
        assert_eq!(sh("nssh -c 'getent ahostsv4 one.test | head -n 1 | cut -d \" \" -f 1'"), address_of("one.test").to_string());
        relay();
        sh("kak teardown");
        until("nobody is left", || processes().is_empty());
        run("kak dns").code(1).says("kak dns -n USER: it is not up");
    }

    fn every_way_to_ask_is_answered() {
        uplink::plug();
        for address in ["127.0.0.53", uplink::THEIRS] {
            let resolver = match address {
                "127.0.0.53" => Resolver::start("127.0.0.53:53"),
                routed => Resolver::start_in("/var/upstream", &format!("{routed}:53")),
            };
            resolv_conf(&format!("nameserver {address}\n"));
            sh("kak setup");
            // The C library, in a jail's shell.
            for name in ["one.test", "two.test"] {
                assert_eq!(sh(&format!("nssh -c 'getent ahostsv4 {name} | head -n 1 | cut -d \" \" -f 1'")), address_of(name).to_string());
            }
            let dig = |words: &str| sh(&format!("nssh -c 'dig +tries=1 +noall +answer {words}' | tr -d '\" '"));
            let a = |name: &str| format!("{name}.\t\t60\tIN\tA\t{}", address_of(name));
            assert_eq!(dig("three.test"), a("three.test"));
            assert_eq!(dig("+tcp four.test"), a("four.test"));
            assert_eq!(dig("five.test sixth.test +tcp seven.test"), [a("five.test"), a("sixth.test"), a("seven.test")].join("\n"));
            let texts = |words: &str| dig(words).matches('x').count();
            // The largest answer by UDP; by UDP and then TCP; by TCP alone.
            assert_eq!(texts("TXT size4000.test +bufsize=4096 +ignore"), 4000);
            let before = resolver.by_tcp.load(std::sync::atomic::Ordering::Relaxed);
            assert_eq!(texts("TXT size4096.test"), 4096);
            assert_eq!(texts("TXT size60000.test"), 60_000);
            assert_eq!(resolver.by_tcp.load(std::sync::atomic::Ordering::Relaxed), before + 2);
            assert_eq!(texts("TXT size60000.test +tcp"), 60_000);
            assert_eq!(texts("TXT size60000.test +ignore"), 0, "truncated");
            let port = format!("{address}:53");
            inside(move || ask_in_a_row(&port, &["a.test", "b.test", "c.test"].map(String::from)));
            sh("kak teardown");
        }
    }

    fn ten_thousand_lookups_while_the_resolver_is_killed_and_started_again() {
        uplink::plug();
        let mut resolver = Some(Resolver::start("127.0.0.53:53"));
        resolv_conf("nameserver 127.0.0.53\n");
        sh("kak setup");
        let asked = std::thread::spawn(|| ask_many(JAIL, "127.0.0.53:53", 10_000, 64));
        while !asked.is_finished() {
            drop(resolver.take());
            std::thread::sleep(std::time::Duration::from_millis(50));
            resolver = Some(Resolver::start("127.0.0.53:53"));
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        asked.join().unwrap();
    }

    fn a_resolver_on_any_loopback_address_is_relayed() {
        uplink::plug();
        for address in ["127.0.0.1", "127.9.8.7", "::1"] {
            let port = std::net::SocketAddr::new(address.parse().unwrap(), 53).to_string();
            let resolver = Resolver::start(&port);
            resolv_conf(&format!("# several ways to write it\nnameserver \t {address}  \n"));
            sh("kak setup");
            assert_eq!(ask_many(JAIL, &port, 100, 4), 0);
            let port = port.clone();
            inside(move || ask_in_a_row(&port, &["a.test".into()]));
            assert_eq!(sh("nssh -c 'dig +short x.test'"), address_of("x.test").to_string(), "{address}");
            sh("kak teardown");
            drop(resolver);
        }
    }

    fn a_dead_resolver_looks_dead() {
        uplink::plug();
        resolv_conf("nameserver 127.0.0.53\nnameserver ::1\n");
        sh("kak setup");
        for port in ["127.0.0.53:53", "[::1]:53"] {
            inside(move || {
                use std::io::ErrorKind;
                let any = if port.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
                let socket = std::net::UdpSocket::bind(any).unwrap();
                socket.connect(port).unwrap();
                socket.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
                for _ in 0..3 {
                    socket.send(&question(1, "a.test")).unwrap();
                    assert_eq!(socket.recv(&mut [0; 512]).unwrap_err().kind(), ErrorKind::ConnectionRefused);
                }
                let mut connection = std::net::TcpStream::connect(port).unwrap();
                let came = std::io::Read::read(&mut connection, &mut [0; 512]);
                assert_eq!(came.unwrap_err().kind(), ErrorKind::ConnectionReset);
            });
        }
        // So the C library goes on to the next one, or gives up, at once.
        // Resolvers are relayed independently: one answers while the other is dead.
        let _resolver = Resolver::start("[::1]:53");
        assert_eq!(sh("nssh -c 'getent ahostsv4 x.test | head -n 1 | cut -d \" \" -f 1'"), address_of("x.test").to_string());
    }

    fn a_flood_takes_nothing_from_anybody() {
        uplink::plug();
        // A resolver that never answers, and one that does.
        let mute = std::net::UdpSocket::bind("127.0.0.1:53").unwrap();
        let deaf = std::net::TcpListener::bind("127.0.0.1:53").unwrap();
        let _resolver = Resolver::start("127.0.0.53:53");
        resolv_conf("nameserver 127.0.0.1\nnameserver 127.0.0.53\n");
        sh("kak setup");
        let relay = relay();
        let flood = std::thread::spawn(|| {
            enter_network(JAIL);
            let sockets: Vec<_> = (0..50).map(|_| std::net::UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
            for n in 0..20_000_u16 {
                sockets[usize::from(n % 50)].send_to(&question(n, "flood.test"), "127.0.0.1:53").ok();
            }
            (0..300).map(|_| std::net::TcpStream::connect("127.0.0.1:53").unwrap()).collect::<Vec<_>>()
        });
        while !flood.is_finished() {
            ask_many(JAIL, "127.0.0.53:53", 100, 4);
            inside(|| ask_in_a_row("127.0.0.53:53", &["a.test".into(), "b.test".into()]));
        }
        let held = flood.join().unwrap();
        // The flooded address still relays, too.
        mute.set_nonblocking(true).unwrap();
        while mute.recv(&mut [0; 512]).is_ok() {}
        let asked = std::thread::spawn(|| {
            enter_network(JAIL);
            ask_in_a_row("127.0.0.1:53", &["late.test".into()]);
        });
        until("the connection is answered", || {
            if let Ok((connection, _)) = { deaf.set_nonblocking(true).unwrap(); deaf.accept() } {
                std::thread::spawn(move || serve(connection, &false.into(), &0.into()));
            }
            asked.is_finished()
        });
        asked.join().unwrap();
        assert!(descriptors(relay) < 2 * (256 + 2 * 64) + 40, "{}", descriptors(relay));
        let memory: usize = process_field(relay, "VmRSS").unwrap().trim_end_matches(" kB").parse().unwrap();
        assert!(memory < 3000, "{memory} kB");
        drop(held);
        sh("kak teardown");
    }

    fn doors_come_and_go_with_the_list() {
        uplink::plug();
        let _resolvers = ["127.0.0.1:53", "127.0.0.2:53", "[::1]:53"].map(Resolver::start);
        let _routed = Resolver::start_in("/var/upstream", &format!("{}:53", uplink::THEIRS));
        resolv_conf(&format!("nameserver {}\n", uplink::THEIRS));
        sh("kak setup");
        let (relay, least) = (relay(), descriptors(relay()));
        let asked = || sh("nssh -c 'getent ahostsv4 x.test | head -n 1 | cut -d \" \" -f 1'");
        let answered = |port: &'static str| inside(move || {
            let socket = std::net::UdpSocket::bind(if port.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" }).unwrap();
            socket.connect(port).unwrap();
            socket.send(&question(1, "a.test")).unwrap();
            socket.recv(&mut [0; 512]).is_ok()
        });
        assert_eq!(asked(), address_of("x.test").to_string());
        for (list, doors) in [
            (&["127.0.0.1"][..], [true, false, false]),
            (&["127.0.0.2", "::1"], [false, true, true]),
            (&["127.0.0.1", "127.0.0.2", "127.0.0.1"], [true, true, false]),
            (&[uplink::THEIRS], [false, false, false]),
        ] {
            let text: String = list.iter().map(|address| format!("nameserver {address}\n")).collect();
            std::fs::write("/etc/resolv.conf", &text).unwrap();
            until("the jail has the list", || sh("nssh -c 'cat /etc/resolv.conf'") == text.trim());
            // Sockets that are no longer needed are closed just after that.
            until("the doors are right", || ["127.0.0.1:53", "127.0.0.2:53", "[::1]:53"].map(answered) == doors);
            assert_eq!(asked(), address_of("x.test").to_string());
        }
        assert_eq!(descriptors(relay), least);
        sh("kak teardown");
    }

    fn as_many_doors_as_there_may_be_become_as_many_others() {
        uplink::plug();
        let port = |n: usize| format!("127.0.0.{n}:53");
        let _resolvers: Vec<_> = (1..=20).map(|n| Resolver::start(&port(n))).collect();
        let text = |range: std::ops::RangeInclusive<usize>| range.map(|n| format!("nameserver 127.0.0.{n}\n")).collect::<String>();
        resolv_conf(&text(1..=8));
        sh("kak setup");
        // Sockets on port 53, not the relay's descriptors: an abandoned question holds one of these for a while.
        let doors = || sh(&format!("nsenter --net={JAIL} ss -Hlun 'sport = :53' | wc -l; nsenter --net={JAIL} ss -Hltn 'sport = :53' | wc -l"));
        assert_eq!(doors(), "8\n8");
        // Replaced: all, all but one, all but one again, and none, with more listed than the eight that are served.
        for (range, kept) in [(11..=18, None), (4..=11, Some(11)), (1..=8, Some(8)), (8..=20, Some(8))] {
            let kept = kept.map(|n| std::thread::spawn(move || ask_many(JAIL, &port(n), 2000, 4)));
            std::fs::write("/etc/resolv.conf", text(range.clone())).unwrap();
            until("the jail has the list", || sh("nssh -c 'cat /etc/resolv.conf'") == text(range.clone()).trim());
            for n in range.clone().take(8) {
                let port = port(n);
                inside(move || ask_in_a_row(&port, &["a.test".into()]));
            }
            if let Some(kept) = kept {
                assert_eq!(kept.join().unwrap(), 0, "{range:?}");
            }
            until("there are no others", || doors() == "8\n8");
        }
        sh("kak teardown");
    }

    fn a_killed_relay_is_no_zombie() {
        uplink::plug();
        resolv_conf("nameserver 127.0.0.53\n");
        sh("kak setup");
        let relay = relay();
        sh(&format!("kill -KILL {relay}"));
        until("it is gone", || process_field(relay, "State").is_none());
        until("there is another", || processes().values().any(|name| name == "kak-dns"));
        // The jail goes on.
        assert_eq!(sh("nssh -c 'echo on'"), "on");
        sh("kak teardown");
        until("nobody is left", || processes().is_empty());
    }

    fn a_jail_that_comes_up_again_at_once_has_its_resolvers() {
        uplink::plug();
        resolv_conf("nameserver 127.0.0.53\n");
        let _resolver = Resolver::start("127.0.0.53:53");
        sh("kak setup");
        let earlier = relay();
        // The stopped relay cannot notice yet that its init has ended.
        sh(&format!("kill -STOP {earlier}; kill -KILL {}", init("USER")));
        until("the jail is down", || run("kak status").status.code() == Some(3));
        let setup = std::thread::spawn(|| run("kak setup").code(0));
        until("the next one has its network", || processes().values().filter(|name| *name == "kak-init").count() == 1);
        std::thread::sleep(std::time::Duration::from_millis(100));
        sh(&format!("kill -CONT {earlier}"));
        assert_eq!(setup.join().unwrap().stderr, "");
        assert_eq!(sh("nssh -c 'getent ahostsv4 one.test | head -n 1 | cut -d \" \" -f 1'"), address_of("one.test").to_string());
        assert_ne!(relay(), earlier);
    }

    fn a_port_that_is_taken_is_told_and_the_others_serve() {
        uplink::plug();
        let _resolvers = ["127.0.0.1:53", "127.0.0.2:53"].map(Resolver::start);
        resolv_conf("nameserver 127.0.0.1\nnameserver 127.0.0.2\n");
        sh("kak netns add USER; ip -n USER link set lo up");
        let _theirs = inside(|| std::net::UdpSocket::bind("127.0.0.1:53").unwrap());
        run("kak setup").code(0).says("listen on 127.0.0.1 port 53: Address already in use");
        assert_eq!(ask_many(JAIL, "127.0.0.2:53", 10, 1), 0);
        sh("kak teardown");
    }

    fn its_process_has_nothing_of_anybody_elses() {
        uplink::plug();
        resolv_conf("nameserver 127.0.0.53\n");
        sh("exec 7>/tmp/seven 8</; kak setup; kak netns add blue --uplink");
        for (pid, name) in processes() {
            assert!(["kak-init", "kak-keeper", "kak-dns"].contains(&name.as_str()), "{name}");
            let open = sh(&format!("for fd in /proc/{pid}/fd/*; do readlink $fd; done"));
            for path in open.lines().filter(|path| path.starts_with('/') && *path != "/dev/null") {
                let ours = path.starts_with("/run/kak/") || path.starts_with("/run/netns/") || path.ends_with("/mountinfo");
                assert!(ours || path == "/kak/USER/lock", "{name}: {open}");
            }
        }
        sh("kak teardown; kak netns delete blue");
    }

    fn what_its_process_may_have_is_nobody_elses() {
        uplink::plug();
        resolv_conf("nameserver 127.0.0.53\n");
        sh("ulimit -Sn 256; kak setup -- sh -c 'test $(ulimit -Sn) = 256'");
        // With a low descriptor limit the relay serves fewer questions at a time.
        let _resolver = Resolver::start("127.0.0.53:53");
        sh("ulimit -n 128; kak setup");
        assert_eq!(process_field(relay(), "Name").unwrap(), "kak-dns");
        ask_many(JAIL, "127.0.0.53:53", 1000, 16);
        inside(|| ask_in_a_row("127.0.0.53:53", &["a.test".into()]));
        assert!(descriptors(relay()) < 128);
        sh("kak teardown");
    }
}
