// Command nodebox is the machine of a real node: namespaces of its own for mounts, processes and network, in which the
// harness starts containerd and the kubelet (`babysit -in PID`).
//
//	nodebox -dir DIR -name NODE -cgroup NAME -link IF -host IP -node IP -pods CIDR [-keep DIR]...
//	nodebox shield CMD ARGS...
//
// Its first process is process 1 of the namespaces. When that ends, the kernel ends all others, containers and shims
// too, and mounts and network interfaces go with the namespaces. Only control groups stay; nodebox removes them.
// DIR/node.pid, the number of that process outside, appears once everything is there.
//
// `shield` starts a program that cannot change the kernel settings that a kubelet changes: they are the whole machine's.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const removal = 3 * time.Second

type list []string

func (l *list) String() string     { return strings.Join(*l, ",") }
func (l *list) Set(v string) error { *l = append(*l, v); return nil }

type node struct {
	dir, name, cgroup, link, host, addr, pods string
	keep                                      list
}

func main() {
	// Pdeathsig is sent when the thread that forked ends, and a thread's namespaces are its own.
	runtime.LockOSThread()
	args := os.Args[1:]
	var err error
	switch {
	case len(args) > 1 && args[0] == "shield":
		err = shield(args[1:])
	case len(args) > 1 && args[0] == "init":
		err = parse(args[1:]).first()
	default:
		err = parse(args).run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "nodebox:", err)
		os.Exit(1)
	}
}

func parse(args []string) *node {
	n := &node{}
	flags := flag.NewFlagSet("nodebox", flag.ExitOnError)
	flags.StringVar(&n.dir, "dir", "", "folder of the node's files; its var is the node's /var")
	flags.StringVar(&n.name, "name", "", "host name")
	flags.StringVar(&n.cgroup, "cgroup", "", "its control group: PREFIX-PID-NUMBER, PID being the harness")
	flags.StringVar(&n.link, "link", "", "interface on this end of the link")
	flags.StringVar(&n.host, "host", "", "address of this end, a /25")
	flags.StringVar(&n.addr, "node", "", "address of the node")
	flags.StringVar(&n.pods, "pods", "", "addresses of pods, routed to the node")
	flags.Var(&n.keep, "keep", "folder below /var, /run or /tmp that the node sees; may be repeated")
	_ = flags.Parse(args)
	return n
}

// run is the part outside: it links the node to this machine, waits for the end, and removes what the kernel does not.
func (n *node) run() error {
	ends := make(chan os.Signal, 4)
	signal.Notify(ends, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	sweep(n.cgroup)
	if err := create(n.cgroup); err != nil {
		return errors.Join(err, remove(n.cgroup))
	}
	ready, done, err := os.Pipe()
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	first := exec.Command(self, append([]string{"init"}, os.Args[1:]...)...)
	first.Stdout, first.Stderr, first.ExtraFiles = os.Stderr, os.Stderr, []*os.File{done}
	first.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGKILL,
	}
	begin, err := first.StdinPipe()
	if err != nil {
		return err
	}
	if err := first.Start(); err != nil {
		return fmt.Errorf("cannot make namespaces: %w", err)
	}
	done.Close()
	ended := make(chan error, 1)
	go func() { ended <- first.Wait() }()
	err = n.connect(first.Process.Pid, begin, ready)
	if err == nil {
		select {
		case <-ends:
		case <-ended:
			ended <- errors.New("ended")
			err = errors.New("process 1 of the node ended")
		}
	}
	_ = first.Process.Kill()
	<-ended
	return errors.Join(err, remove(n.cgroup))
}

