//! Scripts that call `ip netns`: those that must do the same with kak, and those in which kak is better on purpose.
//! `$IP` is the program.

/// Scripts that must do the same with both.
pub const SAME: &[&str] = &[
    // Options and objects.
    "$IP netns add a; for o in -h -human -iec -s -stats -d -r -o -t -ts -br -N -4 -6 -0 -M -B -c -c=always -color=never; do
        $IP $o netns || echo $o $?; done",
    "$IP netns add a; $IP -l 3 netns; $IP -loops 3 netns; $IP -f inet netns; $IP -family link netns; $IP -rc 4096 netns",
    "$IP netns add a; $IP -j -p netns; $IP -p netns; $IP --json netns; $IP -json -pretty netns list",
    "$IP netns add a; $IP -- netns; $IP net; $IP netn; $IP netns",
    "for o in -x -q --nope -e -ec -all=x -color=x; do $IP $o netns; echo $?; done",
    "for f in x inet7; do $IP -family $f netns; echo $?; done",
    "$IP -n nope netns; echo $?; $IP -n nope -V; echo $?; $IP --netns nope netns; echo $?",
    "$IP netns -all exec true; echo $?; $IP netns -j list; echo $?",
    // Verbs, whole and shortened.
    "$IP netns add a; for v in l li lis list s sh sho show ls lst; do $IP netns $v || echo $v $?; done",
    "$IP netns add a; $IP netns set a 7; for v in list- list-i list-id; do $IP netns $v; done",
    "$IP netns a a; $IP netns ad b; $IP netns at c $$; $IP netns se a 1; $IP netns i; $IP netns id $$; $IP netns p nope
        for v in d de del dele delet; do $IP netns $v b; done; $IP netns delete c; $IP netns",
    "$IP netns add a; for v in e ex exe exec; do $IP netns $v a echo $v; done",
    "for v in rm remove deletee showx '' LIST; do $IP netns \"$v\" x; echo $?; done",
    "for v in h he hel help; do $IP netns $v; echo $?; done; $IP netns list-id x; echo $?",
    // Names are checked first, whatever the verb.
    "for v in list add set delete identify pids exec monitor attach list-id help; do
        for n in '' . .. a/b /; do $IP netns $v \"$n\"; echo $?; done; done",
    "long=$(printf %0255d 0); $IP netns add $long; $IP netns; $IP netns exec $long true; $IP netns delete $long
        $IP netns add ${long}0; echo $?",
    "for n in 'a b' 'c\td' 'e\nf' \"g'h\" 'i\"j' 'k\\l' -x -- .hidden ...; do n=$(printf '%b' \"$n\")
        $IP netns add \"$n\"; $IP netns; $IP -j netns; $IP netns exec \"$n\" true; echo $?; $IP netns add \"$n\"; $IP netns delete \"$n\"; done",
    "n=$(printf 'x\\377y'); $IP netns add \"$n\"; $IP netns; $IP -j netns; $IP netns delete \"$n\"",
    "$IP netns add a extra words; $IP netns list extra; $IP netns delete a b c; $IP netns",
    "$IP netns exec -- a true; echo $?; $IP netns add a; $IP netns exec a -- true; echo end",
    // Adding and attaching.
    "$IP netns add; echo $?; $IP netns attach; echo $?; $IP netns attach a; echo $?; $IP netns set; echo $?; $IP netns delete; echo $?",
    "for p in x 0 0x 1x '' 99999999999; do $IP netns attach a \"$p\"; echo $?; done; ls /run/netns",
    "for p in -1 4194304 007; do $IP netns attach a $p; echo $?; ls /run/netns; done",
    "$IP netns attach a $$; $IP netns identify; $IP netns attach b 0x$(printf %x $$); $IP netns; $IP netns attach a $$; echo $?",
    "$IP netns add a; $IP netns add a; echo $?; mkdir /run/netns/d; echo text >/run/netns/f; ln -s /nowhere /run/netns/l
        for n in d f l; do $IP netns add $n; echo $?; done",
    "echo >/run/netns; $IP netns add a; echo $?; $IP -all netns exec true; echo $?; $IP netns identify; echo $?",
    "mount -o remount,ro /run; $IP netns add a; echo $?",
    "mkdir /run/netns; mount -o bind /run/netns /run/netns; mount -o remount,ro,bind /run/netns; $IP netns add a; echo $?",
    // Listing.
    "$IP netns; echo $?; mkdir /run/netns; $IP netns; $IP -j netns; $IP -j -p netns",
    "for n in a b c d e; do $IP netns add $n; done; $IP netns set c 16; $IP netns set a 3
        $IP netns; $IP -j netns; $IP -j -p netns; $IP netns exec a $IP netns; $IP -n b netns",
    "$IP netns add a; ln -s a /run/netns/l; $IP netns; $IP netns set a 4; $IP netns; $IP netns list-id",
    // Deleting.
    "$IP netns delete nope; echo $?; $IP netns add a; mkdir /run/netns/d; $IP netns delete d; echo $?; $IP netns delete a; ls /run/netns",
    "$IP netns add a; for n in f p; do :; done; echo x >/run/netns/f; mkfifo /run/netns/p; $IP netns delete f; $IP netns delete p; ls /run/netns",
    "$IP netns add a; $IP netns exec a sleep 5 & sleep .3; $IP netns delete a; $IP netns; $IP netns identify $!; kill $!",
    "$IP netns add a; $IP netns delete a; $IP netns add a; $IP netns; $IP netns delete a; grep -c nsfs /proc/self/mountinfo",
    // identify and pids.
    "$IP netns identify; echo $?; mkdir /run/netns; $IP netns identify; $IP netns identify 1 2; echo $?",
    "for p in -1 x self 1x ''; do $IP netns identify $p \"\"; echo $?; $IP netns identify $p; echo $?; done",
    "for p in 0 007 4194304; do $IP netns identify $p; echo $?; done",
    "$IP netns add a; $IP netns exec a $IP netns identify; $IP netns exec a sh -c \"$IP netns identify \\$\\$\"",
    "$IP netns pids; echo $?; $IP netns pids a b; echo $?; $IP netns pids nope; echo $?; mkdir -p /run/netns; echo x >/run/netns/f; $IP netns pids f; echo $?",
    "$IP netns add a; $IP netns pids a; $IP netns exec a sleep 9 & $IP netns exec a sleep 9 & sleep .3
        [ $($IP netns pids a | wc -l) = 2 ] && for p in $($IP netns pids a); do $IP netns identify $p; kill $p; done",
    // Numbers: set and list-id.
    "$IP netns add a; $IP netns set a; echo $?; for n in x 1x 2147483648 -5 -1 '' 0x; do $IP netns set a \"$n\"; echo $?; done; $IP netns",
    "$IP netns add a; $IP netns add b; $IP netns set a 0x10 more; $IP netns set a 16; echo $?; $IP netns set b 16; echo $?; $IP netns set b auto; $IP netns; $IP netns list-id",
    "$IP netns set nope 5; echo $?; mkdir -p /run/netns; echo >/run/netns/f; $IP netns set f 5; echo $?",
    "$IP netns list-id; echo $?; $IP -j netns list-id; $IP -j -p netns list-id; $IP netns list-id nsid 9; echo $?; $IP -j netns list-id nsid 9; echo $?",
    "$IP netns add a; $IP netns add b; $IP netns set b 30; $IP netns set a 20; $IP -n a netns set b 7; $IP netns list-id
        $IP -j netns list-id; $IP -j -p netns list-id; $IP netns list-id nsid 30; $IP -j netns list-id nsid 30; $IP -p -j netns list-id nsid 20",
    "$IP netns add a; $IP netns add b; $IP netns set b 30; $IP netns set a 20; $IP -n a netns set b 7; $IP -n a netns set a 8
        for t in 20 30; do $IP netns list-id target-nsid $t; $IP -j netns list-id target-nsid $t; done
        $IP netns list-id target-nsid 20 nsid 30; $IP netns list-id nsid 20 target-nsid 20; $IP -j netns list-id nsid 7 target-nsid 20; echo $?",
    "$IP netns add a; $IP netns set a 5; $IP netns attach b $$; mount -t tmpfs x /run; $IP netns list-id; $IP -j netns list-id",
    "for w in 'nsid' 'target-nsid' 'nsid x' 'target-nsid x' 'nsi 1' 'nsid 1 nsid 2' 'target-nsid 1 target-nsid 2' 'nsid 99999999999'; do $IP netns list-id $w; echo $?; done",
    "$IP netns list-id target-nsid 77; echo $?; $IP -j netns list-id target-nsid 77; echo $?",
    // -all.
    "$IP -all netns exec true; echo $?; $IP -all netns delete; echo $?; $IP -all netns exec; echo $?",
    "for n in a b c; do $IP netns add $n; done; $IP -all netns exec sh -c 'echo hello; exit 3'; echo $?
        $IP -all netns exec nosuch; echo $?; $IP -a netns del; echo $?; $IP netns",
    "for n in a b c; do $IP netns add $n; done; $IP -all netns exec sh -c 'kill -9 $$'; echo $?",
    // In another namespace: -n.
    "$IP netns add a; $IP netns add b; $IP -n a netns set b 4; $IP netns; $IP -n a netns; $IP -n b -n a netns; $IP -n a netns identify",
    "mkdir -p /run/netns; echo >/run/netns/f; $IP -n f netns; echo $?",
    // Batches.
    "printf 'netns add a\\n# no\\n\\n netns  add\\tb # so\\nnetns add \"c d\"\\nnetns add \\\\\\ne\\nnetns\\nnetns list-id\\n' >f; $IP -batch f; echo $?; $IP -j -b f; echo $?",
    "printf 'netns add a\\nnetns add a\\nnetns add b\\n' >f; $IP -b f; echo $?; $IP netns; $IP -force -b f; echo $?; $IP netns",
    "printf 'netns add a\\nnetns nope\\nnetns add b\\n' >f; $IP -force -b f; echo $?; $IP netns",
    "printf 'netns add a\\nnetns add ..\\nnetns add b\\n' | $IP -fo -b -; echo $?; $IP netns",
    "printf 'netns add a\\nnetns exec a sh -c \"exit 3\"\\nnetns add b\\n' | $IP -b -; echo $?; printf 'netns exec a echo in\\nnetns add c\\n' | $IP -b -; echo $?; $IP netns",
    "printf 'netns add a\\nnetns exec a sh -c \"kill -9 0\"\\n' >/dev/null; printf \"netns add a\\nnetns exec a sh -c 'kill -9 \\$\\$'\\nnetns add b\\n\" | $IP -force -b -; echo $?; $IP netns",
    "$IP -b nofile; echo $?; printf 'netns add \"a\\n' | $IP -b -; echo $?; printf 'netns add \"a b\" \"c\" x y' | $IP -b -; $IP netns",
    "printf 'netns add a\\nnetns exec a cat\\nnetns add b\\n' >f; $IP -b f; $IP netns",
    "printf 'netns set a 1\\nnetns add b\\n' | $IP -b - ; echo $?",
    // Commands: exec.
    "$IP netns exec; echo $?; $IP netns add a; $IP netns exec a; echo $?; $IP netns exec nope true; echo $?",
    "$IP netns add a; $IP netns exec a sh -c 'exit 77'; echo $?; $IP netns exec a sh -c 'kill -TERM $$'; echo $?; $IP netns exec a printf '%s.' -x -- '' 'a b'",
    "$IP netns add a; $IP netns exec a sh -c 'ls /sys/class/net; cat /proc/net/dev | wc -l; umask; pwd; ulimit -n; test $PPID = '$$; ulimit -n",
    "mkdir -p /run/netns; echo >/run/netns/f; mkdir /run/netns/d; for n in f d; do $IP netns exec $n true; echo $?; done",
    "printf 'echo script $1\\n' >s; chmod +x s; : >e; chmod +x e; $IP netns add a; $IP netns exec a ./s one; $IP netns exec a ./e; echo $?",
    "$IP netns add a; exec 7</dev/null; $IP netns exec a sh -c 'ls /proc/self/fd | wc -l; grep -c SigBlk /proc/self/status; grep -E \"^(SigBlk|SigIgn|CapEff|CapBnd|Uid|Groups|NoNewPrivs)\" /proc/self/status'",
    "trap '' PIPE; $IP netns add a; $IP netns exec a grep SigIgn /proc/self/status",
    // Files of a namespace: /etc/netns.
    "mkdir -p /etc/netns/a /etc/dir /etc/netns/a/dir; echo host >/etc/f; echo ns >/etc/netns/a/f; echo ns >/etc/netns/a/dir/x; echo ns >/etc/netns/a/.dot; echo host >/etc/.dot
        $IP netns add a; $IP netns exec a cat /etc/f /etc/dir/x /etc/.dot; cat /etc/f; $IP netns exec a sh -c 'echo new >/etc/f'; cat /etc/netns/a/f /etc/f",
    "mkdir -p /etc/netns/a /etc/netns/a/tofile /etc/todir; echo x >/etc/netns/a/missing; echo x >/etc/tofile; echo x >/etc/netns/a/todir; ln -s /nowhere /etc/netns/a/f; echo x >/etc/f
        $IP netns add a; $IP netns exec a true 2>&1 | sort; echo $?",
    "mkdir -p /etc/netns/a; echo host >/etc/real; echo ns >/etc/netns/real; ln -s ../real /etc/netns/a/f; echo host >/etc/f
        $IP netns add a; $IP netns exec a cat /etc/f; $IP netns exec a sh -c 'rm /etc/f; echo $?; mv /etc/real /etc/f; echo $?' 2>&1",
    "mkdir -p /etc/netns/a; echo ns >/etc/netns/a/f; echo host >/etc/f; $IP netns add a; $IP netns add b; $IP netns exec a $IP netns exec b cat /etc/f
        $IP netns exec a sh -c 'echo old >/etc/netns/a/g; mv /etc/netns/a/g /etc/netns/a/f; cat /etc/f'",
    // More of all these.
    "$IP netns add a; for v in pi pid pids; do $IP netns $v a; done; for v in att atta attac attach; do $IP netns $v x$v $$; done; $IP netns | sort",
    "for v in m mo mon moni monito monitor; do timeout .2 $IP netns $v; echo $?; done; ls -d /run/netns",
    "for n in . a/b ''; do $IP netns nope \"$n\"; echo $?; $IP netns '' \"$n\"; echo $?; done; $IP netns nope a; echo $?",
    "for o in '-rcvbuf -1' '-rcvbuf 3000000000' '-rc 0' '-rc x' '-c=' '-color=' '-l x'; do $IP $o netns; echo $?; done",
    "for o in foo '' netnss lists; do $IP \"$o\"; echo $?; done",
    "$IP netns add a; printf '#!/no/such\\n' >s; chmod +x s; $IP netns exec a ./s 2>&1; $IP netns exec a /etc/passwd/x 2>&1; :",
    "rm -rf root; mkdir -p root/run/netns root/bin root/lib root/lib64 root/usr root/proc; for d in bin lib lib64 usr; do mount --rbind /$d root/$d; done; mount -t proc p root/proc
        $IP netns add a; mount --rbind /run/netns root/run/netns; chroot root $IP netns exec a true; echo $?; umount -R root/run/netns root/proc root/bin root/lib root/lib64 root/usr",
    "mkdir /run/real; ln -s real /run/netns; $IP netns add a; echo $?; $IP netns; $IP netns exec a true; echo $?; $IP netns identify; $IP netns delete a; echo $?; ls /run/real",
    "sh -c 'exec sleep 0' & wait; perl -e '$p=fork; exit if !$p; sleep 1; system(\"'\"$IP\"' netns attach z $p 2>&1 | sed s/$p/PID/; ls -A /run/netns\")'",
    "perl -e 'use threads; threads->create(sub { sleep 2 })->detach; sleep 1; opendir D, \"/proc/$$/task\"; @t = grep { /^\\d/ && $_ != $$ } readdir D; system(\"'\"$IP\"' netns attach t $t[0]; echo \\$?\")'",
    "$IP netns add a; mkdir /run/netns/d; echo x >/run/netns/f; ln -s /nowhere /run/netns/l; ln -s a /run/netns/m; mkfifo /run/netns/p; for n in d f l m p; do $IP netns attach $n $$; echo $?; done",
    "setpriv --bounding-set -dac_override,-dac_read_search --inh-caps -all --reuid 65534 --clear-groups $IP netns add a; echo $?",
    "$IP netns add a; chmod 700 /run/netns; drop='setpriv --reuid 65534 --clear-groups --inh-caps -all --bounding-set -all --'; for c in netns 'netns identify' 'netns pids a' 'netns exec a true' 'netns set a 4' 'netns delete a'; do $drop $IP $c; echo $?; done",
    "$IP netns add a; for n in \"$(printf 'x\\ry')\" \"$(printf 'x\\fy')\" \"$(printf 'x\\by')\" 'x\"y' 'x\\y'; do $IP netns add \"$n\"; $IP -j netns; $IP -j -p netns; $IP netns delete \"$n\"; done",
    "$IP -j netns add a; $IP -j netns set a 3; $IP -j netns identify; $IP -j netns pids a; $IP -j netns exec a true; $IP -j netns attach b $$; $IP -j netns delete a; $IP -j netns delete b; echo $?",
    "mkdir /run/netns; : >/run/netns/g; chmod 0 /run/netns/g; $IP netns delete g; echo $?; ls -A /run/netns",
    "$IP netns add a; unshare --mount --propagation private sleep 3 & sleep .3; $IP netns delete a; echo $?; $IP netns add a; echo $?; kill $!",
    "$IP netns add a; mount -o remount,ro,bind /run/netns; $IP netns delete nope; echo $?; $IP netns add a; echo $?; $IP netns attach a $$; echo $?",
    "echo >/run/netns; for c in netns 'netns delete a' 'netns pids a' 'netns exec a true' 'netns set a 1' '-n a netns' '-all netns delete'; do $IP $c; echo $?; done",
    "$IP netns add a; $IP netns attach b $$; $IP netns attach c $$; $IP netns attach d $$; $IP netns identify; $IP netns delete b; $IP netns identify; $IP netns delete d; $IP netns identify",
    "sleep 0 & perl -e '$p=fork; exit if !$p; sleep 1; system(\"'\"$IP\"' netns identify $p 2>&1\")'; sleep 9 & setpriv --reuid 65534 --clear-groups --inh-caps -all --bounding-set -all -- $IP netns identify 1; echo $?; kill $!",
    "mount -o remount,ro /run; timeout .5 $IP netns monitor; echo $?",
    "$IP netns add a; $IP netns set a 0; $IP netns; $IP -j netns; $IP netns list-id; $IP netns list-id nsid 0",
    "$IP netns add a; $IP netns set a 5; >/run/netns/b; mount --bind /run/netns/a /run/netns/b; $IP netns; $IP netns list-id; $IP netns identify; $IP netns exec a $IP netns identify",
    "$IP netns add a; setpriv --bounding-set -net_admin --inh-caps -net_admin -- $IP netns set a 5; echo $?",
    "$IP netns add true; $IP -all netns exec true true; echo $?; $IP -all netns exec printf '%s\\n' x; $IP -j -all netns exec true",
    "$IP netns add a; mkdir /run/netns/bad; $IP netns add c; $IP -all netns exec sh -c 'exit 4' 2>/dev/null | sort -u; $IP -all netns exec 2>&1",
    "(printf 'netns add a'; for n in $(seq 511); do printf ' x'; done; echo) | $IP -b -; echo $?; (printf 'netns add b'; for n in $(seq 508); do printf ' x'; done; echo) | $IP -b - ; echo $?; $IP netns",
    "printf 'netns add a\\n' >f; printf 'netns add b\\n' >g; $IP -b f -b g netns add c; echo $?; $IP netns; $IP -b f link show; echo $?",
    "printf 'netns add a\\nnetns help\\nnetns add b\\n' >f; $IP -force -b f; echo $?; printf 'netns set a x\\nnetns add c\\n' >f; $IP -force -b f; echo $?; $IP netns",
    "printf 'netns add a\\nfoo bar\\nnetns add b\\n' >f; $IP -b f; echo $?; $IP netns; $IP -force -b f; echo $?; $IP netns",
    "printf 'netns add a \\\\\\n' >f; $IP -b f; echo $?; $IP netns; printf 'netns add b \\\\# c\\nnetns list\\n' >f; $IP -b f; echo $?; printf 'netns add c \\\\' >f; $IP -b f; echo $?; $IP netns",
    "$IP netns add a; $IP netns exec a $IP netns exec a true; echo $?; $IP netns exec a $IP -n a netns exec a ls /sys/class/net; $IP netns exec a $IP -all netns exec true; echo $?",
    "mkdir -p /etc/netns/a; echo ns >/etc/netns/a/f; echo host >/etc/f; $IP netns add a; $IP netns exec a sh -c 'echo new >/proc/1/root/etc/f; cat /etc/f'; cat /etc/f",
    "mkdir -p /etc/netns/real; echo ns >/etc/netns/real/f; ln -s real /etc/netns/a; echo host >/etc/f; echo x >/etc/netns/b; $IP netns add a; $IP netns add b; $IP netns exec a cat /etc/f; $IP netns exec b cat /etc/f",
    // Without capabilities.
    "$IP netns add a; drop='setpriv --bounding-set -all --inh-caps -all --'; for c in 'netns' 'netns list-id' 'netns identify' 'netns pids a' '-j netns'; do $drop $IP $c; echo $?; done",
];

