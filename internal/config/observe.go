package config

import (
	"net"
	"strconv"
)

// Observe is what the daemon shows of itself. Nothing of it is secret, but it tells which keys are in use.
type Observe struct {
	// The address and port that serve /metrics (Prometheus), /livez (the process works; nothing outside counts) and
	// /readyz (enough keys answered the last probes) over plain HTTP, or `off` for none. Every address of the machine is
	// written as 0.0.0.0 or [::]. For a liveness probe use /livez and never /readyz: a restart mends no outage.
	Listen string `yaml:"listen" default:"127.0.0.1:8095"`

	// The format of the log on standard error: `text` for people, `json` for machines, one object per line.
	Log string `yaml:"log" enum:"text,json" default:"text"`

	// The least important lines to log. `info` has one line for every change of state and none for single calls; `debug`
	// has a line for every call.
	Level string `yaml:"level" enum:"debug,info,warn,error" default:"info"`

	// How many opens within a minute are worth a warning in the log and a count in the metrics; 0 for never. An API server
	// opens one data key for each of its earlier starts when it starts, and none while it runs: far more than that may be
	// somebody who opens everything. Clusters on KMS v1 open one for each object.
	OpensPerMinute uint32 `yaml:"opensPerMinute" default:"100"`
}

// Off is the Observe.Listen that serves nothing.
const Off = "off"

// Validate checks the address.
func (o *Observe) Validate(report func(field, problem string)) {
	if o.Listen == Off {
		return
	}
	host, port, err := net.SplitHostPort(o.Listen)
	if err != nil || host == "" {
		report("listen", "must be an address and a port, such as 127.0.0.1:8095 or [::1]:8095, or off")
		return
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		report("listen", "must have a port from 1 to 65535")
	}
}
