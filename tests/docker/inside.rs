//! What `docker exec C /bin/nssh` sees, and what `docker exec C /bin/bash` sees.

use crate::rig::*;

/// A ping by perl, which every Debian has: one echo request, one reply, five seconds.
const PING: &str = r#"
    use Socket; alarm 5;
    socket(my $s, PF_INET, SOCK_RAW, 1) or die "socket: $!";
    my $echo = pack "C C n n n a8", 8, 0, 0, 77, 1, "kak-ping"; my $sum = 0;
    $sum += $_ for unpack "n*", $echo; $sum = ($sum >> 16) + ($sum & 0xffff) while $sum >> 16;
    substr($echo, 2, 2) = pack "n", ~$sum & 0xffff;
    send $s, $echo, 0, pack_sockaddr_in(0, inet_aton($ARGV[0])) or die "send: $!";
    while (1) {
        recv $s, my $packet, 1500, 0 or die "recv: $!";
        my ($type, $code, $sum, $id) = unpack "C C n n", substr $packet, (ord($packet) & 15) * 4;
        if ($type == 0 && $id == 77) { print "pong"; exit }
    }"#;

#[test]
fn the_process_table_is_the_jails() {
    let container = Container::jail();
    for kind in ["pid", "mnt", "net"] {
        let link = format!("readlink /proc/self/ns/{kind}");
        assert_ne!(container.inside(&link), container.outside(&link), "{kind}");
    }
    let mine = container.inside("readlink /proc/self/ns/pid");
    let all = container
        .inside("for p in /proc/[0-9]*; do readlink $p/ns/pid 2>/dev/null || true; done | sort -u");
    assert_eq!(all, mine);
    assert_eq!(container.inside("cd /proc; set -- [0-9]*; echo $1"), "1");
    assert_eq!(
        container.inside("ps 2>/dev/null; ls /proc/1/root/bin/kak"),
        "/proc/1/root/bin/kak"
    );
    let init = container.outside("kak status --json | tr , '\\n' | sed -n 's/.*\"init\": *//p'");
    assert_eq!(
        container.outside(&format!("readlink /proc/{init}/exe")),
        container.outside("readlink -f /bin/kak")
    );
}

#[test]
fn the_network_is_the_jails_and_leads_out() {
    let (container, neighbour) = (Container::jail(), neighbour());
    assert_eq!(container.inside("ls /sys/class/net"), "eth0\nlo");
    let state = container.inside("cat /sys/class/net/eth0/operstate /sys/class/net/lo/flags");
    assert_eq!(state, "up\n0x9");
    assert_eq!(container.inside(&ask(&neighbour)), container.address());
    let pong = container.exec(&[
        "/bin/nssh",
        "-c",
        "exec perl -e \"$0\" \"$1\"",
        PING,
        &neighbour.address(),
    ]);
    assert_eq!(pong.code(0).stdout, "pong");
    // Both ends have the uplink's MTU.
    let mtu = container.outside("cat /sys/class/net/eth0/mtu");
    assert_eq!(container.inside("cat /sys/class/net/eth0/mtu"), mtu);
}

#[test]
fn dockers_own_files_are_there() {
    let container = Container::jail();
    for name in ["resolv.conf", "hosts", "hostname"] {
        let text = container.outside(&format!("cat /etc/{name}"));
        assert!(!text.is_empty());
        assert_eq!(
            container.inside(&format!("cat /etc/{name}")),
            text,
            "{name}"
        );
    }
}

#[test]
fn the_terminal_has_the_same_name() {
    let container = Container::jail();
    let said = docker(&[
        "exec",
        "-t",
        &container.0,
        "/bin/bash",
        "-c",
        "tty; nssh -c tty",
    ]);
    let said = said.code(0).stdout;
    let names: Vec<&str> = said.lines().map(str::trim).collect();
    assert!(
        names.len() == 2 && names[0] == names[1] && names[0].starts_with("/dev/pts/"),
        "{said}"
    );
    // And a session that docker exec starts directly has one too.
    let said = docker(&["exec", "-t", &container.0, "/bin/nssh", "-c", "tty"])
        .code(0)
        .stdout;
    assert!(said.starts_with("/dev/pts/"), "{said}");
}

