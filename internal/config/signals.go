package config

import "time"

// Heartbeat says how often callbackd sends itself a callback through all that a real one goes through.
type Heartbeat struct {
	Interval time.Duration `yaml:"interval"` // 0: never
}

// HeartbeatHandler is where heartbeats end. No handler of the configuration may have its name, so that no route leads to it.
const HeartbeatHandler = "heartbeat"

// Disk bounds how full the disk of data_dir may get. 0 is no bound.
type Disk struct {
	WarnFree Bytes `yaml:"warn_free"`
	ShedFree Bytes `yaml:"shed_free"`
}

func (h Heartbeat) validate(d *decoder) {
	if h.Interval != 0 && h.Interval < time.Second {
		d.at("heartbeat.interval", Fatal, "%s: at least 1s, 0s for never; 1m is the default", h.Interval)
	}
}

func (k Disk) validate(d *decoder) {
	if k.WarnFree != 0 && k.WarnFree < k.ShedFree {
		d.at("inbox.disk.warn_free", Fatal, "%s is less than shed_free, %s: callbacks would be refused before anything warns", k.WarnFree, k.ShedFree)
	}
}
