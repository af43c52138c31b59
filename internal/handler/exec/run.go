package exec

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	osexec "os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// run is one run of the program, and of all that it starts.
type run struct {
	cmd    *osexec.Cmd
	input  *os.File // what the program reads
	output *os.File // what it prints; nil if nobody wants to know
	exited chan struct{}
	pipes  sync.WaitGroup
	line   []byte // the first of the output, once pipes is done
}

// attend looks after a program that was started.
func (r *run) attend(event []byte) {
	go func() { // ends with the program, which wait waits for
		defer close(r.exited)
		_ = r.cmd.Wait() // ProcessState says it better
	}()
	r.pipes.Go(func() {
		_, _ = r.input.Write(event) // a program need not read it
		_ = r.input.Close()
	})
	if r.output != nil {
		r.pipes.Go(func() { r.line = firstLine(r.output) })
	}
}

// leaving is what is left for SIGTERM when the whole of callbackd is leaving.
const leaving = 500 * time.Millisecond

// wait returns when the program has ended, and whether it had to be told to.
func (r *run) wait(ctx context.Context, grace time.Duration) (stopped bool) {
	select {
	case <-r.exited:
		return false
	case <-ctx.Done():
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		grace = min(grace, leaving)
	}
	r.signal(unix.SIGTERM)
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-r.exited:
	case <-timer.C:
		r.signal(unix.SIGKILL)
		<-r.exited
	}
	return true
}

// signal reaches the program and what it has started. That nobody is left to hear it is no error.
func (r *run) signal(s syscall.Signal) { _ = unix.Kill(-r.cmd.Process.Pid, s) }

// end ends what the program has left behind, and returns the first line of the output.
func (r *run) end() string {
	r.signal(unix.SIGKILL)
	// Orphans are callbackd's where it is the first process, as in a container: it alone can bury them there.
	for err := error(nil); err == nil || errors.Is(err, unix.EINTR); {
		_, err = unix.Wait4(-r.cmd.Process.Pid, nil, 0, nil)
	}
	r.close()
	return string(r.line)
}

// close lets go of the pipes, which a process that has left the group may hold yet.
func (r *run) close() {
	if r.input != nil {
		_ = r.input.Close()
	}
	if r.output != nil {
		_ = r.output.SetReadDeadline(time.Now().Add(time.Second))
	}
	r.pipes.Wait()
	if r.output != nil {
		_ = r.output.Close()
	}
}

func (r *run) status() syscall.WaitStatus {
	status, _ := r.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return status
}

// firstLine reads all that is printed, so that the program never waits for it, and keeps the first line as far as a log has room for it.
func firstLine(output io.Reader) []byte {
	const longest = 512
	start := make([]byte, longest)
	n, _ := io.ReadFull(output, start)
	line, _, _ := bytes.Cut(start[:n], []byte("\n"))
	_, _ = io.Copy(io.Discard, output)
	return line
}
