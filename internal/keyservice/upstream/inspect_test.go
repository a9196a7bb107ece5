package upstream_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"k8s.io/kms/pkg/service"

	"github.com/trousseau-io/trousseau/internal/finding"
	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/keyservicetest"
	"github.com/trousseau-io/trousseau/internal/keyservice/upstream/upstreamtest"
)

func TestInspectFindsNothingWrongWithAGoodPlugin(t *testing.T) {
	plugin := upstreamtest.Start(t)
	if err := os.Chmod(plugin.Socket, 0o600); err != nil {
		t.Fatal(err)
	}
	found := keyservicetest.Inspect(t, open(t, plugin.Socket, quiet))
	if len(found) != 1 || found[0].Rule != "upstream-status" || !strings.Contains(found[0].What, "v2 and announces the key id \"test key") {
		t.Errorf("found %+v", found)
	}
}

func TestInspect(t *testing.T) {
	keyID := func(id string) upstreamtest.Behaviour {
		return upstreamtest.Behaviour{
			Status: func(s *service.StatusResponse) { s.KeyID = id },
			Answer: func(e *service.EncryptResponse) { e.KeyID = id },
		}
	}
	for name, c := range map[string]struct {
		prepare  func(plugin *upstreamtest.Plugin)
		rule     string
		severity finding.Severity
	}{
		"stopped": {func(p *upstreamtest.Plugin) { p.Stop() }, "upstream-status-fails", finding.Error},
		"not well": {func(p *upstreamtest.Plugin) {
			p.Behave(upstreamtest.Behaviour{Status: func(s *service.StatusResponse) { s.Healthz = "" }})
		}, "upstream-status-fails", finding.Error},
		"disabled": {func(p *upstreamtest.Plugin) { p.Disable() }, "upstream-wrap-fails", finding.Error},
		"no answer": {func(p *upstreamtest.Plugin) {
			p.Behave(upstreamtest.Behaviour{Answer: func(e *service.EncryptResponse) { e.Ciphertext = nil }})
		}, "upstream-wrap-fails", finding.Error},
		"wrong secret": {func(p *upstreamtest.Plugin) {
			p.Behave(upstreamtest.Behaviour{Secret: func(b []byte) []byte { return b[:31] }})
		}, "upstream-unwrap-fails", finding.Error},
		"announces another id": {func(p *upstreamtest.Plugin) {
			p.Behave(upstreamtest.Behaviour{Status: func(s *service.StatusResponse) { s.KeyID = "other" }})
		}, "upstream-key-id-differs", finding.Warning},
		"encrypts under an unknown id": {func(p *upstreamtest.Plugin) {
			p.Behave(upstreamtest.Behaviour{Answer: func(e *service.EncryptResponse) { e.KeyID = "gone" }})
		},
			"upstream-unwrap-fails", finding.Error},
		"ARN":       {func(p *upstreamtest.Plugin) { p.Behave(keyID("arn:aws:kms:eu-west-1:111122223333:key/k")) }, "upstream-key-id-constant", finding.Info},
		"number":    {func(p *upstreamtest.Plugin) { p.Behave(keyID("1")) }, "upstream-key-id-constant", finding.Info},
		"Trousseau": {func(p *upstreamtest.Plugin) { p.Behave(keyID("t1.SXg0V3CWTzXqYmVVOiFA54vcZMA")) }, "upstream-is-trousseau", finding.Info},
		"careless":  {func(p *upstreamtest.Plugin) { p.Behave(upstreamtest.Behaviour{Careless: true}) }, "upstream-unauthenticated", finding.Warning},
		"open to everybody": {func(p *upstreamtest.Plugin) {
			if err := os.Chmod(p.Socket, 0o666); err != nil {
				t.Fatal(err)
			}
		}, "upstream-socket-open", finding.Warning},
		"directory open to everybody": {func(p *upstreamtest.Plugin) {
			if err := os.Chmod(filepath.Dir(p.Socket), 0o777); err != nil {
				t.Fatal(err)
			}
		}, "upstream-directory-writable", finding.Warning},
	} {
		t.Run(name, func(t *testing.T) {
			plugin := upstreamtest.Start(t)
			c.prepare(plugin)
			found := keyservicetest.Inspect(t, open(t, plugin.Socket, quiet))
			i := slices.IndexFunc(found, func(f finding.Finding) bool { return f.Rule == c.rule })
			if i < 0 || found[i].Severity != c.severity || found[i].Where != plugin.Socket {
				t.Errorf("found %+v, want %s as %s", found, c.rule, c.severity)
			}
		})
	}
}

func TestInspectOfAClosedKey(t *testing.T) {
	key := open(t, upstreamtest.Start(t).Socket, quiet)
	key.Close()
	_, err := key.Inspect(t.Context())
	if _, ok := errors.AsType[*keyservice.Error](err); !ok || keyservice.KindOf(err) != keyservice.Unavailable {
		t.Errorf("closed: %v", err)
	}
}
