// Package exec is the handler type "exec": it runs a program for each callback, with the event on its standard input.
//
//	event --> standard input --> program --> exit code: 0 done, 75 retry, 65 bury, any other retry
//	                                |
//	      end of the context --> SIGTERM to its process group --> grace --> SIGKILL
//
// The promise: no shell is involved; the program gets nothing of callbackd but what is named, no descriptor and no variable; and when
// Handle returns, nothing of its process group runs any more, whether the program ended by itself or not.
//
// The limits: a process that leaves the group, as a daemon does, is nobody's; one that the kernel cannot kill, for it waits for a disk,
// is waited for; when callbackd itself is killed the program goes on, and the delivery is made again beside it.
package exec

import (
	"context"
	"errors"
	"fmt"
	"os"
	osexec "os/exec"
	"strconv"
	"strings"
	"syscall"

	"callbackd/internal/handler"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// The exit codes that have a meaning, from sysexits.h.
const (
	exitBury  = 65 // EX_DATAERR: the input is at fault
	exitRetry = 75 // EX_TEMPFAIL
)

// program runs for each delivery. It is safe for concurrent use.
type program struct {
	Config
	name    string   // of the handler
	path    string   // of the program
	environ []string // of every run
	log     *zap.Logger
	metrics *metrics

	handler.Readiness // whether the last run could be started
}

// Handle implements [handler.Handler].
func (p *program) Handle(ctx context.Context, d *handler.Delivery) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	event, err := d.Event().JSON()
	if err != nil {
		return err
	}
	r, err := p.start(ctx, append(event, '\n'), d)
	if err != nil {
		err = fmt.Errorf("start the program: %w: see that it is there and that the user callbackd runs as may run it", err)
		p.Note(err)
		p.metrics.ended(unstarted)
		return err
	}
	p.Note(nil)
	stop := r.wait(ctx, p.Grace)
	line := r.end()
	if p.LogOutput && line != "" {
		p.log.Debug("output of the program", zap.String("delivery", d.ID), zap.String("first_line", line))
	}
	how, err := verdict(r.status(), stop)
	p.metrics.ended(how)
	return err
}

// Close implements [handler.Handler].
func (p *program) Close() error {
	p.metrics.unregister()
	return nil
}

// verdict reads how the program ended. One that was told to stop is believed when it says that it is done, and nothing else: other codes
// then tell of the signal.
func verdict(status syscall.WaitStatus, stop bool) (outcome, error) {
	code := status.ExitStatus() // -1 if it did not exit
	switch {
	case code == 0:
		return done, nil
	case stop:
		return stopped, errors.New("the program had not ended in its time, and was stopped: if it needs longer, raise delivery.timeout")
	case status.Signaled():
		return killed, fmt.Errorf("the program was killed by signal %d (%s)", status.Signal(), status.Signal())
	case code == exitBury:
		return bury, handler.Permanent(fmt.Errorf("the program exited with %d: it refuses the event", code))
	case code == exitRetry:
		return retry, fmt.Errorf("the program exited with %d: it asks to try again", code)
	}
	return failed, fmt.Errorf("the program exited with %d: run it by hand with the event of `callbackd inbox show --event`, or set log_output", code)
}

// prefix begins the names of the variables that tell of the delivery.
const prefix = "CALLBACKD_"

// variables tell of the delivery, and nothing of what the callback says: others on the machine may read them.
func (p *program) variables(ctx context.Context, d *handler.Delivery) []string {
	list := append([]string(nil), p.environ...)
	for _, v := range [][2]string{
		{"HANDLER", p.name}, {"DELIVERY_ID", d.ID}, {"ATTEMPT", strconv.Itoa(d.Attempt)}, {"REPLAY", strconv.FormatBool(d.Replay)},
		{"SERVICE", string(d.Service)}, {"KIND", string(d.Callback.Kind)}, {"ACCOUNT", d.Account}, {"SEQUENCE", strconv.FormatInt(d.Seq, 10)},
		{"FLAGS", strings.Join(d.Flags, ",")},
	} {
		list = append(list, prefix+v[0]+"="+v[1])
	}
	if parent := handler.TraceParent(ctx); parent != "" {
		list = append(list, "TRACEPARENT="+parent)
	}
	return list
}

// keepDescriptors sees to it that no program gets a descriptor that callbackd was itself started with. Those that Go opens are its own
// from the beginning.
func keepDescriptors() error {
	open, err := os.ReadDir("/dev/fd")
	if err != nil {
		return fmt.Errorf("list the open descriptors, which the program is not to get: %w", err)
	}
	for _, e := range open {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}

// start starts the program as the first of a process group.
func (p *program) start(ctx context.Context, event []byte, d *handler.Delivery) (_ *run, err error) {
	r := &run{exited: make(chan struct{})}
	r.cmd = &osexec.Cmd{Path: p.path, Args: p.Command, Dir: p.Directory, Env: p.variables(ctx, d), SysProcAttr: &syscall.SysProcAttr{Setpgid: true}}
	var ends []*os.File // the program's
	defer func() {
		for _, f := range ends {
			_ = f.Close()
		}
		if err != nil {
			r.close()
		}
	}()
	stdin, input, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	ends, r.input, r.cmd.Stdin = append(ends, stdin), input, stdin
	if p.LogOutput {
		output, stdout, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		ends, r.output, r.cmd.Stdout, r.cmd.Stderr = append(ends, stdout), output, stdout, stdout
	}
	if err := r.cmd.Start(); err != nil {
		return nil, err
	}
	r.attend(event)
	return r, nil
}