/// Scripts in which kak is better: the reason, the script, and kak's status, output and errors, which ip's must not
/// equal.
pub const BETTER: &[(&str, &str, i32, &str, &str)] = &[
    (
        "an add that failed leaves nothing",
        "setpriv --bounding-set -all --inh-caps -all $IP netns add a 2>/dev/null; echo $?; ls -d /run/netns 2>/dev/null",
        2,
        "1\n",
        "",
    ),
    (
        "a missing or unfit program gives the statuses that a shell gives",
        "$IP netns add a; $IP netns exec a nosuch; echo $?; $IP netns exec a /etc; echo $?; $IP netns exec a ''; echo $?",
        0,
        "127\n126\n127\n",
        "exec of \"nosuch\" failed: No such file or directory\nexec of \"/etc\" failed: Permission denied\nexec of \"\" failed: No such file or directory\n",
    ),
    (
        "-json prints JSON without a run directory, too",
        "$IP -j netns; $IP -j -p netns",
        0,
        "[]\n[ ]\n",
        "",
    ),
    (
        "names are checked with -all and -n too",
        "$IP -all netns add ../x; echo $?; ls -d /run/x 2>/dev/null; $IP -n ../x netns; echo $?; $IP -n '' netns; echo $?; $IP -n . netns; echo $?",
        0,
        "255\n255\n255\n255\n",
        "Invalid netns name \"../x\"\nInvalid netns name \"../x\"\nInvalid netns name \"\"\nInvalid netns name \".\"\n",
    ),
    (
        "one line for each bad entry, with its name",
        "$IP netns add a; : >/run/netns/g; mkdir /run/netns/d; ln -s /nowhere /run/netns/l; $IP netns 2>&1 | sort; $IP netns set a 1; $IP netns 2>&1 | sort",
        0,
        "Error: Peer netns reference is invalid: \"d\" is no network namespace.\nError: Peer netns reference is invalid: \"g\" is stale, its namespace is gone.\nError: Peer netns reference is invalid: \"l\" is no network namespace.\na\nd\ng\nl\n\
         Error: Peer netns reference is invalid: \"d\" is no network namespace.\nError: Peer netns reference is invalid: \"g\" is stale, its namespace is gone.\nError: Peer netns reference is invalid: \"l\" is no network namespace.\na (id: 1)\nd\ng\nl\n",
        "",
    ),
    (
        "a stale name is given a namespace again",
        "mkdir /run/netns; : >/run/netns/g; chmod 0 /run/netns/g; $IP netns exec g true; echo $?; $IP netns add g; echo $?; $IP netns exec g true; echo $?; $IP netns attach g $$; echo $?",
        0,
        "255\n0\n0\n1\n",
        "setting the network namespace \"g\" failed: Invalid argument\nkak: netns: this name has lost its namespace: delete removes it, add gives it a new one\nCannot create namespace file \"/run/netns/g\": File exists\n",
    ),
    (
        "-all delete with a name deletes nothing",
        "$IP netns add a; $IP netns add b; $IP -all netns delete a; echo $?; $IP netns",
        0,
        "255\nb\na\n",
        "-all delete takes no name: it would delete all, not only \"a\"\n",
    ),
    (
        "a link is deleted, not what it leads to",
        "$IP netns add a; ln -s a /run/netns/l; $IP netns delete l; $IP netns; $IP netns exec a true; echo $?",
        0,
        "a\n0\n",
        "",
    ),
    (
        "a read-only directory keeps what is in it",
        "$IP netns add a; mount -o remount,ro,bind /run/netns; $IP netns delete a; echo $?; $IP netns exec a true; echo $?",
        0,
        "1\n0\n",
        "Cannot remove namespace file \"/run/netns/a\": Read-only file system\n",
    ),
    (
        "every copy that is mounted on a name goes",
        "$IP netns add a; mount --bind /run/netns/a /run/netns/a; mount --bind /run/netns/a /run/netns/a; $IP netns delete a; echo $?; ls /run/netns; grep -c nsfs /proc/self/mountinfo; true",
        0,
        "0\n0\n",
        "",
    ),
    (
        "a FIFO among the names makes no command wait",
        "$IP netns add a; mkfifo /run/netns/p; timeout 5 $IP netns 2>/dev/null | sort; timeout 5 $IP netns exec p true; echo $?; timeout 5 $IP netns set p 3; echo $?; timeout 5 $IP netns pids p; echo $?; timeout 5 $IP netns identify; echo $?",
        0,
        "a\np\n255\n2\n0\n\n0\n",
        "setting the network namespace \"p\" failed: Invalid argument\nError: Peer netns reference is invalid.\n",
    ),
    (
        "a namespace can be made without /proc",
        "umount -l /proc; $IP netns add a; echo $?; $IP netns add b; $IP netns; $IP netns delete a; $IP netns",
        0,
        "0\nb\na\nb\n",
        "",
    ),
    (
        "adding from inside another namespace reaches the outside",
        "$IP netns add a; $IP -n a netns add b; $IP netns exec b true; echo $?",
        0,
        "0\n",
        "",
    ),
    (
        "the error about a negative number names that number",
        "$IP netns list-id nsid -5 x; echo $?; $IP netns list-id target-nsid -1; echo $?",
        0,
        "255\n255\n",
        "Error: argument \"-5\" is wrong: \"nsid\" value should be >= 0\nError: argument \"-1\" is wrong: \"target-nsid\" value should be >= 0\n",
    ),
    (
        "an option without its value is named",
        "for o in -batch -family -loops -rcvbuf -netns; do $IP $o; echo $?; done",
        0,
        "255\n255\n255\n255\n255\n",
        "Error: argument \"batch file\" is required\nError: argument \"family type\" is required\nError: argument \"loop count\" is required\nError: argument \"rcvbuf size\" is required\nError: argument \"network namespace\" is required\n",
    ),
    (
        "other objects are refused in one line",
        "for o in link n ne nei netc x; do $IP $o show; echo $?; done",
        0,
        "1\n1\n1\n1\n1\n1\n",
        "ip link: kak's ip knows 'ip netns' only; install iproute2 for the rest\nip n: kak's ip knows 'ip netns' only; install iproute2 for the rest\nip ne: kak's ip knows 'ip netns' only; install iproute2 for the rest\nip nei: kak's ip knows 'ip netns' only; install iproute2 for the rest\nip netc: kak's ip knows 'ip netns' only; install iproute2 for the rest\nip x: kak's ip knows 'ip netns' only; install iproute2 for the rest\n",
    ),
    (
        "control characters are escaped as JSON wants it, as in newer releases of ip",
        "n=$(printf 'a\\001\\177b'); $IP netns add \"$n\"; $IP -j netns",
        0,
        "[{\"name\":\"a\\u0001\\u007fb\"}]\n",
        "",
    ),
    (
        "a namespace whose owner is another user namespace's root can be made",
        "unshare -Urm sh -c \"mount -t tmpfs x /run; $IP netns add a; echo \\$?; $IP netns; $IP netns exec a true; echo \\$?\"",
        0,
        "0\na\n0\n",
        "",
    ),
    (
        "a name is not made where nobody else would see its namespace",
        "$IP netns add a; $IP netns exec a $IP netns add b; echo $?; $IP netns exec a $IP netns attach b $$; echo $?; ls /run/netns",
        0,
        "1\n1\na\n",
        "mount --make-shared /run/netns failed: its mounts are not seen outside this mount namespace, which an exec or the like made\n\
         kak: netns: call it outside, or use 'kak netns -n NAME add ...' instead of exec\n\
         mount --make-shared /run/netns failed: its mounts are not seen outside this mount namespace, which an exec or the like made\n\
         kak: netns: call it outside, or use 'kak netns -n NAME add ...' instead of exec\n",
    ),
    (
        "-all delete goes on after an error, names what is left, and fails",
        "for n in a b c; do $IP netns add $n; done; mkdir /run/netns/bad; $IP -all netns delete; echo $?; ls /run/netns",
        0,
        "1\nbad\n",
        "Cannot remove namespace file \"/run/netns/bad\": Is a directory\n",
    ),
    (
        "a delete without the right to unmount says so, and not that the file is busy",
        "$IP netns add a; setpriv --bounding-set -sys_admin --inh-caps -sys_admin -- $IP netns delete a 2>&1 | head -n 1; $IP netns exec a true; echo $?",
        0,
        "Cannot remove namespace file \"/run/netns/a\": Operation not permitted\n0\n",
        "",
    ),
    (
        "a batch line whose namespace cannot be entered is reported once, and what follows is done once",
        "printf 'netns add a\\nnetns exec nope true\\nnetns add b\\n' | $IP -force -b -; echo $?; $IP netns",
        0,
        "1\nb\na\n",
        "Cannot open network namespace \"nope\": No such file or directory\nCommand failed -:2\n",
    ),
    (
        "monitor prints each event at once, whatever further words and options it is given",
        "(timeout 1 $IP netns monitor extra words >m1; :) & (timeout 1 $IP -j netns monitor >m2; :) & sleep .4; $IP netns add a; touch /run/netns/foo
            mv /run/netns/foo /run/netns/bar; rm /run/netns/bar; $IP netns attach z 4194304; $IP netns delete a; wait; cat m1; cmp m1 m2",
        0,
        "add a\nadd foo\ndelete bar\nadd z\ndelete z\ndelete a\n",
        "Bind /proc/4194304/ns/net -> /run/netns/z failed: No such file or directory\n",
    ),
    (
        "a working directory below /sys is the one in the new /sys",
        "$IP netns add a; cd /sys/class; $IP netns exec a sh -c 'pwd; ls -d net'; echo $?",
        0,
        "/sys/class\nnet\n0\n",
        "",
    ),
];
