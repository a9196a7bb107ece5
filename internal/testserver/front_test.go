package testserver_test

import (
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/trousseau-io/trousseau/internal/testserver"
)

func TestFront(t *testing.T) {
	t.Parallel()
	behind := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(w, r.Body)
	}))
	t.Cleanup(behind.Close)
	front := testserver.StartFront(t, "front.test", behind.URL)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: front.CA.Pool()}}
	t.Cleanup(transport.CloseIdleConnections)
	ask := func() (status int, err error) {
		answer, err := (&http.Client{Transport: transport}).Get("https://127.0.0.1:" + front.Port)
		if err != nil {
			return 0, err
		}
		return answer.StatusCode, answer.Body.Close()
	}
	want := func(what string, status int) {
		t.Helper()
		got, err := ask()
		if got != status {
			t.Errorf("%s: %d, %v; want %d", what, got, err, status)
		}
	}

	want("a front that passes", http.StatusOK)
	repair := front.Set(testserver.Throttle)
	want("a throttling front", http.StatusTooManyRequests)
	repair()

	repair = front.Set(testserver.Slow)
	time.AfterFunc(100*time.Millisecond, repair)
	asked := time.Now()
	want("a slow front that is repaired meanwhile", http.StatusOK)
	if took := time.Since(asked); took < 100*time.Millisecond {
		t.Errorf("a slow front has answered after %s", took)
	}

	front.Show(t, time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour))
	want("an open connection under an expired certificate", http.StatusOK)
	front.HangUp()
	want("a new connection under an expired certificate", 0)
	front.Show(t, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	want("a new connection under a new certificate", http.StatusOK)
	behind.Close()
	want("a front before nothing", 0)
}
