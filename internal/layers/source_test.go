package layers_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// tables are the package-level variables of map or slice type: fixed tables that nothing writes. There is no other global
// state that could be written, so that two daemons in one process, or two tests, cannot disturb one another.
var tables = []string{
	"daemon.seconds",
	"keyservice/awskms.rules",
	"keyservice/awskms.states",
	"keyservice/awskms/awskmstest.magic",
	"keyservice/azurekv.loginRules",
	"keyservice/azurekv.rules",
	"keyservice/azurekv.unwrapRules",
	"keyservice/keyservicetest.suiteAAD",
	"keyservice/kmip.attributeNames",
	"keyservice/kmip.certificateAlerts",
	"keyservice/kmip.decryptRules",
	"keyservice/kmip.rules",
	"keyservice/local.kinds",
	"keyservice/pkcs11.causes",
	"keyservice/pkcs11.codes",
	"keyservice/pkcs11.constant",
	"keyservice/tpm.kinds",
	"keyservice/tpm/tpmseal.kinds",
	"keyservice/vault.ciphers",
	"keyservice/vault.loginRules",
	"keyservice/vault.rules",
	"keystore.hints",
	"kms.grpcCodes",
	"kms.probeAAD",
}

// panics are the functions that may panic: on mistakes of a programmer, which no input, file or server can cause.
var panics = []string{
	"configdoc.length",
	"daemon.Limit",
	"keyservice.KindOf",
	"keyservice/azurekv.judge",
	"keyservice/azurekv/azurekvtest.Rotate",
	"keyservice/vault.judge",
	"setup.yaml",
	"strictyaml.Decode",
	"strictyaml.KindOf",
	"strictyaml.bound",
	"strictyaml.field",
	"strictyaml.limit",
	"testserver.Handler", // how net/http has it: http.ErrAbortHandler
	"testserver.StartFront",
	"testserver.late",
}

func TestNoGlobalStateAndNoPanics(t *testing.T) {
	var listed []string
	for _, p := range ours(t) {
		for _, decl := range declarations(t, p.Dir) {
			switch decl := decl.(type) {
			case *ast.FuncDecl:
				name := short(p.ImportPath) + "." + decl.Name.Name
				if decl.Recv == nil && decl.Name.Name == "init" {
					t.Errorf("%s has an init function: make it a call that main, or the composition root, makes", short(p.ImportPath))
				}
				if calls(decl, "panic") {
					listed = append(listed, name)
					if !slices.Contains(panics, name) {
						t.Errorf("%s panics: return an error; only if no input can ever cause it, add it to the list \"panics\"", name)
					}
				}
			case *ast.GenDecl:
				for _, variable := range mapsAndSlices(decl) {
					name := short(p.ImportPath) + "." + variable
					listed = append(listed, name)
					if !slices.Contains(tables, name) {
						t.Errorf("%s is a global map or slice: make it a field, a local variable or an array; only if it is a table "+
							"that nothing writes, add it to the list \"tables\"", name)
					}
				}
			}
		}
	}
	for _, name := range slices.Concat(tables, panics) {
		if !slices.Contains(listed, name) {
			t.Errorf("%s is not what its list says any more: take it out", name)
		}
	}
}

// declarations returns what the Go files of a folder declare, for every platform, but not its tests.
func declarations(t *testing.T, dir string) []ast.Decl {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	var decls []ast.Decl
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		decls = append(decls, parsed.Decls...)
	}
	return decls
}

func calls(fn *ast.FuncDecl, name string) (found bool) {
	ast.Inspect(fn, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok {
			callee, ok := call.Fun.(*ast.Ident)
			found = found || ok && callee.Name == name
		}
		return true
	})
	return found
}

// mapsAndSlices returns the variables of decl that are maps or slices by what is written there: in their type, a literal, a
// conversion or a call to make. An array cannot grow and is passed by value, so it is none.
func mapsAndSlices(decl *ast.GenDecl) (names []string) {
	if decl.Tok != token.VAR {
		return nil
	}
	for _, spec := range decl.Specs {
		spec, ok := spec.(*ast.ValueSpec)
		if !ok {
			continue
		}
		for i, name := range spec.Names {
			mutable := isMapOrSlice(spec.Type)
			if i < len(spec.Values) {
				mutable = mutable || isMapOrSlice(typeOf(spec.Values[i]))
			}
			if mutable {
				names = append(names, name.Name)
			}
		}
	}
	return names
}

func typeOf(value ast.Expr) ast.Expr {
	switch value := value.(type) {
	case *ast.CompositeLit:
		return value.Type
	case *ast.CallExpr:
		if callee, ok := value.Fun.(*ast.Ident); ok && callee.Name == "make" && len(value.Args) > 0 {
			return value.Args[0]
		}
		return value.Fun
	}
	return nil
}

func isMapOrSlice(typ ast.Expr) bool {
	switch typ := typ.(type) {
	case *ast.MapType:
		return true
	case *ast.ArrayType:
		return typ.Len == nil
	}
	return false
}
