package testserver

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"
)

// Fault is what goes wrong between a client and a server.
type Fault string

const (
	// Pass lets everything through.
	Pass Fault = ""
	// Stall takes requests and does not answer them.
	Stall Fault = "stall"
	// Cut ends connections instead of answering.
	Cut Fault = "cut"
	// Garble changes bytes of the body of each answer. Only Faults can do that: a Proxy does not see what it forwards.
	Garble Fault = "garble"
	// Slow answers after SlowBy. Only Faults can do that, and Throttle.
	Slow Fault = "slow"
	// Throttle answers 429 to everything.
	Throttle Fault = "throttle"
)

// SlowBy is longer than API servers wait for their KMS plugin, which is 3 s.
const SlowBy = 4 * time.Second

// Faults surrounds the handler of a fake HTTP service and breaks to order. The zero value passes.
type Faults struct {
	order order
}

// Set makes answers break from now on, and returns what repairs them.
func (f *Faults) Set(fault Fault) (repair func()) { return f.order.set(fault) }

// Handler returns next with the faults before it.
func (f *Faults) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch fault, changed := f.order.get(); fault {
		case Stall:
			_, _ = io.Copy(io.Discard, r.Body) // else the server does not notice that the client has gone
			select {
			case <-changed:
			case <-r.Context().Done():
			}
			panic(http.ErrAbortHandler)
		case Cut:
			panic(http.ErrAbortHandler)
		case Garble:
			garble(w, r, next)
		case Throttle:
			w.WriteHeader(http.StatusTooManyRequests)
		case Slow:
			late(w, r, next, changed)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// late waits until SlowBy has passed, or until the fault is repaired.
func late(w http.ResponseWriter, r *http.Request, next http.Handler, changed <-chan struct{}) {
	body, err := io.ReadAll(r.Body) // else the server does not notice that the client has gone
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	select {
	case <-time.After(SlowBy):
	case <-changed:
	case <-r.Context().Done():
	}
	next.ServeHTTP(w, r)
}

func garble(w http.ResponseWriter, r *http.Request, next http.Handler) {
	answer := httptest.NewRecorder()
	next.ServeHTTP(answer, r)
	body := bytes.Map(func(r rune) rune { return r ^ 0x11 }, answer.Body.Bytes())
	for name, values := range answer.Header() {
		w.Header()[name] = values
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(answer.Code)
	_, _ = w.Write(body) // the client may have gone
}

// Proxy forwards TCP connections to a server and breaks to order: Pass, Stall and Cut.
type Proxy struct {
	Address string // host:port of 127.0.0.1 where it listens

	to    string
	order order

	mu    sync.Mutex
	conns map[net.Conn]bool
}

// StartProxy starts a proxy before the server at address to, for as long as the test lasts.
func StartProxy(t testing.TB, to string) *Proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{Address: listener.Addr().String(), to: to, conns: make(map[net.Conn]bool)}
	t.Cleanup(func() {
		listener.Close()
		p.Set(Cut)
	})
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go p.serve(client)
		}
	}()
	return p
}

// Set makes connections break from now on, and returns what repairs them. Cut ends those that are open.
func (p *Proxy) Set(fault Fault) (repair func()) {
	repair = p.order.set(fault)
	if fault == Cut {
		p.mu.Lock()
		defer p.mu.Unlock()
		for conn := range p.conns {
			conn.Close()
		}
	}
	return repair
}

func (p *Proxy) serve(client net.Conn) {
	defer client.Close()
	if fault, _ := p.order.get(); fault == Cut {
		return
	}
	server, err := net.Dial("tcp", p.to)
	if err != nil {
		return
	}
	defer server.Close()
	for _, conn := range []net.Conn{client, server} {
		p.mu.Lock()
		p.conns[conn] = true
		p.mu.Unlock()
		defer func() {
			p.mu.Lock()
			delete(p.conns, conn)
			p.mu.Unlock()
		}()
	}
	var wg sync.WaitGroup
	wg.Go(func() { p.copy(server, client) })
	wg.Go(func() { p.copy(client, server) })
	wg.Wait()
}

// copy forwards until one side ends, and then ends the other. What arrives during a stall is forwarded after it.
func (p *Proxy) copy(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	buffer := make([]byte, 16<<10)
	for {
		n, err := from.Read(buffer)
		for {
			fault, changed := p.order.get()
			if fault != Stall {
				break
			}
			<-changed
		}
		if _, writeErr := to.Write(buffer[:n]); err != nil || writeErr != nil {
			return
		}
	}
}

// order is the fault that is wanted now. The zero value is Pass.
type order struct {
	mu      sync.Mutex
	fault   Fault
	changed chan struct{} // closed by the next set; nil until it is asked for
}

func (o *order) set(fault Fault) (repair func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.fault = fault
	if o.changed != nil {
		close(o.changed)
		o.changed = nil
	}
	return func() { o.set(Pass) }
}

func (o *order) get() (Fault, <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.changed == nil {
		o.changed = make(chan struct{})
	}
	return o.fault, o.changed
}