#[test]
fn what_docker_exec_does_not_say_is_filled_in() {
    let container = Container::jail();
    let exec = |options: &[&str], script: &str| {
        let command = [&container.0, "/bin/nssh", "-c", script];
        docker(&[&["exec"], options, &command].concat())
    };
    let who = "echo $SHELL $HOME $USER $LOGNAME; pwd";
    let root = "/bin/bash /root root root\n/";
    assert_eq!(exec(&[], who).code(0).stdout, root);
    // A program in the session that starts the shell of /etc/passwd (su) or $SHELL.
    container.outside("sed -i '/^root:/s,[^:]*$,/bin/nssh,' /etc/passwd");
    let again = format!("su -c '{who}'; perl -e 'exec @ENV{{\"SHELL\"}}, \"-c\", q({who})'");
    let all = [root, root].join("\n");
    assert_eq!(exec(&[], &again).code(0).stdout, all);
    // What docker exec does set is kept.
    let said = exec(
        &["-w", "/usr/share", "-e", "HOME=/var", "-e", "X=1"],
        "echo $HOME $X; pwd",
    );
    assert_eq!(said.code(0).stdout, "/var 1\n/usr/share");
    container.outside("mkdir /opt/only; chmod 700 /opt/only");
    assert_eq!(exec(&["-w", "/opt/only"], "pwd").code(0).stdout, "/root");
    // It gives no other user root's rights: the user nobody does not get in.
    let other = exec(&["-u", "nobody"], "echo is in").code(125);
    assert_eq!(other.stdout, "");
}

#[test]
fn directories_are_as_promised() {
    let container = Container::jail();
    container.outside("touch /opt/outer /mnt/outer /tmp/outer");
    let nobody = "setpriv --reuid 65534 --regid 65534 --clear-groups";
    container.inside(&format!("{nobody} touch /dev/shm/x /tmp/x"));
    assert_eq!(
        container.inside("stat -c %a:%u /tmp; ls -A /tmp"),
        "1777:0\nx"
    );
    assert_eq!(
        container.inside("ls -A /opt /mnt | tr -d '\\n'"),
        "/mnt:/opt:"
    );
    assert_eq!(
        container.outside("ls -A /tmp | grep -x x || echo none"),
        "none"
    );
    let link = "readlink /bin /sbin /lib /lib64";
    assert_eq!(container.inside(link), container.outside(link));
    assert_eq!(container.inside("ls -A /run/netns"), "");
}

#[test]
fn control_groups_are_the_containers() {
    let container = Container::jail();
    let list = "findmnt -rn -R -o TARGET,FSTYPE,OPTIONS /sys/fs/cgroup";
    let outer = container.outside(list);
    assert!(!outer.is_empty());
    assert_eq!(container.inside(list), outer);
    assert_ne!(container.inside("stat -f -c %T /sys/fs/cgroup"), "sysfs");
}

#[test]
fn the_jails_root_is_the_end() {
    let container = Container::jail();
    container.outside("touch /opt/outer");
    assert_eq!(container.inside("nsenter -t 1 -m ls -A /opt"), "");
    let walk =
        "mkdir '/tmp/hole'; chroot '/tmp/hole' or die; chdir '..' for 1..40; chroot '.' or die;
        print grep { -e } '/opt/outer', '/etc/passwd'";
    let walk = container.exec(&["/bin/nssh", "-c", "exec perl -e \"$0\"", walk]);
    assert_eq!(walk.code(0).stdout, "/etc/passwd");
    assert_eq!(
        container.inside("findmnt -n -o TARGET /; unshare -U true"),
        "/"
    );
}

