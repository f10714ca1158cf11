"""Runs a suite of others against a runtime, isolated, and writes a line a test. Called by `cargo xtask conformance`.

usage: driver.py SUITE RUNTIME OUTDIR [ITEM...]   with SUITES in the environment: where suites were built (docs/conformance)

Isolation of a run: a private mount namespace (private tmpfs on /run, the chosen
cgroup view), a private network namespace with lo up, and a cgroup namespace rooted at
<own cgroup>/suites-<pid>, made in every hierarchy. Each test item runs in a pid and a
mount namespace of its own, whose init reaps orphans; when the item ends or times out,
everything it started dies with that pid namespace. Cgroups left below suites-<pid> are
removed (and counted) after each item.
"""
import argparse, ctypes, fcntl, os, re, select, shutil, signal, subprocess, struct, sys, termios, time

SUITES = os.environ["SUITES"]
CG = "/sys/fs/cgroup"
libc = ctypes.CDLL(None, use_errno=True)
NEWNS, NEWCGROUP, NEWPID, NEWNET = 0x20000, 0x02000000, 0x20000000, 0x40000000
MS_REC, MS_PRIVATE, MS_SHARED, MS_BIND = 0x4000, 1 << 18, 1 << 20, 0x1000


def chk(r, what):
    if r != 0:
        e = ctypes.get_errno()
        raise OSError(e, f"{what}: {os.strerror(e)}")


def unshare(flags):
    chk(libc.unshare(flags), "unshare")


def mount(src, dst, fstype, flags=0, data=None):
    b = lambda s: None if s is None else s.encode()
    chk(libc.mount(b(src), b(dst), b(fstype), flags, b(data)), f"mount {src} {dst} {fstype}")


def v1_hierarchies():
    """[(directory name, option string, own path)] of the mounted v1 hierarchies."""
    out, paths = [], {}
    for line in open("/proc/self/cgroup"):
        _, ctl, p = line.rstrip("\n").split(":", 2)
        paths[ctl] = p
    for line in open("/proc/self/mountinfo"):
        f = line.split()
        sep = f.index("-")
        if f[sep + 1] == "cgroup" and f[4].startswith(CG + "/"):
            name = os.path.basename(f[4])
            ctl = name if name in paths else f"name={name}"
            if ctl in paths:
                out.append((name, ctl, paths[ctl]))
    return out, paths.get("", "/")


