package daemon

import (
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/kms"
)

// metrics are what /metrics shows. docs/operate/metrics.md lists them; a test compares. Labels come from closed sets and
// from the ids of configured keys, never from messages.
type metrics struct {
	registry     *prometheus.Registry
	calls        *prometheus.CounterVec
	callSeconds  *prometheus.HistogramVec
	keyCalls     *prometheus.CounterVec
	keySeconds   *prometheus.HistogramVec
	refusedPeers prometheus.Counter
	reloads      *prometheus.CounterVec
	reloadTime   prometheus.Gauge
	configHash   *prometheus.GaugeVec
	coldStarts   *prometheus.CounterVec
	bursts       prometheus.Counter
}

// seconds are the buckets of all durations: from a call on this machine to the end of any patience.
var seconds = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 3, 10}

func newMetrics(release string) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "trousseau_kms_calls_total", Help: "Calls on the socket, by KMS version, method and gRPC code.",
		}, []string{"api", "method", "code"}),
		callSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "trousseau_kms_call_duration_seconds", Help: "Time to answer a call on the socket, waiting included.", Buckets: seconds,
		}, []string{"api", "method"}),
		keyCalls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "trousseau_key_calls_total", Help: "Calls to key services, probes included, by key, operation and result: ok or the kind of error.",
		}, []string{"key", "op", "result"}),
		keySeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "trousseau_key_call_duration_seconds", Help: "Time that calls to key services took, a second attempt included.", Buckets: seconds,
		}, []string{"key", "op"}),
		refusedPeers: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "trousseau_socket_refused_peers_total", Help: "Connections turned away because their user is not allowed.",
		}),
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "trousseau_config_loads_total", Help: "Times a configuration was loaded, the start included, by result: ok or refused.",
		}, []string{"result"}),
		reloadTime: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "trousseau_config_loaded_timestamp_seconds", Help: "Unix time at which the configuration in use was loaded.",
		}),
		configHash: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "trousseau_config_info", Help: "Always 1; hash is that of the configuration in use: sha256: and hexadecimal digits of the file.",
		}, []string{"hash"}),
		coldStarts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "trousseau_cold_start_uses_total", Help: "Calls answered from what is kept for a cold start, while too few keys answered, by use: wrap (the spare root) or open (a kept seed).",
		}, []string{"use"}),
		bursts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "trousseau_open_bursts_total", Help: "Minutes with more opens than observe.opensPerMinute.",
		}),
	}
	m.coldStarts.WithLabelValues("wrap")
	m.coldStarts.WithLabelValues("open")
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "trousseau_build_info", Help: "Always 1; release is that of this program."}, []string{"release"})
	build.WithLabelValues(release).Set(1)
	m.registry.MustRegister(m.calls, m.callSeconds, m.keyCalls, m.keySeconds, m.refusedPeers, m.reloads, m.reloadTime, m.configHash, m.coldStarts, m.bursts, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// observeKey returns what measures the calls to a key.
func (m *metrics) observeKey(id string) func(op string, took time.Duration, err error) {
	return func(op string, took time.Duration, err error) {
		result := "ok"
		if err != nil {
			result = keyservice.KindOf(err).String()
		}
		m.keyCalls.WithLabelValues(id, op, result).Inc()
		m.keySeconds.WithLabelValues(id, op).Observe(took.Seconds())
	}
}

// reloaded notes that a configuration was taken, or refused with err.
func (m *metrics) reloaded(hash string, err error) {
	if err != nil {
		m.reloads.WithLabelValues("refused").Inc()
		return
	}
	m.reloads.WithLabelValues("ok").Inc()
	m.reloadTime.SetToCurrentTime()
	m.configHash.Reset()
	m.configHash.WithLabelValues(hash).Set(1)
}

// watchAudit shows how many events have a line in the audit log, and how many have none.
func (m *metrics) watchAudit(counts func() (lines, lost uint64)) {
	counter := func(name, help string, of func(lines, lost uint64) uint64) {
		m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 { return float64(of(counts())) }))
	}
	counter("trousseau_audit_log_lines_total", "Events with a line in the audit log.", func(lines, _ uint64) uint64 { return lines })
	counter("trousseau_audit_log_lost_lines_total", "Events without a line in the audit log, because it could not be written.", func(_, lost uint64) uint64 { return lost })
}

