// Package cluster is a Kubernetes control plane as small as it can be: one real etcd and one real kube-apiserver, or
// several, which keep their addresses, data and credentials in a folder.
//
// It promises that both can be stopped and started in any order without losing what was stored. It runs no controllers,
// no scheduler and no kubelet, and its only user is an administrator with a token.
package cluster

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/trousseau-io/trousseau/internal/testserver"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// Config says what is special about a cluster.
type Config struct {
	Dir              string // exists; holds everything that the cluster keeps
	Bin              string // folder of the etcd and kube-apiserver programs
	EncryptionConfig string // path of an EncryptionConfiguration; empty stores everything as plaintext
	FeatureGates     string // "KMSv1=true"
}

// Cluster is a control plane that is described and ready to start.
type Cluster struct {
	config        Config
	etcdAddress   string // host:port, as are the others
	peerAddress   string
	serverAddress string
	certificates  string // folder of the API server's
	token         string
}

// New chooses ports and writes the credentials that the API server needs into the folder.
func New(config Config) (*Cluster, error) {
	c := &Cluster{config: config, certificates: "apiserver", token: rand.Text()}
	for _, address := range []*string{&c.etcdAddress, &c.peerAddress, &c.serverAddress} {
		port, err := testserver.FreePort()
		if err != nil {
			return nil, err
		}
		*address = fmt.Sprintf("127.0.0.1:%d", port)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generating the service account key: %w", err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encoding the service account key: %w", err)
	}
	pemKey := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
	if err := os.WriteFile(c.path("service-account.pem"), pemKey, 0o600); err != nil {
		return nil, err
	}
	user := fmt.Sprintf("%s,admin,admin,\"system:masters\"\n", c.token)
	if err := os.WriteFile(c.path("tokens.csv"), []byte(user), 0o600); err != nil {
		return nil, err
	}
	return c, nil
}

// Joined describes another API server on the same etcd, for the same users, with an EncryptionConfiguration of its own.
func (c *Cluster) Joined(encryptionConfig string) (*Cluster, error) {
	port, err := testserver.FreePort()
	if err != nil {
		return nil, err
	}
	joined := *c
	joined.config.EncryptionConfig = encryptionConfig
	joined.serverAddress = fmt.Sprintf("127.0.0.1:%d", port)
	joined.certificates = fmt.Sprintf("apiserver-%d", port)
	return &joined, nil
}

func (c *Cluster) path(name string) string { return filepath.Join(c.config.Dir, name) }

// Etcd is the command that runs etcd.
func (c *Cluster) Etcd() testserver.Command {
	client, peer := "http://"+c.etcdAddress, "http://"+c.peerAddress
	return testserver.Command{
		Name: "etcd",
		Path: filepath.Join(c.config.Bin, "etcd"),
		Args: []string{
			"--data-dir=" + c.path("etcd"),
			"--listen-client-urls=" + client,
			"--advertise-client-urls=" + client,
			"--listen-peer-urls=" + peer,
			"--initial-advertise-peer-urls=" + peer,
			"--initial-cluster=default=" + peer,
			"--log-level=warn",
		},
		Ready: func(ctx context.Context) error { return ask(ctx, http.DefaultClient, client+"/health") },
	}
}

// APIServer is the command that runs kube-apiserver. It needs etcd, and is ready when everything that it encrypts with
// is: /readyz asks its KMS plugins.
func (c *Cluster) APIServer() testserver.Command {
	host, port, _ := strings.Cut(c.serverAddress, ":")
	args := []string{
		"--etcd-servers=http://" + c.etcdAddress,
		"--bind-address=" + host,
		"--advertise-address=" + host,
		"--secure-port=" + port,
		"--cert-dir=" + c.path(c.certificates),
		"--endpoint-reconciler-type=none", // endpoints may not be on loopback
		"--service-cluster-ip-range=10.96.0.0/16",
		"--service-account-issuer=https://lab.trousseau.io",
		"--service-account-key-file=" + c.path("service-account.pem"),
		"--service-account-signing-key-file=" + c.path("service-account.pem"),
		"--token-auth-file=" + c.path("tokens.csv"),
		"--authorization-mode=RBAC",
		"--disable-admission-plugins=ServiceAccount", // nothing here makes the default accounts
	}
	if c.config.EncryptionConfig != "" {
		args = append(args, "--encryption-provider-config="+c.config.EncryptionConfig)
	}
	if c.config.FeatureGates != "" {
		args = append(args, "--feature-gates="+c.config.FeatureGates)
	}
	return testserver.Command{
		Name:  "kube-apiserver",
		Path:  filepath.Join(c.config.Bin, "kube-apiserver"),
		Args:  args,
		Ready: c.Ready,
	}
}

// Ready asks the API server's /readyz, and for the default namespace, which the server makes only after it says that
// it is ready. It returns what is wrong.
func (c *Cluster) Ready(ctx context.Context) error {
	return c.ask(ctx, "/readyz", "/api/v1/namespaces/default")
}

// Alive asks the API server's /livez, which does not look at its KMS plugins, and returns what is wrong.
func (c *Cluster) Alive(ctx context.Context) error { return c.ask(ctx, "/livez") }

func (c *Cluster) ask(ctx context.Context, paths ...string) error {
	config, err := c.RESTConfig()
	if err != nil {
		return err
	}
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	for _, path := range paths {
		if err := ask(ctx, client, config.Host+path); err != nil {
			return err
		}
	}
	return nil
}

// RESTConfig is what client-go needs to reach the API server as its administrator, without client-side rate limits.
// It is not available before the API server has been started for the first time and made its certificate.
func (c *Cluster) RESTConfig() (*rest.Config, error) {
	ca, err := os.ReadFile(c.path(c.certificates + "/apiserver.crt"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errors.New("the API server has no certificate yet")
	}
	if err != nil {
		return nil, err
	}
	return &rest.Config{
		Host:            "https://" + c.serverAddress,
		BearerToken:     c.token,
		TLSClientConfig: rest.TLSClientConfig{CAData: ca},
		QPS:             -1,
		Timeout:         30 * time.Second,
	}, nil
}

// WriteKubeconfig writes a kubeconfig of the administrator, which holds everything it needs.
func (c *Cluster) WriteKubeconfig(path string) error {
	config, err := c.RESTConfig()
	if err != nil {
		return err
	}
	kubeconfig := clientcmdapi.NewConfig()
	kubeconfig.Clusters["lab"] = &clientcmdapi.Cluster{Server: config.Host, CertificateAuthorityData: config.CAData}
	kubeconfig.AuthInfos["admin"] = &clientcmdapi.AuthInfo{Token: config.BearerToken}
	kubeconfig.Contexts["lab"] = &clientcmdapi.Context{Cluster: "lab", AuthInfo: "admin"}
	kubeconfig.CurrentContext = "lab"
	return clientcmd.WriteToFile(*kubeconfig, path)
}

// EtcdEndpoint is the URL of etcd.
func (c *Cluster) EtcdEndpoint() string { return "http://" + c.etcdAddress }

func ask(ctx context.Context, client *http.Client, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusOK {
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, 4096))
	if err != nil {
		return err
	}
	return fmt.Errorf("%s answers %s: %s", url, response.Status, body)
}
