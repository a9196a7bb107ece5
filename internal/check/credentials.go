package check

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/trousseau-io/trousseau/internal/credential"
	"github.com/trousseau-io/trousseau/internal/finding"
)

// credentials reads each file with a secret that the configuration names.
func (r *report) credentials() {
	for i, k := range r.config.Keys {
		walk(reflect.ValueOf(k.Service), func(field string, file credential.File) {
			r.credential(fmt.Sprintf("keys[%d].%s", i, field), file)
		})
	}
}

func (r *report) credential(field string, file credential.File) {
	secret, err := file.Read()
	if err == nil {
		secret.Wipe()
		r.add("credential", finding.OK, string(file), field+" can be read, and not by strangers", "")
		return
	}
	if strings.HasPrefix(string(file), "systemd:") {
		r.add("credential-systemd", finding.Warning, string(file), field+" is passed by systemd to the daemon's unit alone",
			"run this check with the same credential: systemd-run --pipe --property=LoadCredential=... trousseau check")
		return
	}
	r.add("credential", finding.Error, string(file), fmt.Sprintf("%s: %v", field, err),
		"give the file to the daemon's user with mode 0600; if others could read it, replace the secret")
}

// walk calls visit for each credential file in v, with the path of its field as the configuration has it.
func walk(v reflect.Value, visit func(field string, file credential.File)) {
	walkFrom("", v, visit)
}

func walkFrom(path string, v reflect.Value, visit func(field string, file credential.File)) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			walkFrom(path, v.Elem(), visit)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("yaml"), ",")
			if path != "" {
				name = path + "." + name
			}
			walkFrom(name, v.Field(i), visit)
		}
	case reflect.String:
		if file, ok := v.Interface().(credential.File); ok && file != "" {
			visit(path, file)
		}
	}
}
