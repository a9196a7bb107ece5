// The vault-lab command is a HashiCorp Vault server for tests and for the lab: the real server, its transit engine and
// its authentication methods, without the parts of the vault command that need cloud providers and databases.
//
// It promises a Vault that is initialised, unsealed and at once usable, and that keeps its data in a directory across
// restarts. It does not promise safety: the root token and the unseal key lie beside the data.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// ready is the line on standard output that says that the server serves, and what is needed to use it.
type ready struct {
	Address   string `json:"address"`
	RootToken string `json:"root_token"`
	UnsealKey string `json:"unseal_key"`
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("vault-lab: ")
	listen := flag.String("listen", "127.0.0.1:8200", "address to serve on; port 0 takes a free one")
	storage := flag.String("storage", "", "directory that holds Vault's data and its init.json")
	cert := flag.String("tls-cert", "", "PEM file of the server certificate; without it Vault serves plain HTTP")
	key := flag.String("tls-key", "", "PEM file of the server's private key")
	clientCA := flag.String("tls-client-ca", "", "PEM file of the CA whose client certificates are asked for and verified")
	flag.Parse()
	if *storage == "" || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	tlsConfig, err := tlsConfig(*cert, *key, *clientCA)
	if err != nil {
		log.Fatal(err)
	}
	if err := run(ctx, *listen, *storage, tlsConfig); err != nil {
		log.Fatal(err)
	}
}

// run serves until ctx ends. A nil TLS configuration means plain HTTP.
func run(ctx context.Context, listen, storage string, tlsConfig *tls.Config) error {
	core, keys, err := openCore(ctx, storage)
	if err != nil {
		return err
	}
	defer core.ShutdownWait()

	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	address := "http://" + listener.Addr().String()
	if tlsConfig != nil {
		address = "https://" + listener.Addr().String()
		listener = tls.NewListener(listener, tlsConfig)
	}

	server := &http.Server{Handler: handler(core), ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	line := ready{Address: address, RootToken: keys.RootToken, UnsealKey: keys.UnsealKey}
	if err := json.NewEncoder(os.Stdout).Encode(line); err != nil {
		return fmt.Errorf("saying that it serves: %w", err)
	}

	select {
	case err := <-served:
		return fmt.Errorf("serving: %w", err)
	case <-ctx.Done():
	}
	ending, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := server.Shutdown(ending); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("ending the server: %w", err)
	}
	return nil
}

// tlsConfig returns nil if no certificate is given.
func tlsConfig(certFile, keyFile, clientCAFile string) (*tls.Config, error) {
	if certFile == "" {
		if keyFile != "" || clientCAFile != "" {
			return nil, errors.New("-tls-key and -tls-client-ca need -tls-cert")
		}
		return nil, nil
	}
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("reading the server certificate: %w", err)
	}
	config := &tls.Config{Certificates: []tls.Certificate{cert}}
	if clientCAFile == "" {
		// Vault's cert method compares with the CAs of its roles by itself: what it needs is to be shown a certificate.
		config.ClientAuth = tls.RequestClientCert
		return config, nil
	}
	pem, err := os.ReadFile(clientCAFile)
	if err != nil {
		return nil, fmt.Errorf("reading the client CA: %w", err)
	}
	config.ClientCAs = x509.NewCertPool()
	if !config.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("reading the client CA: no certificate in %q", clientCAFile)
	}
	config.ClientAuth = tls.VerifyClientCertIfGiven
	return config, nil
}
