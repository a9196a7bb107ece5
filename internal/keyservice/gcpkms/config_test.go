package gcpkms_test

import (
	"strings"
	"testing"

	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/gcpkms"
	"github.com/trousseau-io/trousseau/internal/keyservice/keyservicetest"
	"github.com/trousseau-io/trousseau/internal/strictyaml"
)

const minimal = "key: projects/p-1/locations/europe-west3/keyRings/Clusters_1/cryptoKeys/k8s\n"

func TestConfigDecodes(t *testing.T) {
	t.Parallel()
	var c gcpkms.Config
	if err := strictyaml.Decode("test.yaml", []byte(minimal), &c); err != nil {
		t.Fatal(err)
	}
	if c.Endpoint != "https://cloudkms.googleapis.com" || c.ID() != "gcpkms:p-1/europe-west3/Clusters_1/k8s" {
		t.Errorf("decoded %+v with the id %q", c, c.ID())
	}
	for _, more := range []string{
		"endpoint: https://cloudkms.europe-west3.rep.googleapis.com",
		"endpoint: https://kms.example.com:8443/",
		"endpoint: http://127.0.0.1:8080",
		"endpoint: 'http://[::1]:8080'",
		"credentialsFile: /etc/trousseau/gcp.json",
		"credentialsFile: systemd:gcp",
		"quotaProject: billing-1",
	} {
		if err := strictyaml.Decode("test.yaml", []byte(minimal+more), &c); err != nil {
			t.Errorf("%s: %v", more, err)
		}
	}
	if err := strictyaml.Decode("test.yaml", []byte(strings.Replace(minimal, "p-1", "example.com:p-1", 1)), &c); err != nil {
		t.Errorf("project of a domain: %v", err)
	}
}

// TestConfigRefuses adds a line to a good document, or replaces the only one. The error names the field.
func TestConfigRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ document, field, says string }{
		{"endpoint: https://x", "key", ""},
		{"key: k8s", "key", "no resource name"},
		{"key: projects/p/locations/l/keyRings/r/cryptoKeys/", "key", "no resource name"},
		{"key: projects/p/locations/l/keyRings/../cryptoKeys/k", "key", "no resource name"},
		{"key: projects/p/locations/l/keyRings/r/cryptoKeys/k?x", "key", "no resource name"},
		{"key: /projects/p/locations/l/keyRings/r/cryptoKeys/k", "key", "no resource name"},
		{`key: "projects/p/locations/l/keyRings/r/cryptoKeys/k\n"`, "key", "no resource name"},
		{strings.TrimSpace(minimal) + "/cryptoKeyVersions/3", "key", "names a version"},
		{minimal + "endpoint: cloudkms.googleapis.com", "endpoint", "no URL"},
		{minimal + "endpoint: http://cloudkms.googleapis.com", "endpoint", "in clear"},
		{minimal + "endpoint: http://localhost:1", "endpoint", "in clear"},
		{minimal + "endpoint: http://127.0.0.1", "endpoint", "in clear"},
		{minimal + "endpoint: grpc://x", "endpoint", "scheme"},
		{minimal + "endpoint: https://user@x", "endpoint", "more than a host"},
		{minimal + "endpoint: https://x/v1", "endpoint", "more than a host"},
		{minimal + "endpoint: 'https://x?y'", "endpoint", "more than a host"},
		{minimal + "credentialsFile: gcp.json", "credentialsFile", "not absolute"},
		{minimal + "quotaProject: 'a b'", "quotaProject", "no id"},
		{minimal + "credentials: ya29.pasted", "credentials", ""},
	} {
		var config gcpkms.Config
		err := strictyaml.Decode("test.yaml", []byte(c.document), &config)
		keyservicetest.CheckProblem(t, c.document, err, c.field, c.says, "ya29.pasted")
	}
}

func TestOpenRefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	_, err := gcpkms.Open(t.Context(), gcpkms.Config{Endpoint: "https://x"}, quiet)
	wantKind(t, err, keyservice.Invalid, "no resource name")
}