class Cgroups:
    """Own cgroups in every hierarchy, seen through a stash mount kept outside the tests' view."""

    def __init__(self, pid, stash, cgroupns):
        self.dirs, self.stash, self.ns = [], stash, cgroupns
        self.v1, v2own = v1_hierarchies()
        self.name = f"suites-{pid}"
        os.makedirs(stash, exist_ok=True)
        mount(CG, stash, None, MS_BIND | MS_REC)
        self.before = set(self.tops()) if not cgroupns else set()
        if not cgroupns:
            return
        for name, _, own in self.v1:
            d = f"{stash}/{name}{own.rstrip('/')}/{self.name}"
            os.mkdir(d)
            self.dirs.append(d)
            if name == "cpuset":
                for f in ("cpuset.cpus", "cpuset.mems"):
                    open(f"{d}/{f}", "w").write(open(f"{os.path.dirname(d)}/{f}").read())
            if name == "cpu" and os.path.exists(f"{d}/cpu.rt_runtime_us"):
                for v in ("900000", "600000", "300000"):  # two runs at once share the host's 950000
                    try:
                        open(f"{d}/cpu.rt_runtime_us", "w").write(v)
                        break
                    except OSError:
                        pass
        if os.path.isdir(f"{stash}/unified"):
            d = f"{stash}/unified{v2own.rstrip('/')}/{self.name}"
            os.mkdir(d)
            self.dirs.append(d)
        for d in self.dirs:
            open(f"{d}/cgroup.procs", "w").write(str(os.getpid()))
        self.back = [(f"{os.path.dirname(d)}/cgroup.procs") for d in self.dirs]

    def view(self, kind, alias=False):
        if kind == "host" and not self.ns:
            return
        mount("tmpfs", CG, "tmpfs", 0, "mode=755")
        if kind == "v2":
            mount("cgroup2", CG, "cgroup2")
            return
        for name, ctl, _ in self.v1:
            os.mkdir(f"{CG}/{name}")
            if self.ns:
                mount("cgroup", f"{CG}/{name}", "cgroup", 0, ctl if ctl.startswith("name=") is False else "none," + ctl)
            else:
                mount(f"{self.stash}/{name}", f"{CG}/{name}", None, MS_BIND)
        if alias:
            os.symlink("cpu", f"{CG}/cpu,cpuacct")
        if kind == "host":
            os.mkdir(f"{CG}/unified")
            mount("cgroup2", f"{CG}/unified", "cgroup2")

    def tops(self):
        for name in os.listdir(self.stash):
            base = f"{self.stash}/{name}"
            if os.path.isdir(base):
                for e in os.scandir(base):
                    if e.is_dir(follow_symlinks=False):
                        yield e.path

    def thaw(self):
        for d in self.dirs:
            if "/freezer/" in d or "/unified/" in d:
                for p, _, files in os.walk(d):
                    for f, v in (("freezer.state", "THAWED"), ("cgroup.freeze", "0")):
                        if f in files:
                            try:
                                open(f"{p}/{f}", "w").write(v)
                            except OSError:
                                pass

    # names that the suites themselves give to cgroups; used only without a cgroup namespace
    OWN = re.compile(r"^(test[-_].*|runc-cgroups-integration-test|[0-9a-f-]{36}|runtime-test|cgrouptest|testdir|.*runtime.?tools.*)$")

    def clean(self):
        roots = []
        if self.ns:
            for d in self.dirs:
                roots += [e.path for e in os.scandir(d) if e.is_dir(follow_symlinks=False)]
        else:
            roots = [p for p in self.tops() if p not in self.before and self.OWN.match(os.path.basename(p))]
        n = 0
        for r in roots:
            for p, _, _ in os.walk(r, topdown=False):
                try:
                    os.rmdir(p)
                    n += 1
                except OSError:
                    pass
        return n

    def end(self):
        self.clean()
        if self.ns:
            for f in self.back:
                open(f, "w").write(str(os.getpid()))
            for d in self.dirs:
                for _ in range(20):
                    try:
                        os.rmdir(d)
                        break
                    except OSError:
                        time.sleep(0.1)
                else:
                    print(f"left over: {d}", file=sys.stderr)


def item_init(argv, cwd, env, out, tty):
    """pid 1 of an item: own /proc, run argv, reap everything, exit as argv did."""
    mount("proc", "/proc", "proc")
    child = os.fork()
    if child == 0:
        os.setsid()
        os.chdir(cwd)
        os.dup2(os.open("/dev/null", os.O_RDONLY) if tty is None else tty, 0)
        if tty is not None:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.closerange(3, 64)
        os.execvpe(argv[0], argv, env)
    code = 0
    while True:
        try:
            pid, st = os.waitpid(-1, 0)
        except ChildProcessError:
            break
        if pid == child:
            code = os.waitstatus_to_exitcode(st)
            break
    os._exit(code if code >= 0 else 128 - code)