// watch shows the state of plugin, and whether the node is locked, taken when somebody asks.
func (m *metrics) watch(plugin *kms.Plugin, locked func() bool) {
	m.registry.MustRegister(stateCollector{plugin, locked})
}

type stateCollector struct {
	plugin *kms.Plugin
	locked func() bool
}

var (
	descState      = prometheus.NewDesc("trousseau_state", "1 for the state that the sealing policy is in: full, readable or closed.", []string{"state"}, nil)
	descLocked     = prometheus.NewDesc("trousseau_locked", "Whether the node is locked down, so that every call is refused.", nil, nil)
	descReady      = prometheus.NewDesc("trousseau_ready", "Whether Status answers the API server well.", nil, nil)
	descKeyID      = prometheus.NewDesc("trousseau_key_id_info", "Always 1; the announced key id, and its hash as the API server's metrics have it.", []string{"key_id", "key_id_hash"}, nil)
	descSpare      = prometheus.NewDesc("trousseau_cold_start_spare_until_seconds", "Unix time until which a spare root for the announced key id may be used; 0 if there is none.", nil, nil)
	descKeyUp      = prometheus.NewDesc("trousseau_key_up", "Whether the last probe of a key worked; role is seals or opens.", []string{"key", "role"}, nil)
	descKeyAt      = prometheus.NewDesc("trousseau_key_state_timestamp_seconds", "Unix time since which a key works, or does not.", []string{"key"}, nil)
	descKeyMissing = prometheus.NewDesc("trousseau_key_missing", "Whether a key takes no part in sealing, because it was away when something had to be sealed.", []string{"key"}, nil)
	descKeyWrong   = prometheus.NewDesc("trousseau_key_wrong_answers_total", "Wrong answers of a key that others opened without, since the configuration was loaded first.", []string{"key"}, nil)
	descKeyIs      = prometheus.NewDesc("trousseau_key_version_info", "Always 1; the version of a key that is sealed with, and the newest one seen.", []string{"key", "adopted", "newest"}, nil)
)

func (stateCollector) Describe(out chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{descState, descLocked, descReady, descKeyID, descSpare, descKeyUp, descKeyAt, descKeyMissing, descKeyWrong, descKeyIs} {
		out <- desc
	}
}

func (c stateCollector) Collect(out chan<- prometheus.Metric) {
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	snap := c.plugin.Snapshot()
	for _, state := range []kms.State{kms.Full, kms.Readable, kms.Closed} {
		gauge(descState, number(snap.State == state), state.String())
	}
	locked := c.locked()
	gauge(descLocked, number(locked))
	gauge(descReady, number(snap.Ready() && !locked))
	if snap.KeyID != "" {
		gauge(descKeyID, 1, snap.KeyID, fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(snap.KeyID))))
	}
	gauge(descSpare, max(0, float64(snap.Spare.Unix()))) // the zero time is long before 1970
	for _, key := range snap.Keys {
		role := "opens"
		if key.Seals {
			role = "seals"
		}
		gauge(descKeyUp, number(key.Err == nil), key.ID, role)
		gauge(descKeyAt, float64(key.Since.UnixNano())/1e9, key.ID)
		gauge(descKeyMissing, number(key.Missing), key.ID)
		out <- prometheus.MustNewConstMetric(descKeyWrong, prometheus.CounterValue, float64(key.Wrong), key.ID)
		gauge(descKeyIs, 1, key.ID, string(key.Adopted), string(key.Newest))
	}
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
