// Command babysit runs one program and sees that it never outlives the process that asked for it.
//
//	babysit [-in PID] -- CMD ARGS...
//
// With -in, CMD runs in the namespaces of that process (nodebox), in their root folder.
//
// CMD gets a process group of its own, no standard input, and babysit's standard error for its output. The owner holds
// the pipe that is babysit's standard input. When that ends, which even `kill -9` of the owner brings about, CMD's group
// gets SIGTERM, and SIGKILL after 5 s. Each line on the pipe names a signal for the group: TERM, INT, KILL, STOP or CONT.
// Standard output tells the owner what happened, a line each: "started PID", "sent NAME", "exited CODE".
package main

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const grace = 5 * time.Second

var signals = map[string]syscall.Signal{
	"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "KILL": syscall.SIGKILL,
	"STOP": syscall.SIGSTOP, "CONT": syscall.SIGCONT,
}

func main() {
	// Pdeathsig is sent when the thread that forked ends, so this goroutine keeps its thread for good.
	runtime.LockOSThread()
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) // the owner may be gone when we report; CMD inherits nothing
	in := flag.Int("in", 0, "process whose namespaces CMD enters")
	flag.Parse()
	if flag.NArg() == 0 {
		fail(64, "usage: babysit [-in PID] -- CMD ARGS...")
	}
	cmd := exec.Command(flag.Arg(0), flag.Args()[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	forwarded := make(chan os.Signal, 4)
	signal.Notify(forwarded, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	if *in != 0 {
		if err := enter(*in); err != nil {
			fail(126, err)
		}
		// CMD cannot see that its parent lives, and takes it for dead. It ends with the node, if not before.
		cmd.SysProcAttr.Pdeathsig = 0
	}
	if err := cmd.Start(); err != nil {
		fail(127, err)
	}
	group := -cmd.Process.Pid
	fmt.Println("started", cmd.Process.Pid)
	go func() {
		for s := range forwarded {
			_ = syscall.Kill(group, s.(syscall.Signal))
		}
	}()
	go obey(group)
	_ = cmd.Wait()
	_ = syscall.Kill(group, syscall.SIGKILL) // what CMD itself left behind
	code := status(cmd.ProcessState)
	fmt.Println("exited", code)
	os.Exit(code)
}

// enter moves this thread, and so what it starts, into the namespaces of a process.
func enter(pid int) error {
	var open []int
	for _, kind := range []string{"pid", "ipc", "uts", "net", "mnt"} {
		fd, err := unix.Open(fmt.Sprintf("/proc/%d/ns/%s", pid, kind), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("process %d has no %s namespace: %w", pid, kind, err)
		}
		open = append(open, fd)
	}
	// Threads that share a working folder cannot change their mounts.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return err
	}
	for _, fd := range open {
		if err := unix.Setns(fd, 0); err != nil {
			return fmt.Errorf("cannot enter a namespace of process %d: %w", pid, err)
		}
	}
	return nil
}

// obey carries out what the owner writes, and ends the group when the owner is gone.
func obey(group int) {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		if s, known := signals[lines.Text()]; known {
			_ = syscall.Kill(group, s)
			fmt.Println("sent", lines.Text())
		}
	}
	_ = syscall.Kill(group, syscall.SIGTERM)
	_ = syscall.Kill(group, syscall.SIGCONT) // a stopped process cannot end itself
	time.Sleep(grace)
	_ = syscall.Kill(group, syscall.SIGKILL)
}

func status(state *os.ProcessState) int {
	if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return state.ExitCode()
}

func fail(code int, why any) {
	fmt.Fprintln(os.Stderr, "babysit:", why)
	os.Exit(code)
}
