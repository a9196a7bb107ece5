package cluster

import (
	"path/filepath"
	"testing"

	"github.com/trousseau-io/trousseau/internal/testserver"
	clientv3 "go.etcd.io/etcd/client/v3"
	"k8s.io/client-go/kubernetes"
)

// Running is a cluster that a test has started. Both servers can be stopped, killed and restarted.
type Running struct {
	*Cluster
	Etcd      *testserver.Process
	APIServer *testserver.Process
	Client    kubernetes.Interface

	raw *clientv3.Client
}

// Start starts a cluster in a folder of the test's own; config.Dir and config.Bin are set by it.
func Start(t testing.TB, config Config) *Running {
	t.Helper()
	etcd := testserver.Binary(t, "etcd", "run: lab/servers/build.sh etcd")
	testserver.Binary(t, "kube-apiserver", "run: lab/servers/build.sh kubernetes")
	config.Dir, config.Bin = t.TempDir(), filepath.Dir(etcd)
	plane, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	running := &Running{Cluster: plane}
	running.Etcd = testserver.Start(t, plane.Etcd())
	running.raw, err = clientv3.New(clientv3.Config{Endpoints: []string{plane.EtcdEndpoint()}})
	if err != nil {
		t.Fatalf("making an etcd client: %v", err)
	}
	t.Cleanup(func() { running.raw.Close() })
	running.serve(t)
	return running
}

// Join starts another API server on the same etcd, as on a second control plane node.
func (r *Running) Join(t testing.TB, encryptionConfig string) *Running {
	t.Helper()
	plane, err := r.Joined(encryptionConfig)
	if err != nil {
		t.Fatal(err)
	}
	joined := &Running{Cluster: plane, Etcd: r.Etcd, raw: r.raw}
	joined.serve(t)
	return joined
}

// serve starts the API server and makes its client.
func (r *Running) serve(t testing.TB) {
	t.Helper()
	r.APIServer = testserver.Start(t, r.Cluster.APIServer())
	rest, err := r.RESTConfig()
	if err != nil {
		t.Fatal(err)
	}
	if r.Client, err = kubernetes.NewForConfig(rest); err != nil {
		t.Fatalf("making a client: %v", err)
	}
}

// Raw returns what etcd holds under a key such as /registry/secrets/default/name.
func (r *Running) Raw(t testing.TB, key string) []byte {
	t.Helper()
	response, err := r.raw.Get(t.Context(), key)
	if err != nil {
		t.Fatalf("reading %s from etcd: %v", key, err)
	}
	if len(response.Kvs) != 1 {
		t.Fatalf("reading %s from etcd: it is not there", key)
	}
	return response.Kvs[0].Value
}
