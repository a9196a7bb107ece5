package coldstart_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trousseau-io/trousseau/internal/coldstart"
	"github.com/trousseau-io/trousseau/internal/keyservice"
	"github.com/trousseau-io/trousseau/internal/keyservice/keyservicetest"
	"github.com/trousseau-io/trousseau/internal/seedstore"
)

const life = time.Hour

var root = []byte("a root that is worth as much as what it will seal")

// config is of a folder and a key of the test's own.
func config(t *testing.T) coldstart.Config {
	t.Helper()
	return coldstart.Config{Dir: t.TempDir(), Key: keyservicetest.NewFake(time.Now()), Cluster: "prod", Life: life, Seeds: 10}
}

func open(t *testing.T, c coldstart.Config) *coldstart.Store {
	t.Helper()
	s, err := coldstart.Open(t.Context(), c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func keepSpare(t *testing.T, s *coldstart.Store) {
	t.Helper()
	if err := s.KeepSpare(t.Context(), "t1.id", bytes.Clone(root)); err != nil {
		t.Fatal(err)
	}
}

// exists reports whether the folder has the file.
func exists(c coldstart.Config, name string) bool {
	_, err := os.Lstat(filepath.Join(c.Dir, name))
	return err == nil
}

func TestASpareIsTakenOnce(t *testing.T) {
	c := config(t)
	s := open(t, c)
	if id, _ := s.Spare(); id != "" {
		t.Errorf("a spare of %q before any was kept", id)
	}
	keepSpare(t, s)
	s = open(t, c) // as after a restart
	if id, until := s.Spare(); id != "t1.id" || time.Until(until) > life {
		t.Errorf("the spare is of %q, until %s", id, until)
	}
	got, err := s.TakeSpare(t.Context())
	if err != nil || !bytes.Equal(got, root) {
		t.Fatalf("took %q, %v", got, err)
	}
	if exists(c, coldstart.SpareName) {
		t.Error("it is still on the disk")
	}
	if _, err := s.TakeSpare(t.Context()); !errors.Is(err, coldstart.ErrNone) {
		t.Errorf("taken twice: %v", err)
	}
}

func TestASpareEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := config(t)
		s := open(t, c)
		keepSpare(t, s)
		time.Sleep(life)
		if id, _ := s.Spare(); id != "" {
			t.Error("there is a spare after its end")
		}
		if _, err := s.TakeSpare(t.Context()); !errors.Is(err, coldstart.ErrNone) {
			t.Errorf("took it after its end: %v", err)
		}
		if err := s.Flush(t.Context()); err != nil || exists(c, coldstart.SpareName) {
			t.Errorf("it is still on the disk: %v", err)
		}
	})
}

// TestASpareIsItsOwn changes the file, the cluster and the key.
func TestASpareIsItsOwn(t *testing.T) {
	c := config(t)
	keepSpare(t, open(t, c))
	path := filepath.Join(c.Dir, coldstart.SpareName)
	kept, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(kept, root[:8]) {
		t.Error("the root is on the disk in clear")
	}
	for i := range kept {
		changed := bytes.Clone(kept)
		changed[i] ^= 1
		if err := os.WriteFile(path, changed, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := open(t, c).TakeSpare(t.Context()); err == nil {
			t.Fatalf("took %q with byte %d changed", got, i)
		}
	}
	if err := os.WriteFile(path, kept, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, change := range []func(*coldstart.Config){
		func(c *coldstart.Config) { c.Cluster = "staging" },
		func(c *coldstart.Config) { c.Key = keyservicetest.NewFake(time.Now()) },
	} {
		other := c
		change(&other)
		if got, err := open(t, other).TakeSpare(t.Context()); err == nil {
			t.Errorf("took %q with another cluster or key", got)
		}
	}
	if _, err := open(t, c).TakeSpare(t.Context()); err != nil {
		t.Errorf("what was refused is gone: %v", err)
	}
}

func TestAKeyThatIsAwayKeepsNothing(t *testing.T) {
	c := config(t)
	s := open(t, c)
	c.Key.(*keyservicetest.Fake).Fail(keyservice.Unavailable)
	spare := bytes.Clone(root)
	if err := s.KeepSpare(t.Context(), "t1.id", spare); err == nil {
		t.Error("no error")
	}
	if exists(c, coldstart.SpareName) || !bytes.Equal(spare, make([]byte, len(root))) {
		t.Error("something is left")
	}
}

func TestSeedsOutliveARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := config(t)
		s := open(t, c)
		seed := bytes.Repeat([]byte{7}, 32)
		s.KeepSeed(seedstore.ID{1}, seed)
		flush(t, s)
		content, err := os.ReadFile(filepath.Join(c.Dir, coldstart.SeedsName))
		if err != nil || bytes.Contains(content, seed[:8]) {
			t.Fatalf("%v, or the seed is on the disk in clear", err)
		}
		time.Sleep(life / 2)
		s = open(t, c)
		if !bytes.Equal(s.Seed(seedstore.ID{1}), seed) || s.Seed(seedstore.ID{2}) != nil {
			t.Error("not what was kept")
		}
		time.Sleep(life / 2)
		if s.Seed(seedstore.ID{1}) != nil || open(t, c).Seed(seedstore.ID{1}) != nil {
			t.Error("a restart has made it live longer")
		}
		flush(t, s)
		if exists(c, coldstart.SeedsName) {
			t.Error("nothing is kept, and it is on the disk")
		}
	})
}

func flush(t *testing.T, s *coldstart.Store) {
	t.Helper()
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestAReloadInheritsSeeds(t *testing.T) {
	c := config(t)
	old := open(t, c)
	old.KeepSeed(seedstore.ID{1}, []byte("seed"))
	s := open(t, c)
	s.Inherit(old)
	if string(s.Seed(seedstore.ID{1})) != "seed" {
		t.Error("not inherited")
	}
	c.Seeds = 0
	none := open(t, c)
	none.Inherit(old)
	none.KeepSeed(seedstore.ID{2}, []byte("seed"))
	flush(t, none)
	if none.Seed(seedstore.ID{1}) != nil || none.Seed(seedstore.ID{2}) != nil || exists(c, coldstart.SeedsName) {
		t.Error("keeps seeds that were not asked for")
	}
}

func TestDamagedSeedsAreToldAndRemoved(t *testing.T) {
	c := config(t)
	path := filepath.Join(c.Dir, coldstart.SeedsName)
	if err := os.WriteFile(path, []byte("trc1 and then nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	s, err := coldstart.Open(context.Background(), c, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if exists(c, coldstart.SeedsName) || !strings.Contains(log.String(), "cannot be used") {
		t.Errorf("it is still there, or was not told: %s", log.String())
	}
}

func TestForget(t *testing.T) {
	c := config(t)
	s := open(t, c)
	keepSpare(t, s)
	s.KeepSeed(seedstore.ID{1}, []byte("seed"))
	flush(t, s)
	for range 2 {
		if err := s.Forget(); err != nil {
			t.Fatal(err)
		}
	}
	if s.Seed(seedstore.ID{1}) != nil || exists(c, coldstart.SpareName) || exists(c, coldstart.SeedsName) {
		t.Error("something is left")
	}
}
