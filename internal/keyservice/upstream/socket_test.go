package upstream_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	kmsv1beta1 "k8s.io/kms/apis/v1beta1"

	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/keyservicetest"
	"github.com/trousseau-io/trousseau/internal/keyservice/upstream"
	"github.com/trousseau-io/trousseau/internal/keyservice/upstream/upstreamtest"
)

// shortDir returns a directory whose name leaves room for a socket's.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "upstream")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func listen(t *testing.T, path string) *net.UnixListener {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func TestSocketsThatCannotBeUsed(t *testing.T) {
	for name, c := range map[string]struct {
		make func(t *testing.T, path string)
		kind keyservice.Kind
		text string
	}{
		"missing": {func(*testing.T, string) {}, keyservice.Unavailable, "no such file"},
		"dead": {func(t *testing.T, path string) {
			l := listen(t, path)
			l.SetUnlinkOnClose(false)
			l.Close()
		}, keyservice.Unavailable, "connection refused"},
		"a file":      {func(t *testing.T, path string) { write(t, path) }, keyservice.Invalid, "is no socket"},
		"a directory": {func(t *testing.T, path string) { os.Mkdir(path, 0o700) }, keyservice.Invalid, "is no socket"},
		"in a file":   {func(t *testing.T, path string) { os.Remove(filepath.Dir(path)); write(t, filepath.Dir(path)) }, keyservice.Unavailable, "not a directory"},
		"for datagrams": {func(t *testing.T, path string) {
			c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
		}, keyservice.Invalid, "wrong type"},
		"not permitted": {func(t *testing.T, path string) {
			listen(t, path)
			if err := os.Chmod(filepath.Dir(path), 0o711); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, 0o400); err != nil {
				t.Fatal(err)
			}
			dropRoot(t)
		}, keyservice.Denied, "permission denied"},
		"closed at once":   {func(t *testing.T, path string) { serve(listen(t, path), func(c net.Conn) { c.Close() }) }, keyservice.Unavailable, ""},
		"another protocol": {func(t *testing.T, path string) { serve(listen(t, path), speakHTTP1) }, keyservice.Unavailable, ""},
		"KMS v1": {func(t *testing.T, path string) {
			server := grpc.NewServer()
			kmsv1beta1.RegisterKeyManagementServiceServer(server, kmsv1beta1.UnimplementedKeyManagementServiceServer{})
			l := listen(t, path)
			go server.Serve(l)
			t.Cleanup(server.Stop)
		}, keyservice.Invalid, "unknown service v2.KeyManagementService"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(shortDir(t), "kms.sock")
			key := open(t, path, quiet)
			c.make(t, path)
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			for range 2 {
				_, _, err := key.Versions(ctx)
				keyservicetest.CheckKind(t, "listing versions", err, c.kind, c.text)
			}
			if ctx.Err() != nil {
				t.Error("it took until the context ended")
			}
		})
	}
}

// The same key must work once the right plugin is there, without waiting.
func TestSocketThatIsRepaired(t *testing.T) {
	plugin := upstreamtest.Start(t)
	key := open(t, plugin.Socket, quiet)
	plugin.Stop()
	for name, occupy := range map[string]func() (free func()){
		"by nothing":          func() func() { return func() {} },
		"by a file":           func() func() { write(t, plugin.Socket); return func() { os.Remove(plugin.Socket) } },
		"by another protocol": func() func() { l := listen(t, plugin.Socket); serve(l, speakHTTP1); return func() { l.Close() } },
	} {
		free := occupy()
		if _, _, err := key.Versions(t.Context()); err == nil {
			t.Errorf("%s: no error", name)
		}
		free()
		plugin.Start()
		keyservicetest.RoundTrip(t, key)
		plugin.Stop()
	}
}

// A listener that takes connections and says nothing is waited for, but not beyond the context.
func TestSocketThatIsSilent(t *testing.T) {
	path := filepath.Join(shortDir(t), "kms.sock")
	listen(t, path)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	start := time.Now()
	_, _, err := open(t, path, quiet).Versions(ctx)
	if took := time.Since(start); took > 70*time.Millisecond || !keyservice.Canceled(err) {
		t.Errorf("it took %v: %v", took, err)
	}
}

func serve(l net.Listener, do func(net.Conn)) {
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go do(conn)
		}
	}()
}

func speakHTTP1(conn net.Conn) {
	defer conn.Close()
	conn.Write([]byte("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"))
	conn.Read(make([]byte, 1024))
}

func write(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

// dropRoot takes root's rights away from this process until the test ends: root may connect to everything.
func dropRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		return
	}
	const keep, nobody = -1, 65534
	if err := syscall.Setresuid(keep, nobody, keep); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Setresuid(keep, 0, keep); err != nil {
			t.Fatal(err)
		}
	})
}

func TestValidate(t *testing.T) {
	for socket, want := range map[string]string{
		"/run/vendor/kms.sock":             "",
		"/" + strings.Repeat("x", 105):     "",
		"/" + strings.Repeat("x", 106):     "has 107 bytes",
		"":                                 "no plain absolute path",
		"kms.sock":                         "no plain absolute path",
		"@kms.sock":                        "no plain absolute path",
		"/run//kms.sock":                   "no plain absolute path",
		"/run/../kms.sock":                 "no plain absolute path",
		"/run/kms.sock/":                   "no plain absolute path",
		"/run/kms\x00.sock":                "no plain absolute path",
		"unix:///run/vendor/kms.sock":      "without unix://",
		"unix:/run/vendor/kms.sock":        "without unix://",
		"https://vendor.example.com/plug/": "no plain absolute path",
	} {
		config := upstream.Config{Socket: socket}
		var problems []string
		config.Validate(func(field, problem string) { problems = append(problems, field+" "+problem) })
		if want == "" && problems != nil || want != "" && (len(problems) != 1 || !strings.Contains(problems[0], want)) {
			t.Errorf("%q: problems %q, want one with %q", socket, problems, want)
		}
		_, err := upstream.Open(t.Context(), config, quiet)
		if want == "" && err != nil {
			t.Errorf("%q: %v", socket, err)
		}
		if want != "" {
			keyservicetest.CheckKind(t, "opening", err, keyservice.Invalid, want)
		}
	}
}
