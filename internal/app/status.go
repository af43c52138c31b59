package app

import (
	"context"
	"errors"
	"os"

	"callbackd/internal/admin"
	"callbackd/internal/config"
)

// Status is what the callbackd that runs says of itself.
type Status struct {
	PID     int    `json:"pid"`
	Version string `json:"version"`
	// Listen has the addresses that it took, as its configuration writes them, by their keys: services.DeviceUsage.listen, admin.listen.
	Listen map[string]string `json:"listen"`
	// Complaints are the checks of /readyz that fail. RestartNeeded are the keys of the configuration that have changed and take a restart.
	Complaints    []Complaint `json:"complaints"`
	RestartNeeded []string    `json:"restart_needed"`
}

// Complaint is a check of /readyz that fails. One that is essential keeps callbacks from being acknowledged.
type Complaint struct {
	Check     string `json:"check"`
	Cause     string `json:"cause"`
	Essential bool   `json:"essential"`
}

type statusRequest struct{}

func (o *Operator) status(ctx context.Context, _ statusRequest) (Status, error) {
	s := o.Self
	for _, check := range o.Checks {
		if err := check.Run(ctx); err != nil {
			s.Complaints = append(s.Complaints, Complaint{Check: check.Name, Cause: err.Error(), Essential: check.Essential})
		}
	}
	if o.reloader != nil {
		s.RestartNeeded = *o.reloader.restartNeeded.Load()
	}
	return s, nil
}

// ErrNotRunning says that no callbackd runs on the data directory.
var ErrNotRunning = errors.New("no callbackd runs on data_dir")

// AskStatus asks the callbackd that runs on the data directory. The error wraps ErrNotRunning if none does.
func AskStatus(ctx context.Context, c *config.Config) (s Status, err error) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	if err = admin.Call(ctx, c.DataDir, opStatus, statusRequest{}, &s); unanswered(err) {
		err = ErrNotRunning
	}
	return s, err
}

// self is the status of this process. What is bound stays as it is until the process ends.
func (a *App) self() Status {
	s := Status{PID: os.Getpid(), Version: a.o.Version, Listen: map[string]string{"admin.listen": a.c.Admin.Listen}}
	for name, service := range a.c.Services {
		s.Listen["services."+name+".listen"] = service.Listen
	}
	return s
}