// connect makes the link, lets process 1 go on, and reports the node once that says that it is ready.
func (n *node) connect(pid int, begin io.WriteCloser, ready io.Reader) error {
	for _, args := range [][]string{
		{"link", "add", n.link, "type", "veth", "peer", "name", "eth0", "netns", strconv.Itoa(pid)},
		{"addr", "add", n.host + "/25", "dev", n.link},
		{"link", "set", n.link, "up"},
		{"route", "add", n.pods, "via", n.addr},
	} {
		if err := ip(args...); err != nil {
			return err
		}
	}
	if _, err := begin.Write([]byte("go\n")); err != nil {
		return err
	}
	said, err := io.ReadAll(ready)
	if err != nil || string(said) != "ready\n" {
		return fmt.Errorf("process 1 of the node did not become ready: %q, %v", said, err)
	}
	file := filepath.Join(n.dir, "node.pid")
	if err := os.WriteFile(file+".new", []byte(strconv.Itoa(pid)), 0o644); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

// first is process 1 of the node: it makes mounts and addresses, then reaps orphans until it is killed.
func (n *node) first() error {
	if _, err := io.ReadFull(os.Stdin, make([]byte, 3)); err != nil {
		return fmt.Errorf("no link: %w", err)
	}
	if err := syscall.Sethostname([]byte(n.name)); err != nil {
		return err
	}
	if err := n.mounts(); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"link", "set", "lo", "up"},
		{"addr", "add", n.addr + "/25", "dev", "eth0"},
		{"link", "set", "eth0", "up"},
		{"route", "add", "default", "via", n.host},
	} {
		if err := ip(args...); err != nil {
			return err
		}
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644); err != nil {
		return err
	}
	orphans := make(chan os.Signal, 16)
	signal.Notify(orphans, syscall.SIGCHLD)
	done := os.NewFile(3, "done")
	if _, err := done.WriteString("ready\n"); err != nil {
		return err
	}
	done.Close()
	for range orphans {
		for {
			if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); pid <= 0 || err != nil {
				break
			}
		}
	}
	return nil
}

// mounts gives the node its own /proc, /var, /run and /tmp, and its control group as the root of all. Everything is shared within the node, as volumes with mount
// propagation need, and nothing with this machine.
func (n *node) mounts() error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	kept := map[string]int{}
	for _, dir := range n.keep {
		fd, err := syscall.Open(dir, syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("%s: %w", dir, err)
		}
		kept[dir] = fd
	}
	own := filepath.Join(n.dir, "var")
	for _, dir := range []string{"lib", "log", "cache", "tmp"} {
		if err := os.MkdirAll(filepath.Join(own, dir), 0o755); err != nil {
			return err
		}
	}
	if err := os.Symlink("/run", filepath.Join(own, "run")); err != nil && !os.IsExist(err) {
		return err
	}
	for _, m := range []struct {
		source, target, kind string
		flags                uintptr
		data                 string
	}{
		{"proc", "/proc", "proc", syscall.MS_NOSUID | syscall.MS_NODEV | syscall.MS_NOEXEC, ""},
		{own, "/var", "", syscall.MS_BIND, ""},
		{"tmpfs", "/run", "tmpfs", syscall.MS_NOSUID | syscall.MS_NODEV, "mode=755"},
		{"tmpfs", "/tmp", "tmpfs", syscall.MS_NOSUID | syscall.MS_NODEV, "mode=1777"},
	} {
		if err := syscall.Mount(m.source, m.target, m.kind, m.flags, m.data); err != nil {
			return fmt.Errorf("mounting %s: %w", m.target, err)
		}
	}
	for _, hierarchy := range hierarchies() {
		if err := reroot(hierarchy, n.cgroup); err != nil {
			return fmt.Errorf("control group in %s: %w", hierarchy, err)
		}
	}
	for dir, fd := range kept {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := syscall.Mount(fmt.Sprintf("/proc/self/fd/%d", fd), dir, "", syscall.MS_BIND|syscall.MS_REC, ""); err != nil {
			return fmt.Errorf("keeping %s: %w", dir, err)
		}
		syscall.Close(fd)
	}
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_SHARED, ""); err != nil {
		return fmt.Errorf("shared mounts: %w", err)
	}
	return nil
}

