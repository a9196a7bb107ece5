package layers_test

import (
	"slices"
	"strings"
	"testing"
)

// The daemon starts before the API server, holds the keys and runs on every control plane node: what is in it is there to
// be attacked.
var notInTheDaemon = []string{
	"k8s.io/client-go", "k8s.io/apiserver", "k8s.io/apimachinery", "k8s.io/api", "k8s.io/component-base", "go.etcd.io",
	"github.com/spf13", "github.com/invopop", "net/http/pprof",
	module + "internal/report", module + "internal/configdoc", module + "internal/kmsclient", module + "internal/encconfig",
	module + "internal/etcdvalue", module + "internal/check", module + "internal/setup",
}

// What tests are made with must not be reachable in what is installed: a fake key service least of all.
var notInAProgram = []string{
	"testing", "net/http/httptest", "github.com/rogpeppe/go-internal", "github.com/santhosh-tekuri/jsonschema",
	module + "internal/testserver", module + "internal/keyservice/keyservicetest", module + "internal/secretmem/secretmemtest",
	module + "internal/keyservice/awskms/awskmstest", module + "internal/keyservice/azurekv/azurekvtest",
	module + "internal/keyservice/gcpkms/gcpkmstest", module + "internal/keyservice/pkcs11/pkcs11test",
	module + "internal/keyservice/kmip/kmiptest", module + "internal/keyservice/tpm/tpmtest",
	module + "internal/keyservice/upstream/upstreamtest",
}

func TestWhatProgramsLink(t *testing.T) {
	packages := ours(t)
	tests := map[string][]string{
		"cmd/trousseaud": slices.Concat(notInTheDaemon, notInAProgram),
		"cmd/trousseau":  notInAProgram,
	}
	for program, forbidden := range tests {
		p, there := packages[program]
		if !there {
			t.Errorf("there is no program %s", program)
		}
		for _, prefix := range forbidden {
			first := slices.IndexFunc(p.Deps, func(linked string) bool {
				return linked == prefix || strings.HasPrefix(linked, prefix+"/")
			})
			if first >= 0 {
				t.Errorf("%s links %s: cut the import that leads there; \"go mod why\" finds the way", program, p.Deps[first])
			}
		}
	}
}
