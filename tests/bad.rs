//! Wrong usage and machines that lack something: the message, the exit status, and nothing left behind.

use crate::sandbox::*;

/// Runs a command that must fail with this status and these words on standard error, and change nothing.
#[track_caller]
fn refused(argv: &[&str], code: i32, words: &[&str]) {
    let before = dump();
    let mut ended = program(argv).code(code);
    for word in words {
        ended = ended.says(word);
    }
    assert!(ended.stderr.starts_with("kak: "), "{ended}");
    assert!(ended.stdout.is_empty() || code == 1, "{ended}");
    assert_same(&format!("{argv:?}"), &before, &dump());
    until("nobody is left", || processes().is_empty());
}

/// A prefix that runs a command without this capability, also after exec.
fn without(capability: &str) -> String {
    format!("setpriv --bounding-set -{capability} --inh-caps -{capability}")
}

sandboxed! {
    fn a_jail_has_a_name_that_can_be_a_file() {
        let long = "x".repeat(33);
        for name in ["../x", "", &long, "-x", ".", "..", ".x", "a/b", "a b", "a\nb", "ä"] {
            for applet in ["setup", "teardown", "status", "nssh"] {
                refused(&["kak", applet, &format!("--name={name}")], 2, &["name"]);
            }
        }
        // The longest one that is allowed.
        sh(&format!("kak setup -n {0}; kak teardown -n {0}", "x".repeat(32)));
    }

    fn the_root_is_a_directory_of_its_own() {
        sh("echo file >/var/file");
        refused(&["kak", "setup", "--root", "/"], 2, &["--root"]);
        refused(&["kak", "setup", "--root", "relative"], 2, &["--root"]);
        refused(&["kak", "setup", "--root", ""], 2, &["--root"]);
        for system in ["/etc", "/opt", "/usr/", "/./home", "/mnt"] {
            refused(&["kak", "setup", "--root", system], 2, &["--root", "/srv/jail"]);
        }
        refused(&["kak", "setup", "--root", "/var/file"], 1, &["/var/file"]);
        refused(&["kak", "setup", "--root", "/var/file/below"], 1, &["/var/file"]);
        refused(&["kak", "setup", "--root", "/dev/null"], 1, &["/dev/null"]);
        sh("kak setup --root /var/elsewhere; nssh -c true; kak teardown; test ! -e /var/elsewhere");
    }

    fn the_root_is_no_other_jails() {
        uplink::plug();
        sh("kak setup -n ONE --root /srv/jails/one; kak setup -n USER; ln -s /srv/jails /var/link");
        let before = dump();
        let two = |root: &str| program(&["kak", "setup", "-n", "two", "--root", root]).code(1).says("the jail ONE has its root at /srv/jails/one").says("another place with --root");
        two("/srv/jails/one");
        two("/srv/jails/one/opt");
        two("/srv/jails");
        two("/var/link/one");
        // Names that differ only in case have the same default root.
        program(&["kak", "setup", "-n", "user"]).code(1).says("the jail USER has its root at /mnt/user").says("another place with --root");
        assert_same("refused", &before, &dump());
        sh("kak setup -n user --root /srv/jails/two; kak setup -n one.");
        for jail in ["ONE", "USER", "user", "one."] {
            sh(&format!("kak status -n {jail}; KAK_JAIL={jail} nssh -c true; kak teardown -n {jail}"));
        }
        sh("kak setup -n user; kak teardown -n user");
    }

    fn a_root_may_be_reached_by_links() {
        uplink::plug();
        sh("mkdir -p /var/mnt; mount --bind /var /var; mount --move /mnt /var/mnt 2>/dev/null || true; rmdir /mnt; ln -s var/mnt /mnt");
        let before = dump();
        sh("kak setup");
        assert_eq!(sh("ls -d /var/mnt/user; nssh -c 'ls -A /mnt /var/mnt/user; test -d /mnt && ! test -L /mnt; findmnt -n -o TARGET /'"), "/var/mnt/user\n/mnt:\n\n/var/mnt/user:\n/");
        let status = run("kak status");
        assert_eq!(status.status.code(), Some(0), "{status}");
        let record = sh("cat /run/kak/USER/record");
        sh("kill -KILL $(kak status --json | grep -o '\"init\":[0-9]*' | cut -d : -f 2)");
        until("the keeper has gone", || processes().is_empty());
        assert_eq!(sh("nssh -c true; cat /run/kak/USER/record"), record);
        sh("kak teardown");
        assert_same("a link on the way", &before, &dump());
        sh("rm -r /var/mnt");
        refused(&["kak", "setup"], 1, &["--root /mnt/user: /mnt is a dangling link", "make its target"]);
    }

    fn a_subnet_is_a_free_network() {
        for subnet in ["10.0.0.0", "10.0.0/24", "300.0.0.0/24", "10.0.0.0/33", "10.0.0.0/x", "", "fe80::/64", "10.0.0.7/24"] {
            refused(&["kak", "setup", "--subnet", subnet], 2, &["--subnet"]);
        }
        for subnet in ["10.0.0.0/31", "10.0.0.0/32"] {
            refused(&["kak", "setup", "--subnet", subnet], 2, &["too small"]);
        }
        sh("ip link add v0 type veth peer name v1; ip link set v0 up; ip link set v1 up; ip addr add 10.9.0.1/24 dev v0");
        refused(&["kak", "setup", "--subnet", "10.9.0.0/24"], 1, &["10.9.0"]);
        refused(&["kak", "setup", "--subnet", "10.8.0.0/15"], 1, &["10.9.0"]);
        sh("kak setup --subnet 10.0.0.0/30; nssh -c true");
    }

    fn what_the_jail_has_of_its_own_is_not_bound_over() {
        for own in ["/proc", "/sys", "/dev", "/run", "/run/kak", "/run/kak/USER", "/etc/resolv.conf"] {
            refused(&["kak", "setup", "--bind", &format!("/usr:{own}")], 2, &[&format!("{own}: this place is the jail's own, or kak's")]);
        }
        for root in ["/run/kak", "/run/kak/USER", "/run/netns"] {
            refused(&["kak", "setup", "--root", root], 2, &[&format!("{root}: this place is")]);
        }
        // A record of an older version may contain such an option, and is read.
        sh("kak setup; sed -i '/^option root/a option bind /usr/share:/run/kak' /run/kak/USER/record; sed -i '/^real-root/i bound-dir yes' /run/kak/USER/record");
        assert_eq!(run("kak status").stderr, "");
        sh("kak teardown");
        sh("kak setup --bind /usr:/a --bind /usr:/mnt/proc/b --root /run/d; nssh -c 'test -d /a/bin -a -d /mnt/proc/b/bin'; kak status; kak teardown");
    }

    fn what_is_bound_or_hidden_exists() {
        refused(&["kak", "setup", "--bind", "/no/such/place"], 1, &["/no/such/place"]);
        refused(&["kak", "setup", "--bind", "/no/such/place:/opt/x:ro"], 1, &["/no/such/place"]);
        refused(&["kak", "setup", "--hide", "nosuch"], 1, &["nosuch"]);
        for hide in ["a/b", "/", "..", "proc", "etc", ""] {
            refused(&["kak", "setup", "--hide", hide], 2, &["--hide"]);
        }
        for bind in ["relative", "/etc:relative", "/etc:/opt/../..", "/etc:/", ""] {
            refused(&["kak", "setup", "--bind", bind], 2, &["--bind"]);
        }
    }

    fn options_are_known_and_complete() {
        refused(&["kak", "setup", "--nonsense"], 2, &["--nonsense"]);
        refused(&["kak", "setup", "-Z"], 2, &["-Z"]);
        refused(&["kak", "setup", "word"], 2, &["word"]);
        refused(&["kak", "setup", "--name"], 2, &["--name"]);
        refused(&["kak", "setup", "--dns", "nonsense"], 2, &["nonsense"]);
        refused(&["kak", "teardown", "word"], 2, &["word"]);
        refused(&["kak", "status", "word"], 2, &["word"]);
        refused(&["kak", "kill"], 2, &[]);
        refused(&["kak", "kill", "word"], 2, &["word"]);
    }

    fn the_shell_exists() {
        refused(&["kak", "setup", "--shell", "/no/such/shell"], 1, &["/no/such/shell"]);
        refused(&["kak", "setup", "--shell", "relative"], 2, &["--shell"]);
        refused(&["kak", "setup", "--shell", "/bin/nssh"], 1, &["/bin/nssh"]);
    }

    fn a_missing_capability_is_named() {
        for (capability, name) in [("sys_admin", "CAP_SYS_ADMIN"), ("net_admin", "CAP_NET_ADMIN")] {
            let command = format!("{} kak setup", without(capability));
            let argv: Vec<&str> = command.split(' ').collect();
            let before = dump();
            let ended = program(&argv).code(1).says(name);
            assert!(ended.stderr.lines().count() <= 2, "one message and its cure: {ended}");
            assert_same(&command, &before, &dump());
        }
    }

    fn a_run_that_is_read_only_is_named() {
        sh("mount -t tmpfs -o ro ro /run");
        refused(&["kak", "setup"], 1, &["/run", "read-only"]);
    }

    fn an_etc_that_is_read_only_is_named_and_not_needed() {
        uplink::plug();
        sh("mount --rbind /etc /etc; mount -o remount,bind,ro /etc; ! touch /etc/shells");
        let before = dump();
        program(&["kak", "setup"]).code(0).says("/etc is read-only");
        assert_eq!(sh("nssh -c 'cat /etc/resolv.conf'"), sh("cat /etc/resolv.conf"));
        sh("kak status; kak teardown");
        assert_same("with a read-only /etc", &before, &dump());
    }

    fn a_mnt_that_is_read_only_is_named_and_not_needed() {
        sh("mount -t tmpfs -o ro ro /mnt");
        refused(&["kak", "setup"], 1, &["/mnt/user", "read-only"]);
        sh("kak setup --root /var/elsewhere; nssh -c true");
    }

    fn a_foreign_thing_of_our_name_is_left_alone() {
        uplink::plug();
        sh("ip link add kak-USER type veth peer name other");
        refused(&["kak", "setup"], 1, &["kak-USER"]);
        sh("ip link del kak-USER; mkdir -p /run/netns; echo text >/run/netns/USER");
        refused(&["kak", "setup"], 1, &["netns add USER"]);
    }

    fn a_shell_that_the_jail_does_not_have_is_told() {
        uplink::plug();
        sh("cp /bin/sh /opt/own; chmod 755 /opt/own");
        let words = ["--shell", "the jail does not have it: No such file or directory"];
        refused(&["kak", "setup", "--shell", "/opt/own", "--login-shell", "root"], 1, &words);
        refused(&["kak", "setup", "--hide", "usr"], 1, &words);
        sh("kak setup --shell /opt/own --bind /opt/own; nssh -c true; kak teardown; rm /opt/own");
    }

    fn a_command_comes_after_its_sign() {
        let words = ["\"bash\": a command comes after '--', as in: kak setup -- bash"];
        refused(&["kak", "setup", "-n", "web", "bash"], 2, &words);
    }

    fn a_setup_that_fails_half_way_takes_back_what_it_made() {
        uplink::plug();
        // One of the last steps needs a directory where there is a file.
        sh("mkdir -p /mnt/user; echo in the way >/mnt/user/tmp");
        refused(&["kak", "setup"], 1, &["/mnt/user/tmp"]);
    }

    fn a_kernel_without_nat_is_named_and_not_needed() {
        uplink::plug();
        let before = dump();
        // A kernel without nf_tables, simulated: socket(AF_NETLINK, ..., NETLINK_NETFILTER) fails.
        let refusing = refusing(&format!("{},0=16,2=12", libc::SYS_socket), libc::EPROTONOSUPPORT);
        let without = |command: &str| run(&format!("{refusing} sh -c '{command}'"));
        without("kak setup").code(1).says("nf_tables").says("--no-nat");
        assert_same("taken back", &before, &dump());
        without("kak setup --no-nat").code(0);
        without("kak status").code(0);
        assert_eq!(sh("nft list ruleset"), "");
        without("nssh -c true").code(0);
        without("kak teardown").code(0);
        assert_same("taken back", &before, &dump());
    }

}