// reroot mounts a control group in place of its hierarchy. A second mount over it would not do: runc takes the first.
func reroot(hierarchy, cgroup string) error {
	const aside = "/run/cgroup"
	if err := os.MkdirAll(aside, 0o755); err != nil {
		return err
	}
	if err := syscall.Mount(filepath.Join(hierarchy, cgroup), aside, "", syscall.MS_BIND, ""); err != nil {
		return err
	}
	if err := syscall.Unmount(hierarchy, syscall.MNT_DETACH); err != nil {
		return err
	}
	return syscall.Mount(aside, hierarchy, "", syscall.MS_MOVE, "")
}

// shield puts copies with the values that a kubelet wants over the settings that it would write.
func shield(command []string) error {
	if err := syscall.Unshare(syscall.CLONE_NEWNS); err != nil {
		return err
	}
	// Volumes that the program mounts must reach the node; what is below /proc must not.
	if err := syscall.Mount("", "/proc", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return err
	}
	for name, value := range map[string]string{
		"vm/overcommit_memory": "1", "vm/panic_on_oom": "0", "kernel/panic": "10", "kernel/panic_on_oops": "1",
		"kernel/keys/root_maxkeys": "1000000", "kernel/keys/root_maxbytes": "25000000",
	} {
		setting := filepath.Join("/proc/sys", name)
		if _, err := os.Stat(setting); err != nil {
			continue
		}
		copied := filepath.Join("/run/shield", name)
		if err := os.MkdirAll(filepath.Dir(copied), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(copied, []byte(value+"\n"), 0o644); err != nil {
			return err
		}
		if err := syscall.Mount(copied, setting, "", syscall.MS_BIND, ""); err != nil {
			return fmt.Errorf("shielding %s: %w", setting, err)
		}
	}
	return syscall.Exec(command[0], command, os.Environ())
}

// hierarchies are the folders where control groups are mounted: one, or one for each kind of resource.
func hierarchies() []string {
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	var found []string
	for line := range strings.Lines(string(mounts)) {
		mount, kind, _ := strings.Cut(line, " - ")
		if fields := strings.Fields(mount); strings.HasPrefix(kind, "cgroup") && len(fields) > 4 {
			found = append(found, fields[4])
		}
	}
	return found
}

// groups are the folders of a control group, one in each hierarchy, that exist and match a pattern.
func groups(pattern string) []string {
	var found []string
	for _, hierarchy := range hierarchies() {
		matches, _ := filepath.Glob(filepath.Join(hierarchy, pattern))
		found = append(found, matches...)
	}
	return found
}

// create makes a control group in all hierarchies.
func create(cgroup string) error {
	for _, hierarchy := range hierarchies() {
		dir := filepath.Join(hierarchy, cgroup)
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		// A new group of this kind has none, and could hold no process.
		for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
			if all, err := os.ReadFile(filepath.Join(hierarchy, name)); err == nil {
				if err := os.WriteFile(filepath.Join(dir, name), all, 0o644); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// sweep removes the control groups of harnesses that were killed together with their nodeboxes.
func sweep(cgroup string) {
	words := strings.Split(cgroup, "-")
	prefix := strings.Join(words[:max(len(words)-2, 1)], "-")
	for _, dir := range groups(prefix + "-[0-9]*-[0-9]*") {
		rest := strings.TrimPrefix(filepath.Base(dir), prefix+"-")
		pid, _, _ := strings.Cut(rest, "-")
		if _, err := os.Stat("/proc/" + pid); os.IsNotExist(err) {
			_ = prune(dir)
		}
	}
}

// remove removes a control group from all hierarchies. The kernel may still count a process that has just ended.
func remove(cgroup string) error {
	var err error
	for until := time.Now().Add(removal); ; time.Sleep(20 * time.Millisecond) {
		err = nil
		for _, dir := range groups(cgroup) {
			err = errors.Join(err, prune(dir))
		}
		if err == nil || time.Now().After(until) {
			return err
		}
	}
}

func prune(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.IsDir() {
			if err := prune(filepath.Join(dir, entry.Name())); err != nil {
				return err
			}
		}
	}
	return syscall.Rmdir(dir)
}

func ip(args ...string) error {
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}
