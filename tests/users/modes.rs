//! kak's state of jails is accessible to root alone, whatever modes it had before.

use crate::sandbox::*;

sandboxed! {
    fn what_others_could_open_is_closed_to_them() {
        sh("mkdir -m 755 /run/kak /run/kak/USER; touch /run/kak/USER/lock /run/kak/USER/log; chmod 644 /run/kak/USER/*");
        // Another user holds a lock on the file that init will lock.
        let script = "import fcntl, os, time
fd = os.open('/run/kak/USER/lock', os.O_RDONLY)
fcntl.lockf(fd, fcntl.LOCK_SH)
open('/tmp/held', 'w')
time.sleep(1000)";
        let mut nobody = std::process::Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups", "python3", "-c", script])
            .spawn()
            .unwrap();
        until("the lock is held", || std::path::Path::new("/tmp/held").exists());
        sh("kak setup; nssh -c true; kak status");
        let modes = "stat -c '%a %n' /run/kak /run/kak/USER /run/kak/USER/*";
        let closed = "700 /run/kak\n700 /run/kak/USER\n600 /run/kak/USER/lock\n600 /run/kak/USER/log\n600 /run/kak/USER/record";
        assert_eq!(sh(modes), closed);
        // A jail that is up keeps its lock.
        let pid = init("USER");
        sh("chmod 755 /run/kak /run/kak/USER; chmod 644 /run/kak/USER/*");
        assert_eq!(run("kak status").status.code(), Some(3), "it is seen");
        sh("kak setup; kak status");
        assert_eq!(sh(modes), closed);
        assert_eq!(init("USER"), pid);
        sh("kak teardown");
        nobody.kill().unwrap();
        nobody.wait().unwrap();
    }
}
