package vault_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"sync"
	"testing"
)

// fault is what a proxy does to answers.
type fault string

const (
	pass      fault = ""
	stall     fault = "stall"
	cut       fault = "cut"      // the connection ends before the answer
	half      fault = "half"     // the connection ends within the answer
	garbage   fault = "garbage"  // bytes of the body are changed
	noContent fault = "empty"    // 200 and nothing
	page      fault = "page"     // 200 and a page for people
	redirect  fault = "redirect" // 307 to elsewhere
	echo      fault = "echo"     // 400 with the request in its error
	endless   fault = "endless"  // 200 without end
	failing   fault = "500"
)

// proxy stands between a key and a real server and breaks to order.
type proxy struct {
	*httptest.Server
	to    *url.URL
	other string // where redirects lead

	mu     sync.Mutex
	fault  fault
	resume chan struct{} // closed when the stall ends
	calls  map[string]int
}

func newProxy(t testing.TB, to string) *proxy {
	t.Helper()
	u, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{to: u, calls: make(map[string]int), resume: make(chan struct{})}
	p.Server = httptest.NewServer(p)
	t.Cleanup(func() {
		p.set(pass)
		p.Server.CloseClientConnections()
		p.Server.Close()
	})
	return p
}

// set makes the proxy break from now on, and returns what repairs it.
func (p *proxy) set(f fault) (repair func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fault == stall {
		close(p.resume)
		p.resume = make(chan struct{})
	}
	p.fault = f
	return func() { p.set(pass) }
}

func (p *proxy) count(path string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.calls[path]
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	f, resume := p.fault, p.resume
	p.calls[r.URL.Path]++
	p.mu.Unlock()
	switch f {
	case stall:
		io.Copy(io.Discard, r.Body) // else the server does not notice that the client has gone
		select {
		case <-resume:
		case <-r.Context().Done():
		}
		return
	case cut:
		panic(http.ErrAbortHandler)
	case noContent:
		return
	case page:
		io.WriteString(w, "<html>welcome</html>")
		return
	case redirect:
		http.Redirect(w, r, p.other+r.URL.Path, http.StatusTemporaryRedirect)
		return
	case echo:
		body, _ := io.ReadAll(r.Body)
		w.WriteHeader(http.StatusBadRequest)
		io.WriteString(w, `{"errors":[`+strconv.Quote(r.Header.Get("X-Vault-Token")+string(body))+`]}`)
		return
	case endless:
		w.Write([]byte(`{"data":{"x":"`))
		for r.Context().Err() == nil {
			w.Write(bytes.Repeat([]byte("x"), 4096))
		}
		return
	case failing:
		w.WriteHeader(http.StatusInternalServerError)
		io.WriteString(w, `{"errors":["1 error occurred"]}`)
		return
	}
	reverse := httputil.NewSingleHostReverseProxy(p.to)
	reverse.ModifyResponse = func(answer *http.Response) error { return f.apply(answer) }
	reverse.ServeHTTP(w, r)
}

func (f fault) apply(answer *http.Response) error {
	if f != half && f != garbage {
		return nil
	}
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	if f == half {
		answer.Body = io.NopCloser(bytes.NewReader(body[:len(body)/2])) // less than its Content-Length
		return nil
	}
	for i := range body {
		body[i] ^= 0x11
	}
	answer.Body = io.NopCloser(bytes.NewReader(body))
	return nil
}
