//! Machines on which another firewall drops forwarded packets. The topology is that of `publish.rs`.

use crate::sandbox::traffic::*;
use crate::sandbox::*;

/// Firewalls: the commands that make one, and the chain into which kak must put its rules.
const FIREWALLS: &[(&str, &str)] = &[
    (
        "nft -f - <<'NFT'
        table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; }; }
NFT",
        "ip filter FORWARD",
    ),
    ("iptables-nft -P FORWARD DROP", "ip filter FORWARD"),
    (
        // As RHEL's iptables service does.
        "iptables-nft -A FORWARD -m state --state ESTABLISHED -j ACCEPT
        iptables-nft -A FORWARD -m comment --comment last -j REJECT --reject-with icmp-host-prohibited",
        "ip filter FORWARD",
    ),
    (
        // As Docker does.
        "iptables-nft -N DOCKER-USER; iptables-nft -A DOCKER-USER -j RETURN
        iptables-nft -P FORWARD DROP; iptables-nft -A FORWARD -j DOCKER-USER; iptables-nft -A FORWARD -i docker0 -j ACCEPT",
        "ip filter DOCKER-USER",
    ),
    (
        // A DOCKER-USER that no rule jumps to does not count.
        "iptables-nft -P FORWARD DROP; iptables-nft -N DOCKER-USER",
        "ip filter FORWARD",
    ),
    (
        "nft -f - <<'NFT'
        table inet filter { chain transit { type filter hook forward priority 10; policy drop; ct state invalid counter drop; }; }
NFT",
        "inet filter transit",
    ),
    (
        // As firewalld does.
        "nft -f - <<'NFT'
        table inet firewalld {
            chain filter_FORWARD {
                type filter hook forward priority 10; policy accept;
                ct state { established, related } accept
                ct status dnat accept
                iifname lo accept
                ct state invalid drop
                jump policies
                counter log reject with icmpx admin-prohibited
            }
            chain policies { iifname tun0 accept; }
        }
NFT",
        "inet firewalld filter_FORWARD",
    ),
    (
        "nft -f - <<'NFT'
        table ip mine { chain out { type filter hook forward priority 0; policy accept; goto end; }; chain end { tcp dport 1 accept; jump last; }; chain last { drop; }; }
NFT",
        "ip mine out",
    ),
];

/// The whole ruleset, byte for byte.
fn rules() -> String {
    sh("nft -j list ruleset")
}

/// Asserts that traffic passes both ways, with servers upstream and in the jail.
#[track_caller]
fn passes() {
    for by in ALL {
        assert_eq!(ask(by, JAIL, "203.0.113.1:80"), uplink::OURS);
        assert_eq!(ask(by, UPSTREAM, "203.0.113.2:8080"), uplink::THEIRS);
    }
    sh("nssh -c 'ping -c 1 -w 5 203.0.113.1'");
}

/// Options of `kak setup`.
const PUBLISH: &str = "--publish 8080:80 --publish 8080:80/udp";