#[test]
fn bash_stays_outside() {
    let container = Container::jail();
    container.outside("touch /opt/outer");
    assert_eq!(container.outside("ls -A /opt"), "outer");
    assert_eq!(
        container.outside("tr '\\0' ' ' </proc/1/cmdline"),
        "/sbin/kak-setup --attach --login-shell root"
    );
    let links = container.outside("ls /sys/class/net");
    assert!(links.lines().any(|link| link == "kak-USER"), "{links}");
}

#[test]
fn sixteen_first_shells_make_one_jail() {
    let container = Container::bare();
    let sixteen: Vec<_> = (0..16)
        .map(|_| {
            let name = container.0.clone();
            std::thread::spawn(move || {
                docker(&[
                    "exec",
                    &name,
                    "/bin/nssh",
                    "-c",
                    "readlink /proc/self/ns/pid",
                ])
            })
        })
        .collect();
    let said: Vec<String> = sixteen
        .into_iter()
        .map(|thread| thread.join().unwrap().code(0).stdout)
        .collect();
    assert!(
        said.iter()
            .all(|one| *one == said[0] && one.starts_with("pid:[")),
        "{said:?}"
    );
    assert_eq!(container.outside("grep -c nsfs /proc/self/mountinfo"), "1");
}

#[test]
fn docker_exec_returns_at_once_though_the_jail_stays() {
    let container = Container::bare();
    let start = std::time::Instant::now();
    container.exec(&["/bin/nssh", "-c", "true"]).code(0);
    let took = start.elapsed();
    assert!(took.as_secs() < 5, "{took:?}");
    container.wait_up();
}

#[test]
fn the_jail_is_masked_no_less_than_its_container() {
    let container = Container::run(
        &[
            "-dit",
            "--cap-add",
            "SYS_ADMIN",
            "--cap-add",
            "NET_ADMIN",
            "--security-opt",
            "apparmor=unconfined",
        ],
        image(),
        &[],
    );
    container.wait_up();
    let list = "for dir in /proc /sys; do findmnt -rn -R -o TARGET,FSTYPE,OPTIONS $dir | sed 1d | sort; done";
    let outer = container.outside(list);
    assert!(
        outer.contains("/proc/keys") && outer.contains("/proc/sys"),
        "{outer}"
    );
    assert_eq!(container.inside(list), outer);
    let sys = "findmnt -n -o OPTIONS /sys | tail -n 1 | grep -o '^r[ow]'";
    assert_eq!(container.inside(sys), container.outside(sys));
    assert_eq!(container.inside(&ask(&neighbour())), container.address());
}

#[test]
fn a_container_without_rights_says_so_in_one_message() {
    let container = Container(unique("c"));
    let ended = docker(&["run", "--name", &container.0, image()]).code(1);
    assert!(ended.stderr.contains("--privileged"), "{}", ended.stderr);
    assert!(ended.stderr.lines().count() <= 2, "{}", ended.stderr);
}

#[test]
fn what_is_dropped_beside_is_named_too() {
    let container = Container(unique("c"));
    let rights = |more: &[&str]| {
        let few = [
            "--cap-drop",
            "ALL",
            "--cap-add",
            "SYS_ADMIN",
            "--cap-add",
            "NET_ADMIN",
        ];
        let run = ["run", "--rm", "--name", &container.0];
        let command = [
            image(),
            "--",
            "/bin/bash",
            "-c",
            "exec nssh -c 'echo $$; cat /proc/1/comm'",
        ];
        docker(&[&run[..], &few, more, &command].concat())
    };
    let ended = rights(&[]).code(1);
    let said = "needs CAP_SYS_CHROOT\nkak: setup: run as root; in Docker use --privileged, or --cap-add SYS_CHROOT ";
    assert!(ended.stderr.contains(said), "{}", ended.stderr);
    let ended = rights(&["--cap-add", "SYS_CHROOT"]).code(0);
    assert!(ended.stdout.contains("kak-init"), "{}", ended.stdout);
}