def run_item(argv, cwd, env, raw, timeout, cgs, want_tty=False):
    """Runs argv isolated; returns (exit code or None on timeout, seconds, cgroups left over)."""
    t0 = time.time()
    out = os.open(raw, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    sys.stdout.flush()
    master = tty = None
    if want_tty:
        master, tty = os.openpty()
        fcntl.ioctl(tty, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        os.set_blocking(master, False)
    mid = os.fork()
    if mid == 0:
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.setpgid(0, 0)
            libc.prctl(1, signal.SIGKILL, 0, 0, 0)
            unshare(NEWNS | NEWPID)
            init = os.fork()
            if init == 0:
                try:
                    libc.prctl(1, signal.SIGKILL, 0, 0, 0)
                    item_init(argv, cwd, env, out, tty)
                except BaseException as e:
                    os.write(out, f"driver: {e}\n".encode())
                    os._exit(125)
            _, st = os.waitpid(init, 0)
            c = os.waitstatus_to_exitcode(st)
            os._exit(c if c >= 0 else 128 - c)
        except BaseException as e:
            os.write(2, f"driver: {e}\n".encode())
            os._exit(125)
    os.close(out)
    if tty is not None:
        os.close(tty)
    code, killed = None, False
    try:
        while True:
            drain(master)
            pid, st = os.waitpid(mid, os.WNOHANG)
            if pid:
                code = None if killed else os.waitstatus_to_exitcode(st)
                break
            if not killed and time.time() - t0 > timeout:
                killed = True
                os.killpg(mid, signal.SIGKILL)
            if killed:
                cgs.thaw()
            time.sleep(0.05)
    except BaseException:
        os.killpg(mid, signal.SIGKILL)
        while os.waitpid(mid, os.WNOHANG)[0] == 0:
            cgs.thaw()
            time.sleep(0.05)
        raise
    if master is not None:
        os.close(master)
    # a frozen container holds up the end of its pid namespace
    for _ in range(100):
        if not cgs.ns or not any(has_procs(d) for d in cgs.dirs):
            break
        cgs.thaw()
        time.sleep(0.05)
    return code, time.time() - t0, cgs.clean()


def drain(fd):
    try:
        while fd is not None and os.read(fd, 65536):
            pass
    except OSError:
        pass


def has_procs(d):
    for e in os.scandir(d):
        if e.is_dir(follow_symlinks=False):
            for p, _, _ in os.walk(e.path):
                try:
                    if open(f"{p}/cgroup.procs").read().strip():
                        return True
                except OSError:
                    pass
    return False


def private_dev(work):
    """A tmpfs on /dev with copies of the host's nodes: runtimes chown the stdio that they hand over, and
    some chown /dev/null with it, which must not reach the host's inode."""
    new = f"{work}/dev"
    os.makedirs(new)
    mount("tmpfs", new, "tmpfs", 0, "mode=755")
    for p, dirs, files in os.walk("/dev"):
        rel = os.path.relpath(p, "/dev")
        if rel != ".":
            os.makedirs(f"{new}/{rel}", exist_ok=True)
        dirs[:] = [d for d in dirs if d not in ("pts", "shm", "mqueue") and not os.path.islink(f"{p}/{d}")]
        for f in files:
            src, dst = f"{p}/{f}", f"{new}/{rel}/{f}"
            st = os.lstat(src)
            if os.path.islink(src):
                os.symlink(os.readlink(src), dst)
            elif st.st_rdev:
                os.mknod(dst, st.st_mode, st.st_rdev)
                os.chmod(dst, st.st_mode & 0o7777)
                os.chown(dst, st.st_uid, st.st_gid)
    for d in ("pts", "shm", "mqueue"):
        os.makedirs(f"{new}/{d}")
    if not os.path.lexists(f"{new}/fd"):
        os.symlink("/proc/self/fd", f"{new}/fd")
    mount("/dev/pts", f"{new}/pts", None, MS_BIND)
    mount("tmpfs", f"{new}/shm", "tmpfs", 0, "mode=1777")
    try:
        mount("mqueue", f"{new}/mqueue", "mqueue")
    except OSError:
        pass
    mount(new, "/dev", None, MS_BIND | MS_REC)
    for n in NODES:
        os.chown(f"/dev/{n}", 0, 0)


NODES = ("null", "zero", "full", "random", "urandom", "tty")


def dev_changes():
    """Changes of owner or mode that an item left on the standard nodes; undone."""
    out = []
    for n in NODES:
        st = os.stat(f"/dev/{n}")
        if (st.st_uid, st.st_gid, st.st_mode & 0o7777) != (0, 0, 0o666):
            out.append(f"/dev/{n} {st.st_uid}:{st.st_gid} {st.st_mode & 0o7777:o}")
            os.chown(f"/dev/{n}", 0, 0)
            os.chmod(f"/dev/{n}", 0o666)
    return out


def one_line(s):
    return re.sub(r"\s+", " ", s).strip()[:300]


class Report:
    def __init__(self, outdir, suite):
        self.f = open(f"{outdir}/results.txt", "w")
        self.n = {"ok": 0, "not ok": 0, "skip": 0}
        self.suite = suite

    def line(self, name, status, reason=""):
        self.n[status] += 1
        text = f"{name} {status}" + (f" {one_line(reason)}" if reason else "")
        self.f.write(text + "\n")
        self.f.flush()

    def summary(self, extra=""):
        n = self.n
        text = f"{self.suite}: {n['ok']} ok, {n['not ok']} not ok, {n['skip']} skip{extra}"
        print(text)
        return text


def known(items, all_items):
    bad = [x for x in items if x not in all_items]
    if bad:
        sys.exit(f"no such item: {' '.join(bad)}; there are: {' '.join(all_items)}")


# ---------------------------------------------------------------- suites

def runtime_tools(a, run, rep):
    base = f"{SUITES}/src/runtime-tools"
    tests = sorted(t[:-2] for d in os.listdir(f"{base}/validation") if os.path.isdir(f"{base}/validation/{d}")
                   for t in os.listdir(f"{base}/validation/{d}") if t.endswith(".t"))
    tot = [0, 0, 0]
    known(a.items, tests)
    for t in [x for x in tests if not a.items or x in a.items]:
        d = f"{base}/validation/{t}"
        code, secs, left, text = run(t, [f"{d}/{t}.t"], base, {"RUNTIME": a.runtime})
        oks = nots = skips = 0
        first, plan = "", False
        for ln in text.splitlines():
            if re.match(r"\s*1\.\.\d+", ln):
                plan = True
            m = re.match(r"(not )?ok\b(.*)", ln)
            if not m:
                continue
            if re.search(r"# *(SKIP|skip)", m.group(2)):
                skips += 1
            elif m.group(1):
                nots += 1
                first = first or m.group(2)
            else:
                oks += 1
        tot = [tot[0] + oks, tot[1] + nots, tot[2] + skips]
        cnt = f"({oks}/{nots}/{skips})"
        if code is None:
            rep.line(t, "not ok", f"timeout {cnt} {first}")
        elif nots or code or not plan:
            why = first or (f"exit {code}: " + (text.strip().splitlines() or [""])[-1] if code else "no plan: " + text.strip()[-200:])
            rep.line(t, "not ok", f"{cnt} {why}")
        elif not oks:
            # seven hook tests never print an assertion, only a diagnostic (some of those are the test's own fault)
            diag = re.search(r'"error": "(.*)"', text)
            rep.line(t, "skip", f"{cnt} asserts nothing; " + ("diagnostic: " + diag.group(1) if diag else "no complaint"))
        else:
            rep.line(t, "ok", cnt)
    return f"; assertions ok/not ok/skip {tot[0]}/{tot[1]}/{tot[2]}"


def contest_lines(g, text, rep):
    got, lines = 0, text.splitlines()
    for i, ln in enumerate(lines):
        m = re.match(r"\d+ / \d+ : (.*?) : (ok|skipped|not ok)$", ln)
        if m:
            got += 1
            why = lines[i + 1] if i + 1 < len(lines) and m.group(2) != "ok" else ""
            rep.line(f"{g}::{m.group(1)}", {"skipped": "skip"}.get(m.group(2), m.group(2)), why)
    return got


def contest_names(g):
    root, names = f"{SUITES}/src/youki/tests/contest/contest/src/tests", []
    for p, _, files in os.walk(root):
        text = "".join(open(f"{p}/{f}").read() for f in sorted(files))
        if re.search(r'TestGroup::new\(\s*"%s"' % re.escape(g), text):
            for p2, _, files2 in os.walk(p):
                for f in sorted(files2):
                    names += re.findall(r'Test::new\(\s*"([^"]+)"', open(f"{p2}/{f}").read())
            break
    return names


def contest(a, run, rep):
    base = f"{SUITES}/contest"
    groups = sorted(set(subprocess.run([f"{base}/contest", "list"], capture_output=True, text=True, cwd=base).stdout.split()))
    dead = 0
    known(a.items, groups)
    for g in [x for x in groups if not a.items or x in a.items]:
        env = {"RUST_BACKTRACE": "0"}
        kind = os.environ.get("RUNTIME_KIND") or next((k for k in ("youki", "runc", "crun") if k in os.path.basename(a.runtime)), "other")
        env["RUNTIME_KIND"] = kind
        argv = [f"{base}/contest", "run", "--runtime", a.runtime, "--runtimetest", f"{base}/runtimetest", "-t", g]
        code, secs, left, text = run(g, argv, base, env)
        got, lines = contest_lines(g, text, rep), text.splitlines()
        if code is None or code or not got:
            dead += 1
            what = "timeout" if code is None else f"exit {code}"
            why = next((l for l in lines if "panicked" in l), lines[-1] if lines else "")
            nxt = lines.index(why) + 1 if why in lines else 0
            why = f"{what}: {why} {lines[nxt] if nxt and nxt < len(lines) else ''}"
            # a panic loses the whole group: run its tests, whose names the source has, one by one
            names = contest_names(g) if not got else []
            for n in names:
                code, secs, left, text = run(f"{g}::{n}".replace("/", "_"), argv[:-1] + [f"{g}::{n}"], base, env)
                if not contest_lines(g, text, rep):
                    last = next((l for l in text.splitlines() if "panicked" in l), (text.splitlines() or [""])[-1])
                    rep.line(f"{g}::{n}", "not ok", f"{'timeout' if code is None else f'exit {code}'}: {last}")
            if not names:
                rep.line(f"{g}::*", "not ok", f"group {why}")
    return f"; groups ended by timeout, panic or without result: {dead}"


def bats(a, run, rep):
    base = f"{SUITES}/src/runc/tests/integration"
    files = sorted(f for f in os.listdir(base) if f.endswith(".bats"))
    items = [x if x.endswith(".bats") else x + ".bats" for x in a.items]
    short = 0
    known(items, files)
    for f in [x for x in files if not items or x in items]:
        env = {"RUNC": a.runtime, "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
        # bats watches the time in a child of the test: one that waits for all its children would wait for that, too.
        if not re.search(r"^\s*wait\s*(#|$)", open(f"{base}/{f}").read(), re.M):
            env["BATS_TEST_TIMEOUT"] = str(a.timeout)
        flt = ["-f", a.filter] if a.filter else []
        code, secs, left, text = run(f[:-5], ["bats", "-t", *flt, f], base, env)
        plan = re.search(r"^1\.\.(\d+)", text, re.M)
        lines, got = text.splitlines(), 0
        for i, ln in enumerate(lines):
            m = re.match(r"(ok|not ok) \d+ (.*)$", ln)
            if not m:
                continue
            got += 1
            name = m.group(2)
            s = re.match(r"(.*?) # skip ?(.*)", name)
            key = f"{f[:-5]}: "
            if s and m.group(1) == "ok":
                rep.line(f"{key}[{s.group(1)}]", "skip", s.group(2))
            elif m.group(1) == "ok":
                rep.line(f"{key}[{name}]", "ok")
            else:
                why = []
                for l in lines[i + 1:]:
                    if not l.startswith("#"):
                        break
                    if len(why) < 3 and not l.startswith("# (in"):
                        why.append(l[1:].strip())
                rep.line(f"{key}[{name}]", "not ok", " | ".join(why))
        n = int(plan.group(1)) if plan else 0
        if got < n or not plan:
            short += 1
            rep.line(f"{f[:-5]}: [*]", "not ok", f"{'timeout' if code is None else f'exit {code}'}: {n - got} of {n} tests without result")
    return f"; files cut short: {short}"


def main(suite):
    fn, tmo = {"runtime-tools": (runtime_tools, 90), "contest": (contest, 90), "bats": (bats, 90)}[suite]
    p = argparse.ArgumentParser(prog=f"run-{suite}")
    p.add_argument("runtime", help="path of the runtime binary")
    p.add_argument("outdir", help="results.txt, summary.txt and raw/ go here")
    p.add_argument("items", nargs="*", help="test names (runtime-tools), groups (contest), files (bats); default all")
    p.add_argument("--cgroup", choices=["v1", "host", "v2"], default="v1", help="view of /sys/fs/cgroup: pure v1 (default), hybrid as the host, pure v2")
    p.add_argument("--plain-cgroup", action="store_true", help="no cgroup namespace: tests work below the host's root cgroups (default with --cgroup v2)")
    p.add_argument("--cgroupns", action="store_true", help="force the cgroup namespace with --cgroup v2")
    p.add_argument("--cpu-alias", action="store_true", help="symlink cpu,cpuacct -> cpu in the view: contest's cgroup_v1_cpu looks for that name")
    p.add_argument("--timeout", type=int, default=tmo, help="seconds for one test file, group or (bats) one test")
    p.add_argument("--file-timeout", type=int, default=600, help="bats only: seconds for one file")
    p.add_argument("--filter", help="bats only: regex of test names")
    p.add_argument("--host-net", action="store_true", help="do not make a private network namespace")
    a = p.parse_args()
    a.runtime = os.path.abspath(shutil.which(a.runtime) or a.runtime)
    if not os.access(a.runtime, os.X_OK):
        sys.exit(f"cannot run {a.runtime}")
    outdir = os.path.abspath(a.outdir)
    os.makedirs(f"{outdir}/raw", exist_ok=True)
    ns = a.cgroupns or not (a.plain_cgroup or a.cgroup == "v2")
    work = f"{SUITES}/tmp/{os.getpid()}"
    os.makedirs(work)
    os.chmod(f"{SUITES}/tmp", 0o755)
    unshare(NEWNS | (0 if a.host_net else NEWNET))
    mount("none", "/", None, MS_REC | MS_PRIVATE)
    if not a.host_net:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    cgs = Cgroups(os.getpid(), f"{work}/cg", ns)
    rc = 1
    try:
        if ns:
            unshare(NEWCGROUP)
        cgs.view(a.cgroup, a.cpu_alias)
        mount("tmpfs", "/run", "tmpfs", 0, "mode=755")
        private_dev(work)
        os.makedirs("/run/lock", exist_ok=True)
        tmpdir = f"{work}/tmp"
        if suite == "bats" and a.cgroup != "v2":
            # the helpers (patched) read this in place of /proc/cgroups: no controllers that the view lacks.
            # A bind mount over /proc/cgroups would make /proc not fully visible: no proc mount in a userns.
            os.environ["PROC_CGROUPS"] = f"{work}/proc-cgroups"
            have = {n for n, _, _ in cgs.v1}
            with open(f"{work}/proc-cgroups", "w") as f:
                f.writelines(l for l in open("/proc/cgroups") if l.startswith("#") or l.split()[0] in have)
        rep = Report(outdir, suite)
        limit = a.file_timeout if suite == "bats" else a.timeout
        t00 = time.time()
        left_total = [0]

        def run(name, argv, cwd, extra):
            os.makedirs(tmpdir, exist_ok=True)
            os.chmod(tmpdir, 0o1777)
            env = dict(os.environ)
            for k in [k for k in env if k.startswith(("CARGO", "RUST"))]:
                del env[k]
            env.update({"TMPDIR": tmpdir, "HOME": "/root", **extra})
            env["PATH"] = f"{SUITES}/shim:{env['PATH']}"
            raw = f"{outdir}/raw/{name}.txt"
            code, secs, left = run_item(argv, cwd, env, raw, limit, cgs, suite == "bats")
            left_total[0] += left
            loops = subprocess.run(["losetup", "-nO", "NAME,BACK-FILE"], capture_output=True, text=True).stdout
            for ln in loops.splitlines():
                dev, _, back = ln.strip().partition(" ")
                if work in back:
                    subprocess.run(["losetup", "-d", dev])
            for e in os.listdir("/run"):
                if e not in ("lock",):
                    subprocess.run(["rm", "-rf", "--one-file-system", f"/run/{e}"])
            subprocess.run(["chattr", "-R", "-i", tmpdir], capture_output=True)
            subprocess.run(["rm", "-rf", "--one-file-system", tmpdir])
            text = open(raw, errors="replace").read()
            notes = ([f"{left} cgroups"] if left else []) + dev_changes()
            if notes:
                with open(f"{outdir}/leftovers.txt", "a") as f:
                    f.write(f"{name}: {', '.join(notes)}\n")
            return code, secs, left, text

        if os.path.exists(f"{outdir}/leftovers.txt"):
            os.unlink(f"{outdir}/leftovers.txt")
        extra = fn(a, run, rep)
        text = rep.summary(extra + f"; {left_total[0]} cgroups left over; cgroup view {a.cgroup}{' in a cgroup ns' if ns else ''}; {time.time() - t00:.0f} s; {a.runtime}")
        open(f"{outdir}/summary.txt", "w").write(text + "\n")
        rc = 0
    finally:
        try:
            libc.umount2(CG.encode(), 2)
            cgs.end()
        finally:
            libc.umount2(b"/dev", 2)
            libc.umount2(f"{work}/dev".encode(), 2)
            libc.umount2(f"{work}/cg".encode(), 2)
            subprocess.run(["rm", "-rf", "--one-file-system", work])
    sys.exit(rc)


if __name__ == "__main__":
    main(sys.argv.pop(1))
