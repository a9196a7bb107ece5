package layers_test

import (
	"slices"
	"strings"
	"testing"
)

// allowed holds, for each package, exactly the packages of this module that it imports. Names are within internal/, but for
// the programs. The order is from the ground up: a package imports only what stands above it.
var allowed = []struct {
	name    string
	imports []string
}{
	{"finding", nil},
	{"release", nil},
	{"layers", nil},
	{"credential", nil},
	{"secretmem", nil},
	{"strictyaml", nil},
	{"durable", nil},
	{"seedstore", []string{"secretmem"}},

	// The seam, and what is below it: one folder per key service.
	{"keyservice", []string{"finding"}},
	{"keystore", []string{"credential", "keyservice", "secretmem"}},
	{"keyservice/local", []string{"credential", "finding", "keyservice", "keystore", "secretmem"}},
	{"keyservice/vault", []string{"credential", "finding", "keyservice", "secretmem"}},
	{"keyservice/awskms", []string{"credential", "finding", "keyservice"}},
	{"keyservice/azurekv", []string{"credential", "finding", "keyservice"}},
	{"keyservice/gcpkms", []string{"credential", "finding", "keyservice"}},
	{"keyservice/pkcs11", []string{"credential", "finding", "keyservice"}},
	{"keyservice/kmip", []string{"credential", "finding", "keyservice"}},
	{"keyservice/tpm/tpmseal", []string{"credential", "keyservice", "secretmem"}},
	{"keyservice/tpm", []string{
		"credential", "finding", "keyservice", "keyservice/local", "keyservice/tpm/tpmseal", "keystore", "secretmem",
	}},
	{"keyservice/escrow", []string{"finding", "keyservice"}},
	{"keyservice/upstream", []string{"finding", "keyservice"}},
	{"keyservice/all", []string{
		"keyservice", "keyservice/awskms", "keyservice/azurekv", "keyservice/escrow", "keyservice/gcpkms", "keyservice/kmip",
		"keyservice/local", "keyservice/pkcs11", "keyservice/tpm", "keyservice/upstream", "keyservice/vault",
	}},

	// The way of the data: nothing here knows a key service by its name, nor a configuration.
	{"socket", nil},
	{"admin", []string{"socket"}},
	{"lockdown", []string{"durable"}},
	{"auditlog", []string{"durable", "finding", "secretmem"}},
	{"envelope", []string{"keyservice", "secretmem"}},
	{"coldstart", []string{"durable", "keyservice", "secretmem", "seedstore"}},
	{"kms", []string{"coldstart", "durable", "envelope", "keyservice", "secretmem", "seedstore"}},

	// What both programs read.
	{"config", []string{"keyservice", "keyservice/all", "strictyaml"}},
	{"keyring", []string{"config", "envelope", "keyservice"}},

	// Only the daemon wires the serving path together.
	{"daemon", []string{
		"admin", "auditlog", "coldstart", "config", "envelope", "keyring", "keyservice", "kms", "lockdown", "secretmem", "seedstore", "socket",
		"strictyaml",
	}},
	{"cmd/trousseaud", []string{"daemon", "release"}},

	// The operator's side.
	{"etcdvalue", nil},
	{"kmsclient", nil},
	{"encconfig", []string{"finding"}},
	{"keyid", []string{"envelope", "etcdvalue", "keyring", "keyservice"}},
	{"setup", []string{"config", "credential", "encconfig", "keyservice", "keyservice/all", "keystore", "strictyaml"}},
	{"check", []string{
		"coldstart", "config", "credential", "encconfig", "envelope", "finding", "keyid", "keyring", "keyservice", "kmsclient", "lockdown", "strictyaml",
	}},
	{"nodelock", []string{"admin", "coldstart", "config", "finding", "kmsclient", "lockdown"}},
	{"cmd/trousseau", []string{
		"admin", "auditlog", "check", "config", "credential", "envelope", "finding", "keyid", "keyring", "keyservice", "keyservice/tpm", "keyservice/tpm/tpmseal",
		"keystore", "kmsclient", "nodelock", "release", "secretmem", "setup", "strictyaml",
	}},

	// What writes the documentation, and what tests are made with: in no program.
	{"configdoc", []string{"config", "envelope", "keyservice", "keyservice/all", "strictyaml"}},
	{"configdoc/generate", []string{"configdoc"}},
	{"keyservice/keyservicetest", []string{"finding", "keyservice"}},
	{"secretmem/secretmemtest", nil},
	{"testserver", nil},
	{"keyservice/awskms/awskmstest", []string{"testserver"}},
	{"keyservice/azurekv/azurekvtest", []string{"testserver"}},
	{"keyservice/gcpkms/gcpkmstest", []string{"testserver"}},
	{"keyservice/pkcs11/pkcs11test", []string{"testserver"}},
	{"keyservice/kmip/kmiptest", []string{"testserver"}},
	{"keyservice/tpm/tpmtest", []string{"keyservice/tpm/tpmseal", "testserver"}},
	{"keyservice/upstream/upstreamtest", nil},
}