sandboxed! {
    fn traffic_passes_and_nothing_is_left() {
        uplink::plug();
        serve(UPSTREAM, "0.0.0.0:80");
        for (firewall, chain) in FIREWALLS {
            sh(firewall);
            let before = (dump(), rules());
            // Without traffic all counters must stay as they are.
            sh(&format!("kak setup {PUBLISH}; kak status"));
            sh(&format!("nft list chain {chain} | grep -A 1 'oifname \"kak-USER\" accept comment \"kak:USER\"' | grep 'iifname \"kak-USER\"'"));
            sh("kak teardown");
            assert_same(firewall, &before.0, &dump());
            assert_eq!(before.1, rules(), "{firewall}");
            sh(&format!("kak setup {PUBLISH}"));
            serve(JAIL, "0.0.0.0:80");
            passes();
            sh("kak teardown; nft flush ruleset");
        }
    }

    fn without_kak_it_is_dropped() {
        // The counterpart of the test above: without kak's rules, these firewalls do drop.
        uplink::plug();
        serve(UPSTREAM, "0.0.0.0:80");
        for (firewall, chain) in FIREWALLS {
            sh(firewall);
            sh("kak setup");
            assert_eq!(ask(By::Tcp, JAIL, "203.0.113.1:80"), uplink::OURS);
            for handle in sh(&format!("nft -a list chain {chain} | sed -n 's/.*kak:USER.* handle //p'")).lines() {
                sh(&format!("nft delete rule {chain} handle {handle}"));
            }
            ask_in_vain(By::Tcp, JAIL, "203.0.113.1:80");
            sh("kak teardown; nft flush ruleset");
        }
    }

    fn several_firewalls_are_each_answered() {
        uplink::plug();
        serve(UPSTREAM, "0.0.0.0:80");
        for (firewall, _) in [&FIREWALLS[3], &FIREWALLS[5], &FIREWALLS[6]] {
            sh(firewall);
        }
        let before = rules();
        sh(&format!("kak setup {PUBLISH}"));
        assert_eq!(run("kak status").text().matches("ok  nft 'insert rule").count(), 3);
        sh("kak teardown");
        assert_eq!(before, rules());
        // The network of a namespace gets such rules, too, besides the jail's.
        sh("kak netns add blue --uplink; kak setup -n OTHER");
        assert_eq!(ask(By::Tcp, "/run/netns/blue", "203.0.113.1:80"), uplink::OURS);
        assert_eq!(ask(By::Tcp, "/run/netns/OTHER", "203.0.113.1:80"), uplink::OURS);
        sh("kak netns delete blue");
        assert_eq!(ask(By::Tcp, "/run/netns/OTHER", "203.0.113.1:80"), uplink::OURS);
        sh("kak teardown -n OTHER");
        assert!(!rules().contains("kak"));
    }

    fn what_does_not_drop_is_left_alone() {
        uplink::plug();
        sh("nft -f - <<'NFT'
            table ip open { chain f { type filter hook forward priority 0; policy accept; tcp dport 1 drop; }; }
            table ip tail { chain f { type filter hook forward priority 0; policy accept; drop; accept; }; }
            table ip input { chain f { type filter hook input priority 0; policy drop; }; }
            table ip6 six { chain f { type filter hook forward priority 0; policy drop; }; }
            table ip asleep { flags dormant; chain f { type filter hook forward priority 0; policy drop; }; }
            table ip loose { chain f { drop; }; }
NFT");
        assert!(!sh("kak setup").contains("insert rule"));
    }

    fn a_firewall_that_is_loaded_anew_is_answered_anew() {
        uplink::plug();
        serve(UPSTREAM, "0.0.0.0:80");
        sh(FIREWALLS[0].0);
        let before = rules();
        sh(&format!("kak setup {PUBLISH}"));
        serve(JAIL, "0.0.0.0:80");
        let step = "nft 'insert rule ip filter FORWARD";
        for reload in [
            "nft flush chain ip filter FORWARD",
            // One of the two rules is not enough.
            "nft delete rule ip filter FORWARD handle $(nft -a list chain ip filter FORWARD | sed -n 's/.*iifname.* handle //p')",
        ] {
            sh(reload);
            assert!(run("kak status").code(3).text().contains(&format!("--  {step}")), "{reload}");
            sh(&format!("kak setup {PUBLISH}; kak status"));
            passes();
        }
        sh("nft flush chain ip filter FORWARD; kak teardown");
        assert_eq!(rules().replace(char::is_numeric, ""), before.replace(char::is_numeric, ""));
    }

    fn a_firewall_that_goes_takes_nothing_with_it() {
        uplink::plug();
        serve(UPSTREAM, "0.0.0.0:80");
        sh(FIREWALLS[0].0);
        sh(&format!("kak setup {PUBLISH}; nft delete table ip filter; kak status; kak setup; kak status"));
        serve(JAIL, "0.0.0.0:80");
        passes();
        sh("kak teardown");
        assert!(!rules().contains("kak"));
    }

    fn a_firewall_that_comes_later_is_answered_by_a_further_setup() {
        uplink::plug();
        serve(UPSTREAM, "0.0.0.0:80");
        let before = dump();
        sh(&format!("kak setup {PUBLISH}"));
        serve(JAIL, "0.0.0.0:80");
        sh(FIREWALLS[3].0);
        ask_in_vain(By::Tcp, JAIL, "203.0.113.1:80");
        assert!(sh("kak setup").contains("+ nft 'insert rule ip filter DOCKER-USER"));
        passes();
        sh("kak setup; kak status; kak teardown; nft delete table ip filter");
        assert_same("a firewall that came later", &before, &dump());
        // Also by a setup that continues from what a killed keeper left.
        sh("kak setup");
        sh(&format!("kill -KILL {}", process_field(init("USER"), "PPid").unwrap()));
        until("nobody is left", || processes().is_empty());
        sh(FIREWALLS[0].0);
        sh("kak setup");
        assert_eq!(ask(By::Tcp, JAIL, "203.0.113.1:80"), uplink::OURS);
        sh("kak teardown; nft delete table ip filter");
        assert_same("after a killed keeper", &before, &dump());
    }

    fn iptables_understands_what_kak_wrote() {
        uplink::plug();
        serve(UPSTREAM, "0.0.0.0:80");
        sh(FIREWALLS[3].0);
        let before = sh("iptables-nft -S");
        sh("kak setup");
        let rules = sh("iptables-nft -S DOCKER-USER");
        assert!(rules.contains("-A DOCKER-USER -i kak-USER -m comment --comment \"kak:USER\" -j ACCEPT"), "{rules}");
        assert!(rules.contains("-A DOCKER-USER -o kak-USER -m comment --comment \"kak:USER\" -j ACCEPT"), "{rules}");
        sh("iptables-nft -A FORWARD -i tun0 -j DROP; iptables-nft -D FORWARD -i tun0 -j DROP");
        // Saved and restored, the rules are still recognized as kak's, whether the jail is up or not.
        sh("iptables-nft-save >/tmp/saved; iptables-nft -F; iptables-nft-restore </tmp/saved; kak status");
        assert_eq!(ask(By::Tcp, JAIL, "203.0.113.1:80"), uplink::OURS);
        sh("kak teardown");
        assert_eq!(sh("iptables-nft -S"), before);
        sh("iptables-nft-restore </tmp/saved; kak setup; kak status; kak teardown");
        assert_eq!(sh("iptables-nft -S"), before);
    }

    fn a_table_that_only_its_owner_changes_is_named() {
        uplink::plug();
        // nft owns a table with `flags owner` as long as it runs.
        sh("mkfifo /tmp/commands");
        let mut owner = std::process::Command::new("sh").args(["-c", "exec nft -i </tmp/commands >/dev/null 2>&1"]).spawn().unwrap();
        let mut commands = std::fs::File::create("/tmp/commands").unwrap();
        std::io::Write::write_all(&mut commands, b"table inet firewalld { flags owner; chain f { type filter hook forward priority 0; policy drop; }; }\n").unwrap();
        until("it is there", || run("nft list table inet firewalld").text().contains("policy drop"));
        let ended = run("kak setup").code(0).says("inet firewalld f drops").says("--add-interface=kak-USER");
        assert!(!ended.text().contains("insert rule"));
        sh("kak status; kak teardown");
        drop(commands);
        owner.wait().unwrap();
    }

    fn iptables_without_nf_tables_is_named() {
        uplink::plug();
        // A look does not load a table of iptables-legacy that is not in use.
        sh("kak setup");
        assert_eq!(run("cat /proc/net/ip_tables_names").text(), "");
        sh("kak teardown");
        for (rules, drops) in [
            ("-P FORWARD DROP", true),
            ("-P FORWARD ACCEPT", false),
            ("-A FORWARD -m comment --comment last -j REJECT", true),
            ("-A FORWARD -i tun0 -j ACCEPT", false),
        ] {
            sh(&format!("iptables-legacy {rules}"));
            let before = sh("iptables-legacy -S");
            let ended = run("kak setup").code(0);
            // In a user namespace the kernel does not tell which tables exist.
            let told = drops && run("test -r /proc/net/ip_tables_names").status.success();
            assert_eq!(ended.stderr.contains("the FORWARD chain of iptables-legacy drops"), told, "{rules}: {ended}");
            if told {
                // The command in the message is the cure.
                let (_, cure) = ended.stderr.split_once("run: ").unwrap();
                serve(UPSTREAM, &format!("0.0.0.0:{}", 80 + rules.len()));
                let at = format!("203.0.113.1:{}", 80 + rules.len());
                ask_in_vain(By::Tcp, JAIL, &at);
                sh(cure);
                assert_eq!(ask(By::Tcp, JAIL, &at), uplink::OURS);
                assert_eq!(run("kak teardown; kak setup").code(0).stderr, "");
                sh("iptables-legacy -D FORWARD -i kak-USER -j ACCEPT; iptables-legacy -D FORWARD -o kak-USER -j ACCEPT");
            }
            sh("kak teardown");
            assert_eq!(sh("iptables-legacy -S"), before);
        }
    }
}