func TestAllowedImports(t *testing.T) {
	packages := ours(t)
	var above []string
	for _, want := range allowed {
		for _, imported := range want.imports {
			if !slices.Contains(above, imported) {
				t.Errorf("the table lets %s import %s, which does not stand above it: put them in the order of the layers", want.name, imported)
			}
		}
		above = append(above, want.name)
		p, there := packages[path(want.name)]
		if !there {
			t.Errorf("the table has a package %s that does not exist: take it out", want.name)
			continue
		}
		delete(packages, path(want.name))
		for _, imported := range p.Imports {
			if name := short(imported); strings.HasPrefix(imported, module) && !slices.Contains(want.imports, name) {
				t.Errorf("%s imports %s, which its layer may not. Can the caller pass in what it needs? If the arrow is right, "+
					"add it to the table \"allowed\", and to DESIGN's picture if it is a new way of the data", want.name, name)
			}
		}
		for _, name := range want.imports {
			if !slices.Contains(p.Imports, module+path(name)) {
				t.Errorf("%s does not import %s any more: take it out of the table \"allowed\"", want.name, name)
			}
		}
	}
	for name := range packages {
		t.Errorf("package %s is in no layer: add it to the table \"allowed\", after what it imports", name)
	}
}

// owners holds, for each outside library, the only packages that import it. Everything else is spoken to in our own words,
// so that a library can be replaced, and its types do not spread. "*" lets any package.
var owners = []struct {
	library string
	by      []string
}{
	{"golang.org/x/", []string{"*"}}, // the standard library's annex

	{"github.com/openbao/openbao/api/v2", []string{"keyservice/vault", "testserver"}},
	{"github.com/aws/", []string{"keyservice/awskms"}},
	{"github.com/Azure/azure-sdk-for-go/sdk", []string{"keyservice/azurekv"}},
	{"cloud.google.com/go", []string{"keyservice/gcpkms", "keyservice/gcpkms/gcpkmstest"}},
	{"github.com/googleapis/gax-go/v2", []string{"keyservice/gcpkms"}},
	{"google.golang.org/api", []string{"keyservice/gcpkms"}},
	{"google.golang.org/genproto", []string{"keyservice/gcpkms", "keyservice/gcpkms/gcpkmstest"}},
	{"github.com/miekg/pkcs11", []string{"keyservice/pkcs11"}},
	{"github.com/ovh/kmip-go", []string{"keyservice/kmip", "keyservice/kmip/kmiptest"}},
	{"github.com/google/go-tpm", []string{"keyservice/tpm/tpmseal", "keyservice/tpm/tpmtest"}},
	{"filippo.io/age", []string{"keyservice/escrow", "keyservice/tpm"}},
	{"github.com/prometheus/client_golang", []string{"daemon"}},
	{"github.com/invopop/jsonschema", []string{"configdoc"}},
	{"github.com/spf13/cobra", []string{"cmd/trousseau"}},
	{"github.com/go-logr/logr", []string{"cmd/trousseau"}}, // to quieten klog
	{"k8s.io/klog/v2", []string{"cmd/trousseau"}},
	{"go.yaml.in/yaml/v3", []string{"strictyaml", "setup"}}, // setup quotes what it writes

	{"google.golang.org/grpc", []string{
		"kms", "daemon", "kmsclient", "keyservice/upstream", "keyservice/upstream/upstreamtest", "keyservice/gcpkms", "keyservice/gcpkms/gcpkmstest",
	}},
	{"google.golang.org/protobuf", []string{"daemon", "etcdvalue", "keyservice/gcpkms", "keyservice/gcpkms/gcpkmstest"}},
	{"k8s.io/kms", []string{"kms", "daemon", "kmsclient", "keyservice/upstream", "keyservice/upstream/upstreamtest"}},
	{"k8s.io/apiserver", []string{"kmsclient", "encconfig", "check", "etcdvalue"}},
	{"k8s.io/apimachinery", []string{"kmsclient", "encconfig"}},
}

func TestOneOwnerPerLibrary(t *testing.T) {
	packages := all(t)
	for name, p := range ours(t) {
		for _, imported := range p.Imports {
			if packages[imported].Standard || imported == "C" || strings.HasPrefix(imported, module) {
				continue
			}
			by, known := ownersOf(imported)
			switch {
			case !known:
				t.Errorf("%s imports %s, which nobody owns. Is it the field's own well-kept library? Then add it to the table "+
					"\"owners\", and say in the commit why", name, imported)
			case by[0] != "*" && !slices.Contains(by, short(p.ImportPath)):
				t.Errorf("%s imports %s, which belongs to %s: ask that package for what you need", name, imported, strings.Join(by, ", "))
			}
		}
	}
}

func ownersOf(imported string) (by []string, known bool) {
	for _, o := range owners {
		library := strings.TrimSuffix(o.library, "/")
		if imported == library || strings.HasPrefix(imported, library+"/") {
			return o.by, true
		}
	}
	return nil, false
}

// path and short turn a name of the tables into a path within the module, and an import path into a name of the tables.
func path(name string) string {
	if strings.HasPrefix(name, "cmd/") {
		return name
	}
	return "internal/" + name
}

func short(importPath string) string {
	return strings.TrimPrefix(strings.TrimPrefix(importPath, module), "internal/")
}
